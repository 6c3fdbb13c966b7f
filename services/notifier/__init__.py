"""The notifier: the only service that talks to Zalo's send API."""
