"""The hub's services; each is a folder with the same rooms."""
