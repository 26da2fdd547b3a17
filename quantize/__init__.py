"""How few bits: schemes as a table, and the texts that calibrate them."""
