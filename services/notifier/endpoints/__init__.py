"""The HTTP edge: the API for people and programs that work with broadcasts."""
