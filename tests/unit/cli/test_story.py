from datetime import UTC, datetime, timedelta
from typing import Any

from cli.story import episodes, reasons_in, tell, waterfall

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


MESSAGE: dict[str, Any] = {
    "_id": "m1",
    "kind": "text",
    "text": "cháy nhà",
    "sent_at": at(0),
    "received_at": at(0.2),
    "case_code": "Q12-1",
    "message_id": "z1",
    "urgency": "emergency",
    "reading": {"reasons": ["urgency.fire"], "doubts": [], "confidence": 0.98, "evidence": ("cháy",)},
    "plan": {"steps": [{"case_id": "c"}], "reply": {"reason": "not.told"}},
    "assignment": {"unit": "doi-pccc", "reasons": ["unit.team_subject"], "doubts": ["unit.which_place"]},
}
REPLY: dict[str, Any] = {
    "_id": "r" * 32,
    "origin": "automatic",
    "template": "emergency.fire",
    "state": "sent",
    "requested_at": at(0.3),
    "content": {"text": "Gọi 114 ngay."},
    "attempts": [
        {"number": 1, "ended_at": at(0.5), "outcome": "not_accepted", "reason": "zalo.throttled"},
        {"number": 2, "ended_at": at(1.5), "outcome": "accepted"},
    ],
    "seen_at": at(9),
}


def test_everything_stands_in_the_order_in_which_it_happened() -> None:
    entry = {"_id": "e", "at": at(60), "kind": "reply", "by": "an", "text": "Đã xử lý", "reasons": ["officer.reply"]}

    story = tell(messages=[MESSAGE], replies=[REPLY], entries=[entry])

    assert [(line.who, line.what) for line in story] == [
        ("citizen", "text"),
        ("router", "decision"),
        ("machine", "reply asked for"),
        ("notifier", "attempt 1: not_accepted"),
        ("notifier", "attempt 2: accepted"),
        ("zalo", "seen"),
        ("an", "reply"),
    ]
    assert [line.text for line in story if line.text] == ["cháy nhà", "Gọi 114 ngay.", "Đã xử lý"]


def test_every_reason_code_is_told() -> None:
    told = [reason for line in tell(messages=[MESSAGE], replies=[REPLY]) for reason in line.reasons]

    assert told == ["urgency.fire", "unit.team_subject", "unit.which_place", "zalo.throttled"]


def test_what_the_router_decided_is_told_under_its_own_names() -> None:
    decision = tell(messages=[MESSAGE])[1]

    assert decision.details == {
        "urgency": "emergency",
        "reading.confidence": 0.98,
        "reading.evidence": "cháy",
        "assignment.unit": "doi-pccc",
    }


def test_a_reply_that_failed_or_is_unknown_says_so() -> None:
    failed = {**REPLY, "state": "failed", "reason": "window.closed", "finished_at": at(2), "attempts": []}
    unknown = {**REPLY, "state": "uncertain", "reason": "send.no_answer", "uncertain_at": at(3), "attempts": []}

    assert ("reply failed", ("window.closed",)) in [(line.what, line.reasons) for line in tell(replies=[failed])]
    assert ("reply uncertain", ("send.no_answer",)) in [(line.what, line.reasons) for line in tell(replies=[unknown])]


def test_what_a_person_wrote_in_zalos_own_tool_is_told_and_our_own_echoes_are_not_told_twice() -> None:
    reports = [
        {"_id": "a", "reported_at": at(1), "message_id": "z2", "admin_id": None},
        {"_id": "b", "reported_at": at(2), "message_id": "z3", "admin_id": "77"},
    ]

    [line] = tell(reports=reports)

    assert (line.who, line.details["message_id"]) == ("zalo", "z3")


def test_what_could_not_be_handled_is_part_of_the_story() -> None:
    letter = {
        "_id": "d" * 32,
        "first_at": at(1),
        "service": "router",
        "state": "parked",
        "reason": "handler.failed",
        "topic": "citizen.messages.v1",
        "error": "KeyError:  at services/router/x.py:1",
    }

    [line] = tell(dead_letters=[letter])

    assert (line.who, line.reasons) == ("router", ("handler.failed",))


def test_reasons_are_found_at_any_depth_and_in_either_form() -> None:
    document = {
        "reason": "a.b",
        "deep": {"er": {"reasons": [{"code": "c.d", "place": "x"}, "e.f"]}},
        "doubts": ("a.b",),
    }

    assert reasons_in(document) == ("a.b", "c.d", "e.f")


def span(span_id: str, parent_id: str | None, start_ms: float, duration_ms: float) -> dict[str, Any]:
    return {
        "_id": span_id,
        "span_id": span_id,
        "parent_id": parent_id,
        "service": "router",
        "name": f"step {span_id}",
        "started_ns": int(1_000_000_000 + start_ms * 1_000_000),
        "duration_ms": duration_ms,
    }


def test_a_waterfall_puts_each_step_below_the_one_it_came_from() -> None:
    bars = waterfall(
        [span("c", "b", 6, 2), span("a", None, 0, 10), span("b", "a", 5, 5), span("x", "gone", 1, 1)], width=10
    )

    assert [(bar.name, bar.depth, bar.start_ms) for bar in bars] == [
        ("step a", 0, 0.0),
        ("step b", 1, 5.0),
        ("step c", 2, 6.0),
        ("step x", 0, 1.0),
    ]
    assert bars[0].drawing == "██████████"
    assert bars[1].drawing == "     █████"
    assert bars[2].drawing == "      ██  "


def test_a_waterfall_of_nothing_is_empty_and_of_an_instant_one_mark() -> None:
    assert waterfall([]) == []
    [bar] = waterfall([span("a", "a", 0, 0)], width=5)
    assert bar.drawing == "█    "


def test_a_pause_between_people_cuts_a_trace() -> None:
    parts = episodes(
        [span("late", None, 60_000, 5), span("b", "a", 4, 9_000), span("a", None, 0, 10), span("c", "b", 10_500, 1)]
    )

    assert [[one["span_id"] for one in part] for part in parts] == [["a", "b", "c"], ["late"]]
    assert episodes([]) == []


def test_an_officers_change_tells_what_was_before() -> None:
    entry = {
        "_id": "e",
        "case_code": "Q12-1",
        "at": at(1),
        "kind": "handed_over",
        "changes": [
            {"field": "unit", "from": "tan-chanh-hiep", "to": "doi-csgt"},
            {"field": "due_at", "from": None, "to": "2026-11-24T10:00:00+00:00"},
            {"field": "closed_at", "from": "2026-11-24", "to": None},
        ],
        "details": {"template": "officer"},
    }

    [line] = tell(entries=[entry])

    assert line.details == {
        "unit": "tan-chanh-hiep → doi-csgt",
        "due_at": at(3_600),
        "closed_at": "2026-11-24 → -",
        "template": "officer",
    }
