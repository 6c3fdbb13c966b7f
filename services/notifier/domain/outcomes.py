"""What a call to Zalo can come to. Four types, so that `match` and mypy see every case.

The line that matters runs between what *proves* that Zalo did not take the message (`Refused` with a known code,
`NotSent`) and what proves nothing (`Unknown`): only the former may ever be tried again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

ErrorClass = Literal["retryable", "throttled", "permanent", "token", "quota", "account"]


@dataclass(frozen=True)
class ErrorRule:
    """What we do about one error.

    Attributes:
        error_class: see `data/delivery/zalo_errors.yaml`.
        reason: the stable code stored on the reply.
        schedule: name of the retry schedule; None fails at once.
    """

    error_class: ErrorClass
    reason: str
    schedule: str | None = None


@dataclass(frozen=True)
class Accepted:
    """Zalo took the message.

    Attributes:
        message_id: Zalo's id; None if the answer had none. The echo still brings it.
        quota_type: what paid for it; None is a billed message or an answer that does not say.
    """

    message_id: str | None
    quota_type: str | None = None


@dataclass(frozen=True)
class Refused:
    """Zalo answered with an error that proves it did not take the message.

    Attributes:
        code: Zalo's code, or the HTTP status.
        rule: what we do about it.
        is_page_limit: for a throttled call, whether the page's limit was reached and not the app's.
        retry_after_seconds: what the answer asked for.
    """

    code: int
    rule: ErrorRule
    is_page_limit: bool = False
    retry_after_seconds: float | None = None

    def pause_seconds(self, now: datetime) -> float:
        """How long a throttled page or app makes no call: as the answer asks, else until the next minute."""
        return seconds_to_next_minute(now) if self.retry_after_seconds is None else self.retry_after_seconds


def seconds_to_next_minute(now: datetime) -> float:
    """When Zalo counts calls afresh."""
    return (now.replace(second=0, microsecond=0) + timedelta(minutes=1) - now).total_seconds()


@dataclass(frozen=True)
class NotSent:
    """The request was never written: no connection, no name, no TLS."""

    why: str


@dataclass(frozen=True)
class Unknown:
    """Nothing proves that the message was taken, nor that it was not.

    Attributes:
        reason: stable code.
        why: what happened, for the operator.
    """

    reason: str
    why: str


SendOutcome: TypeAlias = Accepted | Refused | NotSent | Unknown


@dataclass(frozen=True)
class TokensGranted:
    """A new pair; the old access token is dead from now on."""

    access_token: str
    refresh_token: str
    expires_in_seconds: int


@dataclass(frozen=True)
class RefreshRefused:
    """The refresh was refused; the old pair is as it was.

    Attributes:
        is_final: the refresh token itself is worthless: only a person can link the page again.
    """

    code: int
    is_final: bool


RefreshOutcome: TypeAlias = TokensGranted | RefreshRefused | NotSent | Unknown


@dataclass(frozen=True)
class Uploaded:
    """A picture or a file is at Zalo's for seven days.

    Attributes:
        handle: the attachment id of a picture, the token of a file.
    """

    handle: str


@dataclass(frozen=True)
class Got:
    """Zalo did it and answered with a token or an id."""

    value: str


@dataclass(frozen=True)
class Statistics:
    """How often an article was read and passed on."""

    views: int
    shares: int


@dataclass(frozen=True)
class ListedMessage:
    """One message in Zalo's list of a conversation.

    Attributes:
        text: in NFC; empty where it has none.
        is_from_page: written by the page, not by the citizen.
        at: by Zalo's clock.
    """

    message_id: str
    text: str
    is_from_page: bool
    at: datetime


UploadOutcome: TypeAlias = Uploaded | Refused | NotSent | Unknown
