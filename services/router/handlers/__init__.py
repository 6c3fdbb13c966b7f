"""One event a module: load, decide, save, publish, one log line."""
