"""Fixtures of all suites, and how much Hypothesis tries."""

from hypothesis import settings

from tests.properties import TIMES

pytest_plugins = ["tests.servers"]

settings.load_profile("explore" if TIMES else "build")
