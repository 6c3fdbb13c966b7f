"""Rules of the officers' page as tables."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.console.domain import (
    Action,
    CaseSummary,
    Contact,
    Decision,
    Line,
    Officer,
    ReplyWindow,
    Role,
    Scope,
    Session,
    WindowRule,
    as_sent,
    decision_fault,
    mark_of,
    password_fault,
    queue_order,
    reply_language,
    reply_window,
    scope_of,
    session_is_over,
    time_left,
    window_rule_on,
)
from shared.events import Language

NOW = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)
RULE = WindowRule(date(2026, 1, 1), timedelta(hours=48), timedelta(days=7))
FREE = ReplyWindow("free", NOW + timedelta(hours=1))
UNITS = frozenset({"tan-chanh-hiep", "thoi-an", "district"})


def a_summary(**values: object) -> CaseSummary:
    fields: dict[str, object] = {
        "code": "Q12-261124-0001",
        "unit": "tan-chanh-hiep",
        "page": "tan-chanh-hiep",
        "category": "security_tip",
        "subtopic": None,
        "urgency": "normal",
        "is_open": True,
        "waits_for": "officer",
        "opened_at": NOW - timedelta(hours=1),
        "last_message_at": NOW - timedelta(hours=1),
        "due_at": NOW + timedelta(hours=1),
    }
    return CaseSummary(**(fields | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("minutes", "key", "number", "level"),
    [
        (12, "deadline.left.minutes", 12, "soon"),
        (30, "deadline.left.minutes", 30, "soon"),
        (31, "deadline.left.minutes", 31, "calm"),
        (0.5, "deadline.left.now", 0, "soon"),
        (-0.5, "deadline.over.now", 0, "over"),
        (-1, "deadline.over.minutes", 1, "over"),
        (-120, "deadline.over.hours", 2, "over"),
        (60, "deadline.left.hours", 1, "calm"),
        (47 * 60 + 59, "deadline.left.hours", 47, "calm"),
        (48 * 60, "deadline.left.days", 2, "calm"),
        (-8 * 24 * 60, "deadline.over.days", 8, "over"),
    ],
)
def test_time_to_a_deadline_is_said_in_one_unit(minutes: float, key: str, number: int, level: str) -> None:
    left = time_left(NOW + timedelta(minutes=minutes), NOW)
    assert (left.key, left.number, left.level) == (key, number, level)


@pytest.mark.parametrize(
    ("hours_ago", "withdrawn_hours_ago", "kind"),
    [
        (0, None, "free"),
        (47.9, None, "free"),
        (48, None, "paid"),
        (7 * 24 - 0.1, None, "paid"),
        (7 * 24, None, "closed"),
        (None, None, "closed"),
        (5, 2, "withdrawn"),
        (2, 5, "free"),
        (None, 5, "withdrawn"),
    ],
)
def test_the_window_is_known_before_sending(
    hours_ago: float | None, withdrawn_hours_ago: float | None, kind: str
) -> None:
    def at(hours: float | None) -> datetime | None:
        return None if hours is None else NOW - timedelta(hours=hours)

    assert reply_window(Contact(at(hours_ago), at(withdrawn_hours_ago)), now=NOW, rule=RULE).kind == kind


@pytest.mark.parametrize(
    ("chosen", "written", "expected"),
    [
        (None, [], "vi"),
        (None, ["vi", "en"], "en"),
        (None, ["en", "vi"], "vi"),
        (None, ["en", None], "en"),
        ("vi", ["en"], "vi"),
        ("en", ["vi"], "en"),
    ],
)
def test_a_citizen_is_answered_in_the_language_they_chose_else_in_the_one_they_wrote(
    chosen: Language | None, written: list[Language | None], expected: Language
) -> None:
    lines = [Line(str(n), "citizen", NOW, "?", language=language) for n, language in enumerate(written)]
    lines += [Line("picture", "citizen", NOW, "", language="vi"), Line("bot", "bot", NOW, "113")]
    assert reply_language(Contact(language=chosen), lines) == expected


def test_a_new_window_rule_holds_from_its_day() -> None:
    later = WindowRule(date(2027, 1, 1), timedelta(hours=24), timedelta(days=3))
    assert window_rule_on(date(2026, 12, 31), [later, RULE]) is RULE
    assert window_rule_on(date(2027, 1, 1), [RULE, later]) is later
    assert window_rule_on(date(2020, 1, 1), [later, RULE]) is RULE


def test_emergencies_are_on_top_then_what_is_due_first_and_without_deadline_last() -> None:
    overdue = a_summary(code="overdue", due_at=NOW - timedelta(days=1))
    later = a_summary(code="later", due_at=NOW + timedelta(days=1))
    nothing = a_summary(code="nothing", due_at=None)
    fire = a_summary(code="fire", urgency="emergency", category="emergency", due_at=NOW + timedelta(minutes=1))
    handled_fire = a_summary(code="handled", urgency="emergency", waits_for="citizen", due_at=None)
    ordered = queue_order([later, nothing, handled_fire, overdue, fire])
    assert [case.code for case in ordered][:3] == ["fire", "overdue", "later"]


def test_a_reply_is_counted_after_composition() -> None:
    decomposed = "ế" * 2_000
    assert len(as_sent(decomposed)) == 2_000
    assert decision_fault(Decision("reply", as_sent(decomposed)), a_summary(), window=FREE, units=UNITS) is None
    assert as_sent(" a\r\nb\x00\x1b[2J\ud800 ") == "a\nb[2J"


@pytest.mark.parametrize(
    ("decision", "case", "fault"),
    [
        (Decision("reply", "có"), {}, None),
        (Decision("reply", ""), {}, "reply.empty"),
        (Decision("reply", "x" * 2_001), {}, "reply.too_long"),
        (Decision("reply", "có"), {"is_open": False}, None),
        (Decision("hand_over", to_unit="thoi-an"), {}, None),
        (Decision("hand_over"), {}, "hand_over.no_unit"),
        (Decision("hand_over", to_unit="nowhere"), {}, "hand_over.no_unit"),
        (Decision("hand_over", to_unit="tan-chanh-hiep"), {}, "hand_over.same_unit"),
        (Decision("hand_over", to_unit="thoi-an"), {"is_open": False}, "hand_over.closed"),
        (Decision("hand_over", "x" * 2_001, to_unit="thoi-an"), {}, "note.too_long"),
        (Decision("close"), {}, None),
        (Decision("close"), {"is_open": False}, "close.closed_already"),
        (Decision("reopen"), {}, "reopen.open_already"),
        (Decision("reopen"), {"is_open": False}, None),
        (Decision("correct"), {}, "correct.nothing_changed"),
        (Decision("correct", category="security_tip"), {}, "correct.nothing_changed"),
        (Decision("correct", category="crime_report"), {}, None),
        (Decision("correct", category="emergency", urgency="emergency"), {}, None),
        (Decision("correct", category="crime_report", urgency="emergency"), {}, "correct.emergency_both"),
        (Decision("correct", category="rumour"), {}, "correct.no_category"),
        (Decision("correct", subtopic="rumour"), {}, "correct.no_subtopic"),
        (Decision("correct", to_unit="nowhere"), {}, "hand_over.no_unit"),
        (Decision("correct", to_unit="thoi-an"), {}, None),
    ],
)
def test_a_decision_that_makes_no_sense_says_why(
    decision: Decision, case: dict[str, object], fault: str | None
) -> None:
    assert decision_fault(decision, a_summary(**case), window=FREE, units=UNITS) == fault


@pytest.mark.parametrize("kind", ["closed", "withdrawn"])
def test_nothing_is_sent_into_a_closed_window(kind: str) -> None:
    window = ReplyWindow(kind, None)  # type: ignore[arg-type]
    fault = decision_fault(Decision("reply", "có"), a_summary(), window=window, units=UNITS)
    assert fault == f"reply.window_{kind}"


@pytest.mark.parametrize(
    ("state", "received", "seen", "mark"),
    [
        ("queued", False, False, "waiting"),
        ("sending", False, False, "waiting"),
        ("sent", False, False, "sent"),
        ("sent", True, False, "received"),
        ("sent", False, True, "seen"),
        ("uncertain", False, False, "uncertain"),
        ("uncertain", True, False, "received"),
        ("failed", False, False, "failed"),
        ("abandoned", False, False, "failed"),
    ],
)
def test_a_reply_shows_what_became_of_it(state: str, received: bool, seen: bool, mark: str) -> None:
    assert mark_of(state, received=received, seen=seen) == mark


@pytest.mark.parametrize(
    ("role", "sees_all"), [("officer", False), ("duty", False), ("commander", False), ("lead", True)]
)
def test_only_the_district_lead_sees_every_unit(role: Role, sees_all: bool) -> None:
    scope = scope_of(Officer("a", "A", "tan-chanh-hiep", role))
    assert scope.allows("tan-chanh-hiep")
    assert scope.allows("thoi-an") is sees_all


def test_looking_at_one_unit_never_widens_the_scope() -> None:
    mine = Scope(frozenset({"tan-chanh-hiep"}))
    assert mine.narrowed_to("thoi-an").units == frozenset()
    assert mine.narrowed_to("tan-chanh-hiep").units == frozenset({"tan-chanh-hiep"})
    assert mine.narrowed_to("") is mine
    assert Scope(None).narrowed_to("thoi-an").units == frozenset({"thoi-an"})


@pytest.mark.parametrize(
    ("unused_seconds", "left_seconds", "is_over"),
    [(0, 100, False), (3_599, 1, False), (3_600, 100, True), (0, 0, True)],
)
def test_a_session_ends_unused_or_by_its_age(unused_seconds: int, left_seconds: int, is_over: bool) -> None:
    session = Session(
        "id", "browser", Officer("a", "A", "district", "officer"), "csrf", NOW,
        NOW - timedelta(seconds=unused_seconds), NOW + timedelta(seconds=left_seconds),
    )  # fmt: skip
    assert session_is_over(session, now=NOW, idle_seconds=3_600) is is_over


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("ngắn", "password.too_short"),
        ("x" * 300, "password.too_long"),
        ("aaaaaaaaaaaaaaa", "password.too_simple"),
        ("thoi-an-thoi-an", "password.too_simple"),
        ("con mèo ngồi trên mái", None),
    ],
)
def test_a_long_password_beats_a_complicated_one(password: str, fault: str | None) -> None:
    assert password_fault(password, account="thoi-an") == fault


def test_every_action_of_the_event_can_be_decided() -> None:
    actions: list[Action] = ["reply", "hand_over", "close", "reopen", "correct"]
    for action in actions:
        decision_fault(Decision(action), a_summary(), window=FREE, units=UNITS)
