"""Nothing of a citizen is sent past an older unfinished reply."""

from datetime import timedelta

import pytest

from services.notifier.domain.gate import Free, Gone, Held, Verdict, gate
from tests.factories import NOW
from tests.unit.notifier.fakes import GRACE
from tests.unit.notifier.samples import an_unfinished as u

LATER = NOW + timedelta(minutes=5)
CASES: list[tuple[str, list[object], Verdict]] = [
    ("alone", [u("x", 5)], Free()),
    ("oldest", [u("x", 5), u("y", 6)], Free()),
    ("behind one that can go now", [u("a", 1), u("x", 5)], Held("a", None)),
    ("behind one being sent", [u("a", 1, "sending"), u("x", 5)], Held("a", None)),
    ("behind one that waits for its retry", [u("a", 1, due_at=LATER), u("x", 5)], Held("a", LATER)),
    ("behind an uncertain one in its grace", [u("a", 1, "uncertain"), u("x", 5)], Held("a", NOW + GRACE)),
    ("behind an uncertain one left to a person", [u("a", 1, "uncertain", uncertain_at=NOW - GRACE), u("x", 5)], Free()),
    (
        "an emergency behind one that waits for its retry",
        [u("a", 1, due_at=LATER), u("x", 5, is_emergency=True)],
        Free(),
    ),
    ("an emergency behind an uncertain one", [u("a", 1, "uncertain"), u("x", 5, is_emergency=True)], Free()),
    ("an emergency behind one being sent", [u("a", 1, "sending"), u("x", 5, is_emergency=True)], Held("a", None)),
    ("an emergency behind one that can go now", [u("a", 1), u("x", 5, is_emergency=True)], Held("a", None)),
    ("not due yet", [u("x", 5, due_at=LATER)], Gone()),
    ("taken by another replica", [u("x", 5, "sending")], Gone()),
    ("finished", [u("y", 6)], Gone()),
]


@pytest.mark.parametrize(("name", "of_citizen", "verdict"), CASES, ids=[case[0] for case in CASES])
def test_the_gate_decides(name: str, of_citizen: list[object], verdict: Verdict) -> None:
    assert gate("x", of_citizen, now=NOW, grace=GRACE) == verdict, name  # type: ignore[arg-type]


def test_the_oldest_obstacle_decides() -> None:
    of_citizen = [u("b", 2, "sending"), u("a", 1, due_at=LATER), u("x", 5)]

    assert gate("x", of_citizen, now=NOW, grace=GRACE) == Held("a", LATER)
