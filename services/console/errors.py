"""What can go wrong in the console. `code` is also the key of the text an officer sees."""

from typing import ClassVar

from shared.errors import HubError


class ConsoleError(HubError):
    """Something an officer or a program is told about.

    Attributes:
        status: of the HTTP answer.
    """

    code: ClassVar[str] = "console.error"
    status: ClassVar[int] = 400


class SignInRefused(ConsoleError):
    """Unknown account, wrong password or closed account; which one is not said."""

    code, status = "sign_in.refused", 401


class TooManyAttempts(ConsoleError):
    """Too many sign-ins with this account or from this address; later it works again."""

    code, status = "sign_in.too_many", 429

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class NotSignedIn(ConsoleError):
    """No session, or one that is over."""

    code, status = "access.not_signed_in", 401


class NotAllowed(ConsoleError):
    """The role does not permit it, or the request did not come from our own page."""

    code, status = "access.denied", 403


class CaseNotFound(ConsoleError):
    """No such case in the officer's units; a case of another unit looks exactly the same."""

    code, status = "case.not_found", 404


class PictureNotFound(ConsoleError):
    """No such picture in the officer's units, or it is not fetched yet."""

    code, status = "attachment.not_found", 404


class ActionNotFound(ConsoleError):
    """No such decision of this officer."""

    code, status = "action.not_found", 404


class TooLateToUndo(ConsoleError):
    """The decision is on its way already."""

    code, status = "action.too_late", 409


class ActionRefused(ConsoleError):
    """The decision makes no sense for the case as it is now; `reason` is the key of the text to show."""

    code, status = "action.refused", 422

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PasswordRefused(ConsoleError):
    """The new password is too short, too common, or the old one was wrong; `reason` is the key of the text to show."""

    code, status = "password.refused", 422

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
