"""Clients that people use, each with artifacts as they come: see __main__.py."""
