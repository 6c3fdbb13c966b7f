"""A stand-in for Zalo Official Accounts, which have no sandbox: the API, the webhooks and a citizen's phone."""
