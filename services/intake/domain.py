"""Pure rules of intake that hold for every channel: no I/O, no clock, no await."""

import ipaddress
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from services.intake.errors import AttachmentAddressRefused, AttachmentUrlRefused
from shared.events import MAX_TEXT_CHARACTERS, AttachmentKind, CitizenMessageReceived, Event
from shared.ids import deterministic_id
from shared.topics import Topic


class Disposition(StrEnum):
    """What a webhook is to us. Every event of a channel's catalogue has exactly one."""

    MESSAGE = "message"
    RECEIPT = "receipt"
    ECHO = "echo"
    FOLLOWER_CHANGE = "follower_change"
    PROFILE_CHANGE = "profile_change"
    CALL = "call"
    FEEDBACK = "feedback"
    TAG = "tag"
    TEMPLATE_STATUS = "template_status"
    WITHDRAWAL = "withdrawal"
    IGNORED = "ignored"
    UNKNOWN = "unknown"
    """Signed, but not understood: kept with a reason."""
    REFUSED = "refused"
    """Not from the channel, or not a webhook at all: answered with an error and only counted."""


@dataclass(frozen=True)
class Outgoing:
    """An event and the topic it belongs on."""

    topic: Topic
    event: Event


@dataclass(frozen=True)
class Decision:
    """What becomes of one signed webhook.

    Attributes:
        code: the reason code that is answered, counted and logged.
        outgoing: never empty: a webhook that leads to nothing else leads to a record.
        odd_fields: members that were left out because their shape is not the documented one.
    """

    disposition: Disposition
    code: str
    outgoing: tuple[Outgoing, ...]
    event_name: str | None = None
    oa_id: str | None = None
    user_id: str | None = None
    message_id: str | None = None
    odd_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpooledRow:
    """One event in the spool, ready to be published as it is."""

    event_id: str
    order: int
    topic: str
    key: str
    headers: dict[str, str]
    value: bytes


@dataclass(frozen=True)
class SpoolState:
    """What is in the spool.

    Attributes:
        depth: number of events, counted up to a limit.
        oldest_seconds: age of the oldest, 0 for an empty spool.
    """

    depth: int
    oldest_seconds: float


@dataclass(frozen=True)
class NormalText:
    """A text as the rest of the product sees it, and as it came where that differs."""

    text: str
    original: str | None
    was_cut: bool


def _invisible_characters() -> dict[int, str | None]:
    # Cc: controls. Cf: zero-width, bidirectional and tag characters, soft hyphen, byte order mark. Zl, Zp: line breaks.
    table: dict[int, str | None] = {
        code: None for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in {"Cc", "Cf", "Cs"}
    }
    for name in (0x0A, 0x85, 0x2028, 0x2029):
        table[name] = "\n"
    table[0x09] = " "
    return table


_INVISIBLE = _invisible_characters()
_HAS_INVISIBLE = re.compile(f"[{re.escape(''.join(map(chr, sorted(_INVISIBLE))))}]")


def normalise_text(original: str) -> NormalText:
    """Make one form of a text: NFC, without control, zero-width and bidirectional characters, newlines kept.

    What a person cannot see must not change how a text is read, nor hide an instruction in it. The characters go
    first and composition comes after, so that a mark behind a zero-width space still joins its letter.
    """
    text = original
    if not text.isascii() or _HAS_INVISIBLE.search(text):
        visible = text.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)
        text = unicodedata.normalize("NFC", visible)
    was_cut = len(text) > MAX_TEXT_CHARACTERS
    text = text[:MAX_TEXT_CHARACTERS]
    kept_original = original[:MAX_TEXT_CHARACTERS]
    return NormalText(text, None if kept_original == text else kept_original, was_cut)


EARLIEST = datetime(2012, 1, 1, tzinfo=UTC)
"""The channel is no older than this; an earlier time is a fault."""

CLOCK_TOLERANCE = timedelta(minutes=5)


def believable_time(epoch_milliseconds: int | None, received_at: datetime) -> tuple[datetime, bool]:
    """Turn a channel's time into a moment, within reason.

    A message from the year 9999 would keep its consultation window open for ever, so that a time out of reason
    gives way to the time of arrival.

    Returns:
        The moment, and whether it is the channel's own.
    """
    if epoch_milliseconds is None:
        return received_at, False
    latest = received_at + CLOCK_TOLERANCE
    if not EARLIEST.timestamp() * 1000 <= epoch_milliseconds <= latest.timestamp() * 1000:
        return received_at, False
    return datetime.fromtimestamp(epoch_milliseconds / 1000, UTC), True


@dataclass(frozen=True)
class RetryAt:
    """Try again at this moment."""

    at: datetime


@dataclass(frozen=True)
class GiveUp:
    """No further attempt, for this reason code."""

    reason: str


def after_failed_attempt(
    reason: str, *, retryable: bool, attempt: int, ended_at: datetime, retry_waits_seconds: Sequence[float]
) -> RetryAt | GiveUp:
    """Say whether an attachment that could not be fetched is tried once more, and when.

    Args:
        reason: code of the failure.
        retryable: whether the same request may work later.
        attempt: 1 for the first attempt.
        ended_at: when the attempt ended.
        retry_waits_seconds: the wait before each further attempt; its length is their number.
    """
    if retryable and attempt <= len(retry_waits_seconds):
        return RetryAt(ended_at + timedelta(seconds=retry_waits_seconds[attempt - 1]))
    return GiveUp(reason)


SKIPPED_KINDS: Mapping[AttachmentKind, str] = {
    "link": "attachment.link_not_fetched",  # a page of the web, not something the citizen gave us
    "sticker": "attachment.sticker_not_fetched",  # a stock picture
    "business_card": "attachment.card_not_fetched",  # its content is in the description
    "other": "attachment.kind_unknown",
}
"""Kinds that are not fetched, with the reason code. All other kinds are."""


@dataclass(frozen=True)
class AttachmentPlan:
    """One attachment of a message, before anything was fetched.

    Attributes:
        attachment_id: derived from message and position: the same attachment is planned once.
        skip_reason: why it will not be fetched; None if it will.
    """

    attachment_id: str
    index: int
    kind: AttachmentKind
    url: str | None
    name: str | None
    declared_bytes: int | None
    skip_reason: str | None


def plan_attachments(message: CitizenMessageReceived) -> list[AttachmentPlan]:
    """Decide for each attachment of a message whether its bytes are wanted."""
    return [
        AttachmentPlan(
            attachment_id=deterministic_id("attachment", message.event_id, str(attachment.index)),
            index=attachment.index,
            kind=attachment.kind,
            url=attachment.url,
            name=attachment.name,
            declared_bytes=attachment.size_bytes,
            skip_reason=SKIPPED_KINDS.get(attachment.kind) or (None if attachment.url else "attachment.without_url"),
        )
        for attachment in message.attachments
    ]


@dataclass(frozen=True)
class AttachmentJob:
    """One attachment that this worker has claimed for one attempt.

    Attributes:
        attempt: 1 for the first.
        owner: who claimed it; a later claim by another worker ends our right to finish it.
    """

    attachment_id: str
    message_event_id: str
    kind: AttachmentKind
    url: str
    name: str | None
    attempt: int
    owner: str


@dataclass(frozen=True)
class Captured:
    """The bytes of an attachment with what is known of them."""

    content: bytes
    content_type: str
    sha256: str
    captured_at: datetime


KEPT_TYPES: Mapping[str, str] = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jfif": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".heif": "image/heif",
    ".heic": "image/heic",
    ".bmp": "image/bmp",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".3gp": "video/3gpp",
    ".3ga": "video/3gpp",
    ".webm": "video/webm",
    ".amr": "audio/amr",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".wav": "audio/wav",
    ".pdf": "application/pdf",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".rtf": "application/rtf",
}
"""What is kept, by the extension that the content (never the name) speaks for."""

_BASE_MEDIA = re.compile(rb"....ftyp", re.DOTALL)


def kept_type(extensions: Sequence[str], head: bytes) -> str | None:
    """Name the media type of a file, or None if it is none that we keep.

    Args:
        extensions: what the content may be, likeliest first, as a sniffer of magic numbers tells.
        head: the first bytes.
    """
    for extension in extensions:
        if extension in KEPT_TYPES:
            return KEPT_TYPES[extension]
    if extensions:
        return None
    if _BASE_MEDIA.match(head):
        return "video/mp4"  # an ISO base media file of a brand that the sniffer does not know
    return "text/plain" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    if not head.strip() or any(byte < 0x20 and byte not in b"\t\n\r\f" for byte in head):
        return False
    try:
        # A character may be cut in two at the end of the head.
        text = head.decode("utf-8", "strict") if len(head) < SNIFFED_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return not text.lstrip("\ufeff \t\r\n").startswith(("<", "#!"))  # markup and scripts are not notes


SNIFFED_BYTES = 8_192

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carriers' and clouds' own networks
        "169.254.0.0/16",  # link-local: metadata services of clouds
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "::/96",
        "64:ff9b::/96",  # NAT64 and the two below carry an IPv4 address inside
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "fec0::/10",
    )
)
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)


@dataclass(frozen=True)
class AddressPolicy:
    """Where a link of a stranger may lead us.

    Attributes:
        allows_private: loopback and private networks, and http, for a demonstration on one machine. Link-local,
            multicast and reserved addresses are never allowed.
    """

    allows_private: bool

    def check_address(self, address: str) -> None:
        """Judge one address that a name was resolved to.

        Raises:
            AttachmentAddressRefused: not an address of the public internet.
        """
        try:
            ip: _IPAddress = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            raise AttachmentAddressRefused("not an IP address") from None
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if self.allows_private and any(ip in network for network in _PRIVATE if network.version == ip.version):
            return
        inside = any(ip in network for network in _NEVER_PUBLIC if network.version == ip.version)
        if inside or not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
            raise AttachmentAddressRefused("an address inside a network")

    def check_url(self, url: str) -> None:
        """Judge a link before anything is resolved; called again for every redirect.

        Raises:
            AttachmentUrlRefused: not a plain web address.
            AttachmentAddressRefused: its host is an address inside a network.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise AttachmentUrlRefused("not a URL") from None
        if parts.scheme not in (("https", "http") if self.allows_private else ("https",)):
            raise AttachmentUrlRefused("scheme")
        if not host or parts.username is not None or parts.password is not None:
            raise AttachmentUrlRefused("host or credentials")
        if ":" in host or host.replace(".", "").isdigit():
            self.check_address(host)
