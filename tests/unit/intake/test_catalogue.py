"""Every event of Zalo's catalogue, by a realistic payload: what it is to us and where it goes."""

from typing import Any

import pytest

from services.intake.channels.zalo.catalogue import CATALOGUE
from services.intake.domain import Disposition
from tests.unit.intake.support import OA_ID, USER_ID, decided, payload, payload_files

MESSAGES, REPORTS = "citizen.messages.v1", "delivery.reports.v1"
CHANGES, RECORDS = "citizen.changes.v1", "webhook.records.v1"

_KINDS = ("text", "image", "gif", "link", "audio", "video", "sticker", "location", "business_card", "file")
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

Expected = tuple[str, str, str, dict[str, Any]]

TABLE: dict[str, Expected] = {
    # payload: (disposition, topic, code, members of the event)
    **{f"user_send_{k}": ("message", MESSAGES, "message.accepted", {"kind": k}) for k in _KINDS},
    "user_send_text.quote": ("message", MESSAGES, "message.accepted", {"quoted_message_id": "96d3cdf3af1504609001"}),
    "user_send_text.console_check": ("ignored", RECORDS, "console.check", {"reason": "console.check"}),
    "user_send_image.two_photos": ("message", MESSAGES, "message.accepted", {"kind": "image"}),
    **{
        f"anonymous_send_{k}": ("message", MESSAGES, "message.accepted", {"kind": k, "conversation_id": "c7d1e0f2a3b4"})
        for k in _KINDS
    },
    "anonymous_reacted_message": ("receipt", REPORTS, "receipt.accepted", {"report": "reacted"}),
    **{
        f"oa_send_{k}": ("echo", REPORTS, "echo.accepted", {"report": "echo", "admin_id": None})
        for k in ("text", "image", "gif", "list", "file", "sticker", "template")
    },
    "oa_send_text.by_a_person": ("echo", REPORTS, "echo.accepted", {"admin_id": "2000000000000000999"}),
    **{
        f"oa_send_anonymous_{k}": ("echo", REPORTS, "echo.accepted", {"report": "echo", "user_id": "ff01a9c2d7e84b31"})
        for k in ("text", "image", "file", "sticker")
    },
    "user_received_message": ("receipt", REPORTS, "receipt.accepted", {"report": "received", "user_id": USER_ID}),
    "user_received_message.zns": (
        "receipt",
        "templates.delivered.v1",
        "template.delivered",
        {"message_id": "96d3cdf3af19883ec917", "tracking_id": "hs-2026-000417", "oa_id": "4000000000000000008"},
    ),
    "user_seen_message": ("receipt", REPORTS, "receipt.accepted", {"report": "seen"}),
    "user_reacted_message": ("receipt", REPORTS, "receipt.accepted", {"report": "reacted", "reaction": "/-heart"}),
    "oa_reacted_message": ("ignored", RECORDS, "ignored.own_reaction", {}),
    "follow": (
        "follower_change",
        CHANGES,
        "follower.accepted",
        {"change": "followed", "is_interaction": True, "details": {"source": "oa_profile"}},
    ),
    "unfollow": ("follower_change", CHANGES, "follower.accepted", {"change": "unfollowed", "is_interaction": False}),
    "user_click_chatnow": (
        "follower_change",
        CHANGES,
        "follower.accepted",
        {"change": "chat_opened", "is_interaction": True},
    ),
    "user_submit_info": (
        "profile_change",
        CHANGES,
        "profile.accepted",
        {
            "change": "profile_shared",
            "details": {
                "name": "Nguyễn Văn An",
                "phone": "84900000123",
                "date_of_birth": "02/09/1975",
                "gender": "Nam",
                "city": "Thành phố Hồ Chí Minh",
                "ward": "Phường Trung Mỹ Tây",
                "address": "21 Tô Ký",
            },
        },
    ),
    "user_submit_info.older": (
        "profile_change",
        CHANGES,
        "profile.accepted",
        {
            "details": {
                "name": "Nguyễn Văn An",
                "phone": "84900000123",
                "city": "Hồ Chí Minh",
                "district": "Quận 12",
                "ward": "Tân Chánh Hiệp",
                "address": "21 Tô Ký",
            }
        },
    ),
    "update_user_info": ("profile_change", CHANGES, "profile.accepted", {"change": "profile_updated"}),
    "user_withdraw": ("withdrawal", CHANGES, "withdrawal.accepted", {"change": "withdrawn", "user_id": USER_ID}),
    "add_user_to_tag": ("tag", CHANGES, "tag.accepted", {"change": "tag_added", "details": {"tag": "Khu phố 5"}}),
    "add_user_to_tag.tag_created": ("tag", RECORDS, "tag.without_citizens", {}),
    "remove_user_from_tag": ("tag", CHANGES, "tag.accepted", {"change": "tag_removed"}),
    "remove_tag": ("tag", RECORDS, "tag.without_citizens", {}),
    "oa_send_consent": ("call", CHANGES, "call.accepted", {"change": "call_consent", "is_interaction": False}),
    "user_reply_consent": ("call", CHANGES, "call.accepted", {"change": "call_consent"}),
    "user_call_oa": ("call", CHANGES, "call.accepted", {"change": "call_ended", "is_interaction": True}),
    "user_call_oa.by_phone": ("call", RECORDS, "call.no_citizen", {}),
    "oa_call_user": ("call", CHANGES, "call.accepted", {"change": "call_ended", "is_interaction": False}),
    "user_feedback": ("feedback", RECORDS, "feedback.no_citizen", {}),
    "user_feedback.with_citizen": ("feedback", CHANGES, "feedback.accepted", {"change": "feedback_given"}),
    "user_click_response_button": ("feedback", RECORDS, "feedback.no_citizen", {}),
    "user_click_response_button.with_citizen": (
        "feedback",
        CHANGES,
        "feedback.accepted",
        {"change": "button_clicked", "is_interaction": True},
    ),
    "change_template_status": ("template_status", RECORDS, "template.status_changed", {"oa_id": OA_ID}),
    "change_template_quality": ("template_status", RECORDS, "template.quality_changed", {}),
    "change_template_quota": ("template_status", RECORDS, "template.quota_changed", {}),
    "change_oa_daily_quota": ("template_status", RECORDS, "template.daily_quota_changed", {}),
    "change_oa_template_tags": ("template_status", RECORDS, "template.tags_changed", {}),
    "event_journey_acknowledged": ("template_status", RECORDS, "template.journey_acknowledged", {}),
    "event_journey_time_out": ("template_status", RECORDS, "template.journey_timed_out", {}),
    **{name: ("ignored", RECORDS, "ignored.group_event", {"oa_id": OA_ID}) for name in _GROUP_EVENTS},
    **{
        f"user_send_group_{k}": ("ignored", RECORDS, "ignored.group_message", {"user_id": USER_ID})
        for k in _KINDS
        if k != "location"
    },
    **{f"oa_send_group_{k}": ("ignored", RECORDS, "ignored.group_message", {}) for k in _KINDS},
    "widget_interaction_accepted": ("ignored", RECORDS, "ignored.widget", {}),
    "widget_failed_to_sync_user_external_id": ("ignored", RECORDS, "ignored.widget", {}),
    "extension_purchased": ("ignored", RECORDS, "ignored.extension_purchased", {}),
    "shop_has_order": ("ignored", RECORDS, "ignored.shop_order", {}),
    "permission_revoked": ("ignored", RECORDS, "page.permission_revoked", {"oa_id": OA_ID}),
}


def test_every_payload_is_in_the_table_and_every_row_has_a_payload() -> None:
    assert {file.stem for file in payload_files()} == set(TABLE)


def test_every_event_of_the_catalogue_has_a_payload() -> None:
    assert {file.stem.split(".")[0] for file in payload_files()} == set(CATALOGUE)


@pytest.mark.parametrize("name", TABLE)
def test_an_event_of_the_catalogue_becomes_what_the_table_says(name: str) -> None:
    disposition, topic, code, members = TABLE[name]

    decision = decided(payload(name))

    assert (decision.disposition, decision.code) == (Disposition(disposition), code)
    assert {outgoing.topic.name for outgoing in decision.outgoing} == {topic}
    event = decision.outgoing[0].event.model_dump()
    assert {member: event[member] for member in members} == members
    assert decision.odd_fields == ()
    assert decision.event_name == name.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("name", TABLE)
def test_the_same_body_always_makes_the_same_ids(name: str) -> None:
    first, second = decided(payload(name)), decided(payload(name))

    assert [one.event.event_id for one in first.outgoing] == [one.event.event_id for one in second.outgoing]


def test_no_two_payloads_make_the_same_id() -> None:
    ids = [one.event.event_id for name in TABLE for one in decided(payload(name)).outgoing]

    assert len(ids) == len(set(ids))
