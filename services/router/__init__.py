"""The router: what a message is about, who answers it and how fast; opens and continues cases."""
