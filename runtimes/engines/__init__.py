"""One module an engine: ids in, vectors out."""
