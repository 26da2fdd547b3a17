"""The vocabulary of a checkpoint, cut to the languages that are shipped, with a certificate."""
