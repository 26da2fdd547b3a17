"""The campaign: hostile files, texts, moments and threads, and what became of each try."""
