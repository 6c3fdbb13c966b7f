"""Training and judging of the model behind the router's `Understanding`. The running router imports nothing of it."""
