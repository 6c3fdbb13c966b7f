"""The phone page: a person picks an Official Account and talks to it."""
