"""What can go wrong in the notifier, and whether trying again can help."""

from shared.errors import HubError


class TokenUnavailable(HubError):
    """A page has no access token that works now; nothing was sent. The reason says whether a person has to act."""

    code = "token.unavailable"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Rejected(HubError):
    """A request of a person cannot be carried out; nothing was changed.

    Attributes:
        reason: stable code for the caller.
        status: as HTTP says it.
        detail: in words, where the code alone does not tell what to correct.
    """

    code = "request.rejected"

    def __init__(self, reason: str, *, status: int, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.status = status
        self.detail = detail


class LinkFailed(HubError):
    """A page could not be linked by hand; the code says why."""

    code = "link.failed"
    retryable = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
