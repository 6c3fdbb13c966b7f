"""The stories: what happens to an event, to a due reply, to a page's tokens."""
