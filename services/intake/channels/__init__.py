"""Channels a citizen can write on, one folder each; everything behind this folder is the same for all of them."""
