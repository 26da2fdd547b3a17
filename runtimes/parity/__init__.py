"""How close an artifact's vectors are to the reference's, and whether that is close enough."""
