"""The permitted way to reach a person, and the reason of every refusal, as tables."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.domain.lanes import (
    Chosen,
    Hours,
    LaneBook,
    Offer,
    Reach,
    Refused,
    article_problem,
    cap_reached,
    choose_lane,
    quiet_until,
    zalo_phone,
)
from services.notifier.domain.rules import VIETNAM
from shared.errors import ConfigurationError
from tests.unit.notifier.fakes import DATA_DIR, RULES

BOOK = load_lane_book(DATA_DIR)
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=VIETNAM)
NIGHT = datetime(2026, 11, 24, 23, 30, tzinfo=VIETNAM)
MESSAGE = Offer(frozenset({"answer", "consultation"}), pays=True, is_emergency=False)
FREE = replace(MESSAGE, pays=False)
TEMPLATE = Offer(frozenset({"template_user"}), pays=True, is_emergency=False)
BY_PHONE = Offer(frozenset({"template_user", "template_phone"}), pays=True, is_emergency=False)
BOTH = Offer(MESSAGE.lanes | TEMPLATE.lanes, pays=True, is_emergency=False)


def a_reach(page: str = "tan-chanh-hiep", *, hours_ago: float | None = 1, at: datetime = NOON, **changes: Any) -> Reach:
    last = None if hours_ago is None else at - timedelta(hours=hours_ago)
    filled: dict[str, Any] = {
        "citizen_key": f"{page}:1",
        "page": page,
        "oa_id": "4",
        "user_id": "1",
        "last_interaction_at": last,
    }
    return Reach(**{**filled, **changes})


def outcome(*reaches: Reach, offer: Offer = MESSAGE, now: datetime = NOON) -> str:
    day = now.astimezone(VIETNAM).date()
    choice = choose_lane(reaches, offer, BOOK.on(day), RULES.window_on(day), now)
    return choice.lane if isinstance(choice, Chosen) else choice.reason


@pytest.mark.parametrize(
    ("hours_ago", "offer", "expected"),
    [
        (1, MESSAGE, "answer"),
        (47.9, MESSAGE, "answer"),
        (48, MESSAGE, "consultation"),
        (167.9, MESSAGE, "consultation"),
        (168, MESSAGE, "window.closed"),
        (None, MESSAGE, "window.unknown"),
        (48, FREE, "window.beyond_free"),
        (168, FREE, "window.closed"),
        (168, BOTH, "template_user"),
        (None, BOTH, "template_user"),
        (1, BOTH, "answer"),
        (1, TEMPLATE, "template_user"),
        (1, replace(TEMPLATE, pays=False), "lane.costs"),
        (1, Offer(frozenset(), pays=True, is_emergency=False), "lane.none"),
    ],
)
def test_the_window_and_the_content_decide_the_lane(hours_ago: float | None, offer: Offer, expected: str) -> None:
    assert outcome(a_reach(hours_ago=hours_ago), offer=offer) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"opted_out": True}, "contact.opted_out"),
        ({"unfollowed": True}, "contact.unfollowed"),
        ({"withdrawn_at": NOON}, "contact.withdrawn"),
        ({"withdrawn_at": NOON - timedelta(hours=2)}, "answer"),  # they wrote again after it
    ],
)
def test_a_person_who_said_no_is_not_reached(changes: dict[str, Any], expected: str) -> None:
    assert outcome(a_reach(**changes)) == expected


def test_an_opt_out_on_one_page_is_one_on_all_pages_even_in_an_emergency() -> None:
    offer = replace(MESSAGE, is_emergency=True)

    assert outcome(a_reach("a"), a_reach("b", opted_out=True), offer=offer) == "contact.opted_out"


def test_a_person_is_reached_on_the_cheapest_page_they_used_last() -> None:
    reaches = [a_reach("paid", hours_ago=60), a_reach("older", hours_ago=20), a_reach("newer", hours_ago=10)]

    choice = choose_lane(reaches, MESSAGE, BOOK.on(NOON.date()), RULES.window_on(NOON.date()), NOON)

    assert isinstance(choice, Chosen)
    assert (choice.reach.page, choice.cost) == ("newer", "free")


def test_the_reason_is_that_of_the_page_they_used_last() -> None:
    assert outcome(a_reach("left", hours_ago=1, unfollowed=True), a_reach("silent", hours_ago=200)) == "window.closed"


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ("0900000001", "84900000001"),
        ("84900000001", "84900000001"),
        (84900000001, "84900000001"),
        ("+84 900.000-001", "84900000001"),
        ("900000001", None),
        ("1138", None),
        ("0900000001a", None),
        ('84900000001","x":"', None),
        ("８４９００００００００１", None),
        (None, None),
        ("", None),
    ],
)
def test_a_phone_number_is_written_as_zalo_takes_it_or_is_none(told: object, number: str | None) -> None:
    assert zalo_phone(told) == number


def test_a_template_by_phone_needs_a_phone_and_the_day() -> None:
    lanes = Offer(frozenset({"template_phone"}), pays=True, is_emergency=True)

    assert outcome(a_reach(), offer=lanes) == "contact.no_phone"
    assert outcome(a_reach(phone="84900000001"), offer=lanes) == "template_phone"
    assert outcome(a_reach(phone="84900000001", at=NIGHT), offer=lanes, now=NIGHT) == "lane.night"
    assert outcome(a_reach(hours_ago=None), offer=BY_PHONE) == "template_user"


def test_a_lane_is_refused_on_days_on_which_it_does_not_exist() -> None:
    before = datetime(2026, 2, 28, 12, 0, tzinfo=VIETNAM)

    assert outcome(a_reach(at=before), offer=TEMPLATE, now=before) == "lane.not_offered"
    assert outcome(a_reach(at=before), offer=TEMPLATE, now=before + timedelta(days=1)) == "template_user"


@pytest.mark.parametrize(
    ("at", "until"),
    [
        (NOON, None),
        (NOON.replace(hour=20, minute=59), None),
        (NOON.replace(hour=21), NOON.replace(day=25, hour=7)),
        (NOON.replace(hour=3), NOON.replace(hour=7)),
        (NOON.replace(hour=7), None),
    ],
)
def test_quiet_hours_last_until_the_morning(at: datetime, until: datetime | None) -> None:
    policy = BOOK.on(at.date()).policy

    assert quiet_until(policy, is_emergency=False, now=at.astimezone(UTC)) == until
    assert quiet_until(policy, is_emergency=True, now=at.astimezone(UTC)) is None


def test_the_personal_cap_counts_days_and_weeks_and_spares_emergencies() -> None:
    policy = BOOK.on(NOON.date()).policy

    assert cap_reached(policy, in_a_day=0, in_a_week=2, is_emergency=False) is None
    assert cap_reached(policy, in_a_day=1, in_a_week=1, is_emergency=False) == Refused("cap.day")
    assert cap_reached(policy, in_a_day=0, in_a_week=3, is_emergency=False) == Refused("cap.week")
    assert cap_reached(policy, in_a_day=9, in_a_week=9, is_emergency=True) is None


@pytest.mark.parametrize(
    ("now", "changes", "reason"),
    [
        (NOON, {}, None),
        (NOON, {"sent_today": 1}, "article.day_used"),
        (NOON, {"opted_out": 2}, "article.reaches_opted_out"),
        (NOON, {"opted_out": 2, "reaches_opted_out": True}, None),
        (NIGHT, {}, "lane.night"),
        (NOON, {"sent_this_month": 40}, None),  # no number is published for this package
        (datetime(2026, 5, 5, 12, 0, tzinfo=VIETNAM), {"sent_this_month": 1}, "article.month_used"),
        (datetime(2021, 5, 5, 12, 0, tzinfo=VIETNAM), {}, "lane.not_offered"),
    ],
)
def test_an_article_is_broadcast_only_where_the_page_may(
    now: datetime, changes: dict[str, Any], reason: str | None
) -> None:
    book = replace(BOOK, packages={"default": "basic"}) if now.year == 2026 and now.month == 5 else BOOK
    filled: dict[str, Any] = {"sent_this_month": 0, "sent_today": 0, "opted_out": 0, "reaches_opted_out": False}

    problem = article_problem(book, "tan-chanh-hiep", **{**filled, **changes}, now=now)

    assert (None if problem is None else problem.reason) == reason


def test_a_new_year_is_a_new_row() -> None:
    (answer,) = (rule for rule in BOOK.lanes if rule.lane == "answer")
    ended = replace(answer, valid_to=date(2027, 1, 1))
    successor = replace(answer, valid_from=date(2027, 1, 1), cost="package")
    book = replace(BOOK, lanes=(*(r for r in BOOK.lanes if r.lane != "answer"), ended, successor))

    assert book.on(date(2026, 12, 31)).lanes["answer"].cost == "free"
    assert book.on(date(2027, 1, 1)).lanes["answer"].cost == "package"


def test_hours_over_midnight_hold_on_both_sides_of_it() -> None:
    hours = Hours(21, 7)

    assert [hour for hour in range(24) if hours.holds(NOON.replace(hour=hour))] == [*range(7), 21, 22, 23]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lanes": []}, "lanes"),
        ({"packages": {}}, "default"),
        ({"packages": {"default": "gold"}}, "gold"),
        ({"policy": [{"valid_from": "2026-02-01", "valid_to": "2026-01-01"}]}, "policy"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    content = yaml.safe_load((DATA_DIR / "delivery" / "lanes.yaml").read_text("utf-8")) | change
    (tmp_path / "delivery").mkdir()
    (tmp_path / "delivery" / "lanes.yaml").write_text(yaml.safe_dump(content), "utf-8")

    with pytest.raises(ConfigurationError, match=told):
        load_lane_book(tmp_path)


def test_every_lane_of_the_file_is_dated_and_has_a_source() -> None:
    assert isinstance(BOOK, LaneBook)
    assert {rule.lane for rule in BOOK.lanes} == {
        "answer",
        "consultation",
        "article",
        "template_user",
        "template_phone",
    }
    content = yaml.safe_load((DATA_DIR / "delivery" / "lanes.yaml").read_text("utf-8"))
    assert all(row["source"] for part in ("lanes", "article", "policy") for row in content[part])
