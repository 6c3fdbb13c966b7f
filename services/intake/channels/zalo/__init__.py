"""Zalo Official Account: signature, event catalogue and the way from a webhook's body to our events."""
