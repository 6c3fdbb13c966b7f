"""Fixtures of all suites."""

pytest_plugins = ["tests.servers"]
