"""A checkpoint becomes an ONNX graph."""
