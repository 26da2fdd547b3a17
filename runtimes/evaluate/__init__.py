"""Retrieval and similarity scores of an artifact beside the reference's."""
