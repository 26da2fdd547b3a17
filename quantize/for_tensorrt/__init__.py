"""Typed weights and ranges for TensorRT."""
