"""An artifact becomes vectors: the facade, one module per engine, parity, measurement."""
