"""The search for the smallest or fastest form that answers a wish."""
