"""The router's rules: pure functions over data; no clock, no input or output, no await."""
