"""One outside system a module: accounts, sessions, cases, decisions, pictures."""
