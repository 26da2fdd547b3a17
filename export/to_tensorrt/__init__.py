"""A checkpoint becomes a typed graph and a TensorRT plan."""
