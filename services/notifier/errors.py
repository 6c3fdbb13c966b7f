"""What can go wrong in the notifier, and whether trying again can help."""

from shared.errors import HubError


class TokenUnavailable(HubError):
    """A page has no access token that works now; nothing was sent. The reason says whether a person has to act."""

    code = "token.unavailable"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
