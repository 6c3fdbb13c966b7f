"""Crash points: labelled places between two effects, so that a test can stop a process exactly there."""

import os

_CRASH_AT = os.environ.get("CRASH_AT", "")
KILLED = 137
"""The exit code of a process that got SIGKILL, which a crash point imitates: no clean-up, no flush, no farewell."""


def crash_point(label: str) -> None:
    """Stop the process here if the environment variable `CRASH_AT` names this label; do nothing otherwise."""
    if label == _CRASH_AT:
        os._exit(KILLED)
