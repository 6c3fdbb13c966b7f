"""May this reply be sent now? Asked at the moment of sending, since the answer changes while a reply waits."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from services.notifier.domain.reply import MAX_TEXT_CHARACTERS, Contact, Reply
from services.notifier.domain.rules import WindowRule
from shared.events import ReplyContent


@dataclass(frozen=True)
class Allowed:
    """It may; `is_free` says whether Zalo's free window covers it (None where no interaction is known)."""

    is_free: bool | None


@dataclass(frozen=True)
class Denied:
    """It may not, for this reason; no call is made."""

    reason: str


Permission: TypeAlias = Allowed | Denied


def permission(
    reply: Reply, contact: Contact, *, window: WindowRule, now: datetime, pays_beyond_free: bool
) -> Permission:
    """Decide from the content, the citizen's withdrawal and the consultation window.

    The last interaction is the later one of what the contact says and what the request says: the topics are read
    independently, so either may know first. Where neither knows one, Zalo decides: losing an answer because our
    own book is behind would be worse than a refused call.

    A request to erase personal data ends our right to write, until the citizen writes again.

    Args:
        reply: the claimed reply.
        contact: an empty one where the citizen is not known yet.
        window: the rule of today.
        now: by the database's clock.
        pays_beyond_free: whether we may send where the package or our account pays.
    """
    if reason := content_problem(reply.content):
        return Denied(reason)
    interactions = [at for at in (contact.last_interaction_at, reply.interaction_at) if at is not None]
    last = max(interactions, default=None)
    if has_withdrawn(contact.withdrawn_at, last):
        return Denied("contact.withdrawn")
    if last is None:
        return Allowed(is_free=None)
    age = now - last
    if age >= window.allowed:
        return Denied("window.closed")
    if age >= window.free:
        return Allowed(is_free=False) if pays_beyond_free else Denied("window.beyond_free")
    return Allowed(is_free=True)


def has_withdrawn(withdrawn_at: datetime | None, last_interaction_at: datetime | None) -> bool:
    """Whether a person asked for the end of their data and has not come back since."""
    return withdrawn_at is not None and (last_interaction_at is None or withdrawn_at >= last_interaction_at)


def content_problem(content: ReplyContent) -> str | None:
    """Why Zalo would refuse this content for its form, or None."""
    if len(content.text) > MAX_TEXT_CHARACTERS:
        return "content.too_long"
    pictures = content.image_url is not None or content.image_attachment_id is not None
    attachments = [pictures, content.file_token is not None, content.request_info is not None, bool(content.buttons)]
    if sum(attachments) > 1:
        return "content.two_attachments"
    if not content.text.strip() and (not any(attachments) or content.buttons):
        return "content.empty"
    return None
