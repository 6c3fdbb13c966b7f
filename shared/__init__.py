"""Contracts between the services and the thin plumbing that all of them use."""
