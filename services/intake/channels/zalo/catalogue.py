"""Every webhook event of Zalo's catalogue with what it is to us: one table, and the only place that knows the names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from services.intake.domain import Disposition
from shared.events import ChangeKind, MessageKind, ReportKind


class Envelope(StrEnum):
    """Where the page and the citizen stand in the body."""

    FROM_CITIZEN = "sender is the citizen, recipient the page"
    FROM_PAGE = "sender is the page, recipient the citizen"
    FLAT = "oa_id is the page; the citizen is user_id, follower.id or one of user_ids"


@dataclass(frozen=True)
class Message:
    """Becomes CitizenMessageReceived."""

    kind: MessageKind


@dataclass(frozen=True)
class Report:
    """Becomes DeliveryReported."""

    report: ReportKind


@dataclass(frozen=True)
class Change:
    """Becomes CitizenChanged.

    Attributes:
        interaction: whether it opens Zalo's consultation window; a call does if somebody talked.
        details: our name of a detail to the paths in the body where it may stand.
        no_citizen: reason code of the record when the body names no citizen.
    """

    change: ChangeKind
    interaction: Literal["always", "never", "if_talked"] = "never"
    details: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    no_citizen: str = "event.no_citizen"


@dataclass(frozen=True)
class Record:
    """Becomes WebhookRecorded with this reason code."""

    reason: str


@dataclass(frozen=True)
class Rule:
    """One event of the catalogue."""

    disposition: Disposition
    becomes: Message | Report | Change | Record
    envelope: Envelope = Envelope.FLAT


def _same(*names: str, under: str = "") -> dict[str, tuple[str, ...]]:
    return {name: (under + name,) for name in names}


_FOLLOWER = _same("source")
_PROFILE = {
    # The older generation is flat, the current one has the address in an object of its own.
    "name": ("info.name", "data.name"),
    "phone": ("info.phone", "data.phone"),
    "date_of_birth": ("info.user_dob", "data.user_dob"),
    "gender": ("info.gender", "data.gender"),
    "city": ("info.full_address.user_city", "info.city", "data.city"),
    "district": ("info.district", "data.district"),
    "ward": ("info.full_address.user_ward", "info.ward", "data.ward"),
    "address": ("info.full_address.user_address", "info.address", "data.address"),
    "method": ("data.method",),
}
_CONSENT = _same("phone", "request_type", "create_time", "expired_time", "user_consent", "confirmed_time")
_CALL = _same("phone", "call_id", "call_type", "init_time", "call_duration", "waiting_time", "talk_time", "status_code")
_TAG = {"tag": ("tag.name",)}
_FEEDBACK = {
    "message_id": ("message.msg_id",),
    **_same("rating_type", "option", "note", "rate", "submit_time", "feedbacks", "tracking_id", under="message."),
}
_BUTTON = {
    "message_id": ("msg_id", "message.msg_id"),
    **_same("submit_time", "button_type", "data", "tracking_id", under="message."),
}

_USER_KINDS: tuple[MessageKind, ...] = (
    "text",
    "image",
    "gif",
    "link",
    "audio",
    "video",
    "sticker",
    "location",
    "business_card",
    "file",
)
_GROUP_EVENTS = (
    "create_group",
    "user_join_group",
    "user_request_join_group",
    "accept_request_join_group",
    "reject_request_join_group",
    "react_request_join_group",
    "react_request_join_group_accept",
    "react_request_join_group_reject",
    "add_group_admin",
    "remove_group_admin",
    "update_group_info",
    "user_out_group",
    "user_leave_group",
    "delete_group",
    "disperse_group",
)
_GROUP_MESSAGES = (
    *(f"user_send_group_{k}" for k in _USER_KINDS if k != "location"),
    *(f"oa_send_group_{k}" for k in _USER_KINDS),
)
_ECHOES = ("text", "image", "gif", "list", "file", "sticker", "template")
_ANONYMOUS_ECHOES = ("text", "image", "file", "sticker")

CATALOGUE: Mapping[str, Rule] = {
    # A citizen writes; anonymous visitors have not followed the page and are answered by conversation_id.
    **{f"user_send_{kind}": Rule(Disposition.MESSAGE, Message(kind), Envelope.FROM_CITIZEN) for kind in _USER_KINDS},
    **{
        f"anonymous_send_{kind}": Rule(Disposition.MESSAGE, Message(kind), Envelope.FROM_CITIZEN)
        for kind in _USER_KINDS
    },
    # Zalo's copy of what a page sent, by our call or by a person in Zalo's own tool.
    **{f"oa_send_{kind}": Rule(Disposition.ECHO, Report("echo"), Envelope.FROM_PAGE) for kind in _ECHOES},
    **{
        f"oa_send_anonymous_{kind}": Rule(Disposition.ECHO, Report("echo"), Envelope.FROM_PAGE)
        for kind in _ANONYMOUS_ECHOES
    },
    # What became of a message.
    "user_received_message": Rule(Disposition.RECEIPT, Report("received"), Envelope.FROM_PAGE),
    "user_seen_message": Rule(Disposition.RECEIPT, Report("seen"), Envelope.FROM_PAGE),
    "user_reacted_message": Rule(Disposition.RECEIPT, Report("reacted"), Envelope.FROM_CITIZEN),
    "anonymous_reacted_message": Rule(Disposition.RECEIPT, Report("reacted"), Envelope.FROM_CITIZEN),
    "oa_reacted_message": Rule(Disposition.IGNORED, Record("ignored.own_reaction")),
    # Followers.
    "follow": Rule(Disposition.FOLLOWER_CHANGE, Change("followed", "always", _FOLLOWER)),
    "unfollow": Rule(Disposition.FOLLOWER_CHANGE, Change("unfollowed", details=_FOLLOWER)),
    "user_click_chatnow": Rule(Disposition.FOLLOWER_CHANGE, Change("chat_opened", "always")),
    # What a citizen tells about themselves, and the wish to have it erased.
    "user_submit_info": Rule(
        Disposition.PROFILE_CHANGE, Change("profile_shared", details=_PROFILE), Envelope.FROM_CITIZEN
    ),
    "update_user_info": Rule(Disposition.PROFILE_CHANGE, Change("profile_updated", details=_PROFILE)),
    "user_withdraw": Rule(Disposition.WITHDRAWAL, Change("withdrawn")),
    # Tags. Creating or deleting a tag names no citizen.
    "add_user_to_tag": Rule(Disposition.TAG, Change("tag_added", details=_TAG, no_citizen="tag.without_citizens")),
    "remove_user_from_tag": Rule(
        Disposition.TAG, Change("tag_removed", details=_TAG, no_citizen="tag.without_citizens")
    ),
    "remove_tag": Rule(Disposition.TAG, Change("tag_removed", details=_TAG, no_citizen="tag.without_citizens")),
    # Calls.
    "oa_send_consent": Rule(Disposition.CALL, Change("call_consent", details=_CONSENT, no_citizen="call.no_citizen")),
    "user_reply_consent": Rule(
        Disposition.CALL, Change("call_consent", details=_CONSENT, no_citizen="call.no_citizen")
    ),
    "user_call_oa": Rule(Disposition.CALL, Change("call_ended", "if_talked", _CALL, no_citizen="call.no_citizen")),
    "oa_call_user": Rule(Disposition.CALL, Change("call_ended", "if_talked", _CALL, no_citizen="call.no_citizen")),
    # Feedback. Zalo documents no citizen in these two; then the record keeps them, to be matched by message id.
    "user_feedback": Rule(
        Disposition.FEEDBACK, Change("feedback_given", details=_FEEDBACK, no_citizen="feedback.no_citizen")
    ),
    "user_click_response_button": Rule(
        Disposition.FEEDBACK, Change("button_clicked", "always", _BUTTON, no_citizen="feedback.no_citizen")
    ),
    # Templates and quotas: about a page, not a citizen.
    "change_template_status": Rule(Disposition.TEMPLATE_STATUS, Record("template.status_changed")),
    "change_template_quality": Rule(Disposition.TEMPLATE_STATUS, Record("template.quality_changed")),
    "change_template_quota": Rule(Disposition.TEMPLATE_STATUS, Record("template.quota_changed")),
    "change_oa_daily_quota": Rule(Disposition.TEMPLATE_STATUS, Record("template.daily_quota_changed")),
    "change_oa_template_tags": Rule(Disposition.TEMPLATE_STATUS, Record("template.tags_changed")),
    "event_journey_acknowledged": Rule(Disposition.TEMPLATE_STATUS, Record("template.journey_acknowledged")),
    "event_journey_time_out": Rule(Disposition.TEMPLATE_STATUS, Record("template.journey_timed_out")),
    # Not our business, kept all the same.
    **{name: Rule(Disposition.IGNORED, Record("ignored.group_event")) for name in _GROUP_EVENTS},
    **{name: Rule(Disposition.IGNORED, Record("ignored.group_message")) for name in _GROUP_MESSAGES},
    "widget_interaction_accepted": Rule(Disposition.IGNORED, Record("ignored.widget")),
    "widget_failed_to_sync_user_external_id": Rule(Disposition.IGNORED, Record("ignored.widget")),
    "extension_purchased": Rule(Disposition.IGNORED, Record("ignored.extension_purchased")),
    "shop_has_order": Rule(Disposition.IGNORED, Record("ignored.shop_order")),
    "permission_revoked": Rule(Disposition.IGNORED, Record("page.permission_revoked")),
}

TEMPLATE_DELIVERED = "template.delivered"
"""`user_received_message` of a template sent by phone number: its recipient is a phone, never a citizen of a page."""
