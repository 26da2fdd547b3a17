"""Weights and graphs in few bits for ONNX Runtime."""
