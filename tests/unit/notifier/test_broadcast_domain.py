"""Audience and life of a broadcast, as tables."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.domain.audience import Audience, ContactView, Had, Planned, Terms, matches, plan
from services.notifier.domain.broadcast import Action, Broadcast, Content, Draft, Forecast, NotAllowed, Snapshot, act
from services.notifier.domain.lanes import Chosen, Refused
from services.notifier.domain.rules import VIETNAM
from shared.events import ReplyContent
from tests.unit.notifier.fakes import DATA_DIR, RULES
from tests.unit.notifier.test_lanes import NOON, a_reach

BOOK = load_lane_book(DATA_DIR)
UNITS = {"tan-chanh-hiep": "tan-chanh-hiep", "hiep-thanh": "hiep-thanh", "district": "district"}
DRAFT = Draft(
    title="Nhắc hạn căn cước",
    unit="tan-chanh-hiep",
    content=Content(message=ReplyContent(text="Mời bà con kiểm tra hạn căn cước.")),
)


def the_terms(now: datetime = NOON, *, is_emergency: bool = False, **audience: Any) -> Terms:
    draft = DRAFT.model_copy(update={"is_emergency": is_emergency})
    day = now.astimezone(VIETNAM).date()
    return Terms(Audience(**audience), draft.offer, BOOK.on(day), RULES.window_on(day), UNITS, now)


def a_contact(page: str = "tan-chanh-hiep", *, person: str = "3001", reach: Any = None, **changes: Any) -> ContactView:
    filled: dict[str, Any] = {"followed_at": NOON - timedelta(days=30)}
    return ContactView(person, a_reach(page, **(reach or {})), **{**filled, **changes})


@pytest.mark.parametrize(
    ("audience", "contact", "is_meant"),
    [
        ({}, a_contact(), True),
        ({"units": ("tan-chanh-hiep",)}, a_contact(), True),
        ({"units": ("hiep-thanh",)}, a_contact(), False),
        ({"units": ("hiep-thanh",)}, a_contact("a-page-of-nobody"), False),
        ({"wards": ("hiep-thanh",)}, a_contact("district", wards=frozenset({"hiep-thanh"})), True),
        ({"wards": ("hiep-thanh",)}, a_contact("hiep-thanh"), True),  # chose no area: the page's own
        ({"wards": ("hiep-thanh",)}, a_contact("hiep-thanh", wards=frozenset({"thoi-an"})), False),
        ({"topics": ("fire",)}, a_contact(), True),  # chose no topics: gets all
        ({"topics": ("fire",)}, a_contact(topics=frozenset({"fire", "papers"})), True),
        ({"topics": ("fire",)}, a_contact(topics=frozenset({"papers"})), False),
        ({"tags": ("chủ trọ", "hộ nghèo")}, a_contact(tags=frozenset({"chủ trọ"})), True),
        ({"tags": ("chủ trọ",)}, a_contact(), False),
        ({"languages": ("vi",)}, a_contact(), True),
        ({"languages": ("vi",)}, a_contact(language="en"), False),
        ({"interacted_within_hours": 24}, a_contact(reach={"hours_ago": 23}), True),
        ({"interacted_within_hours": 24}, a_contact(reach={"hours_ago": 24}), False),
        ({"interacted_within_hours": 24}, a_contact(reach={"hours_ago": None}), False),
        ({"followed_after": NOON - timedelta(days=31)}, a_contact(), True),
        ({"followed_after": NOON - timedelta(days=29)}, a_contact(), False),
        ({"followed_before": NOON - timedelta(days=29)}, a_contact(), True),
        ({"followed_before": NOON - timedelta(days=30)}, a_contact(), False),
        ({"followed_before": NOON}, a_contact(followed_at=None), False),
        ({"followers_only": True}, a_contact(), True),
        ({"followers_only": True}, a_contact(followed_at=None), False),
        ({"followers_only": True}, a_contact(reach={"unfollowed": True}), False),
        ({"units": ("tan-chanh-hiep",), "languages": ("en",)}, a_contact(), False),  # every filter must hold
    ],
)
def test_an_audience_means_whom_all_its_filters_fit(
    audience: dict[str, Any], contact: ContactView, is_meant: bool
) -> None:
    assert matches(contact, the_terms(**audience)) == is_meant


def test_a_person_on_many_pages_is_one_recipient_on_the_page_they_used_last() -> None:
    contacts = [
        a_contact(reach={"hours_ago": 9}),
        a_contact("district", reach={"hours_ago": 2}),
        a_contact("hiep-thanh"),
    ]

    planned = plan(contacts[:2], the_terms())

    assert planned is not None
    assert isinstance(planned.choice, Chosen)
    assert planned.reach.page == "district"


def test_a_person_is_reached_only_on_pages_the_audience_means_but_an_opt_out_counts_from_any() -> None:
    meant, other = a_contact("hiep-thanh"), a_contact("district", reach={"opted_out": True})
    terms = the_terms(units=("hiep-thanh",))

    assert plan([other], terms) is None
    assert plan([meant, other], terms) == Planned("3001", Refused("contact.opted_out"), meant.reach)


@pytest.mark.parametrize(
    ("had", "is_emergency", "expected"),
    [
        (Had(), False, "answer"),
        (Had(in_a_day=1, in_a_week=1), False, "cap.day"),
        (Had(in_a_week=3), False, "cap.week"),
        (Had(in_a_day=1, in_a_week=3), True, "answer"),
    ],
)
def test_the_personal_cap_leaves_a_person_out_with_its_reason(had: Had, is_emergency: bool, expected: str) -> None:
    planned = plan([a_contact()], the_terms(is_emergency=is_emergency), had)

    assert planned is not None
    assert (planned.choice.lane if isinstance(planned.choice, Chosen) else planned.choice.reason) == expected


# Its life


def a_broadcast(**changes: Any) -> Broadcast:
    return replace(Broadcast("bc-1", DRAFT, "an"), **changes)


def done(broadcast: Broadcast, *actions: Action, by: str = "an", at: datetime = NOON, **more: Any) -> Broadcast:
    for action in actions:
        who = "binh" if action == "approve" and by == "an" else by
        changed = act(broadcast, action, by=who, at=at, **more)
        assert isinstance(changed, Broadcast), (action, changed)
        broadcast = changed
    return broadcast


def refusal(broadcast: Broadcast, action: Action, *, by: str = "an", at: datetime = NOON, **more: Any) -> str:
    changed = act(broadcast, action, by=by, at=at, **more)
    assert isinstance(changed, NotAllowed), changed
    return changed.reason


def test_a_broadcast_goes_its_way_from_draft_to_done() -> None:
    running = done(a_broadcast(), "preview", "approve", "schedule", "start", "pause", "resume")
    built = replace(running, snapshot=Snapshot(1, 1, "d", is_complete=True))

    ended = done(built, "finish")

    assert (ended.state, ended.version, ended.approved_by) == ("done", 7, "binh")
    assert [entry.action for entry in ended.history][:3] == ["preview", "approve", "schedule"]


def test_nobody_approves_what_they_wrote_or_changed() -> None:
    previewed = done(a_broadcast(), "preview")
    assert refusal(previewed, "approve", by="an") == "broadcast.needs_a_second_person"

    changed = done(previewed, "edit", by="binh", draft=DRAFT.model_copy(update={"pays": True}))
    previewed = done(changed, "preview", by="an")

    assert refusal(previewed, "approve", by="binh") == "broadcast.needs_a_second_person"
    assert done(previewed, "approve", by="chi").approved_by == "chi"


def test_an_approval_is_for_a_previewed_draft_and_a_change_takes_it_back() -> None:
    assert refusal(a_broadcast(), "approve", by="binh") == "broadcast.not_previewed"

    approved = done(a_broadcast(), "preview", "approve")
    changed = done(approved, "edit", draft=DRAFT.model_copy(update={"title": "khác"}))

    assert (changed.state, changed.approved_by, changed.preview) == ("draft", None, None)
    assert refusal(changed, "schedule") == "broadcast.is_draft"


def test_an_old_preview_is_no_ground_for_an_approval() -> None:
    previewed = done(a_broadcast(), "preview")

    late = NOON + timedelta(hours=25)

    assert refusal(previewed, "approve", by="binh", at=late) == "broadcast.preview_too_old"


def test_a_broadcast_starts_when_it_is_due_and_not_in_the_past() -> None:
    approved = done(a_broadcast(), "preview", "approve")
    assert refusal(approved, "schedule", starts_at=NOON - timedelta(hours=1)) == "broadcast.starts_in_the_past"

    scheduled = done(approved, "schedule", starts_at=NOON + timedelta(hours=1))

    assert refusal(scheduled, "start", by="scheduler") == "broadcast.not_due"
    assert done(scheduled, "start", by="scheduler", at=NOON + timedelta(hours=1)).state == "running"


def test_a_broadcast_without_its_whole_ledger_is_not_done() -> None:
    running = done(a_broadcast(), "preview", "approve", "schedule", "start")

    assert refusal(running, "finish") == "broadcast.not_built"


@pytest.mark.parametrize(
    "action", ["edit", "preview", "approve", "schedule", "start", "pause", "resume", "cancel", "finish"]
)
@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_nothing_changes_a_broadcast_that_is_over(state: Any, action: Any) -> None:
    assert refusal(a_broadcast(state=state), action, by="binh") == f"broadcast.is_{state}"


@pytest.mark.parametrize("state", ["scheduled", "running", "paused"])
def test_what_is_sent_cannot_be_edited_any_more(state: Any) -> None:
    assert refusal(a_broadcast(state=state), "edit", draft=DRAFT) == f"broadcast.is_{state}"


def test_the_digest_names_the_draft() -> None:
    same = Draft.model_validate_json(DRAFT.model_dump_json())

    assert same.digest == DRAFT.digest
    assert DRAFT.model_copy(update={"pays": True}).digest != DRAFT.digest


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"message": {"text": " "}},
        {"message": {"text": "a"}, "article": {"title": "t", "description": "d", "author": "a"}},
        {"article": {"title": "x" * 150, "description": "d", "author": "a", "cover_url": "https://a/b.jpg",
                     "body": [{"type": "text", "content": "c"}]}},
        {"article": {"title": "x", "description": "d", "author": "a", "cover_url": "https://a/ảnh.jpg",
                     "body": [{"type": "text", "content": "c"}]}},
    ],
)  # fmt: skip
def test_a_content_that_zalo_would_refuse_is_refused_before(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Content.model_validate(content)


def test_a_forecast_is_kept_with_the_preview() -> None:
    previewed = done(a_broadcast(), "preview", forecast=Forecast(people=3, lanes={"answer": 2}, refused={"cap.day": 1}))

    assert previewed.preview is not None
    assert previewed.preview.forecast.people == 3
