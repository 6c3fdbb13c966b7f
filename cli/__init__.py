"""The `hub` command: what an operator or an officer asks and does at a prompt."""
