"""A checkpoint becomes an artifact: one module per format, and the build that runs and verifies them."""
