"""What intake does, one story per module."""
