"""What can go wrong in intake, and whether trying again can help."""

from shared.errors import HubError


class NowhereKept(HubError):
    """Neither Kafka nor MongoDB took a webhook in time; Zalo is told to send it again."""

    code, retryable = "hub.unavailable", True


class NotUnderstood(HubError):
    """A signed webhook that does not make one of our events; it is kept as a record.

    Attributes:
        reason: the reason code it is recorded under.
    """

    code = "event.not_understood"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProducerStuck(HubError):
    """Kafka answers, but our producer publishes nothing any more; the process must start afresh."""

    code, retryable = "producer.stuck", True


class AttachmentError(HubError):
    """An attachment was not captured. `code` is stored on its job."""

    code = "attachment.failed"


class AttachmentAddressRefused(AttachmentError):
    """The link leads to an address inside a network, where a stranger's link must never lead us."""

    code = "attachment.address_refused"


class AttachmentUrlRefused(AttachmentError):
    """The link is not a plain web address: another scheme, credentials in it, or no host."""

    code = "attachment.url_refused"


class AttachmentTooManyRedirects(AttachmentError):
    """The link was sent on too often."""

    code = "attachment.too_many_redirects"


class AttachmentGone(AttachmentError):
    """The link has expired or was never open to us (HTTP 401, 403, 404, 410)."""

    code = "attachment.gone"


class AttachmentAnswerRefused(AttachmentError):
    """The server answered with another error that asking again will not change."""

    code = "attachment.answer_refused"


class AttachmentTooLarge(AttachmentError):
    """More bytes than we keep of one attachment."""

    code = "attachment.too_large"


class AttachmentEmpty(AttachmentError):
    """No bytes at all."""

    code = "attachment.empty"


class AttachmentTypeRefused(AttachmentError):
    """By its content it is none of the kinds of files that we keep."""

    code = "attachment.type_refused"


class AttachmentUnreachable(AttachmentError):
    """The server did not answer, or broke off."""

    code, retryable = "attachment.unreachable", True


class AttachmentServerBusy(AttachmentError):
    """The server has a passing trouble (HTTP 408, 425, 429, 5xx)."""

    code, retryable = "attachment.server_busy", True
