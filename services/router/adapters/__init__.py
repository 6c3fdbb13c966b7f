"""The router's outside systems: MongoDB and the data files."""
