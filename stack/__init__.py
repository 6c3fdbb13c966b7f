"""The hub on one machine without Docker: real servers and all services under one supervisor.

`make up` is the door for people; `tests/servers.py` starts the same programs for the test suites.
"""
