"""One draft, read on the two sides of a merger of wards."""

from datetime import UTC, date, datetime

import pytest

from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.domain.audience import Audience, matches
from services.notifier.domain.broadcast import Content, Draft
from services.notifier.domain.rulebook import Rulebook
from shared.directory import Directory, PageOwnership, Unit
from shared.events import ReplyContent
from tests.unit.notifier.fakes import DATA_DIR, RULES
from tests.unit.notifier.test_broadcast_domain import a_contact

MERGER = date(2026, 7, 1)
BEFORE, AFTER = datetime(2026, 6, 30, 5, tzinfo=UTC), datetime(2026, 7, 1, 5, tzinfo=UTC)


def ward(slug: str, *, until: date | None = None, heir: str | None = None) -> Unit:
    return Unit(slug=slug, name=slug, name_en=slug, role="ward", valid_to=until, succeeded_by=heir)


DIRECTORY = Directory(
    (
        ward("old", until=MERGER, heir="middle"),
        ward("middle", until=MERGER, heir="new"),
        ward("new"),
    ),
    (PageOwnership(page="p", unit="old", valid_to=MERGER), PageOwnership(page="p", unit="new", valid_from=MERGER)),
)


@pytest.mark.parametrize(
    ("chosen", "wanted", "before", "after"),
    [
        ({"old"}, "old", True, True),
        ({"old"}, "new", False, True),
        ({"new"}, "old", False, True),
        (set(), "old", True, True),
        ({"other"}, "old", False, False),
    ],
)
def test_a_ward_chosen_before_a_merger_counts_as_its_successor_afterwards(
    chosen: set[str], wanted: str, before: bool, after: bool
) -> None:
    rulebook = Rulebook(RULES, load_lane_book(DATA_DIR), DIRECTORY)
    content = Content(message=ReplyContent(text="Mời bà con"))
    draft = Draft(title="t", unit="new", content=content, audience=Audience(wards=(wanted,)))
    contact = a_contact("p", wards=frozenset(chosen))

    assert [matches(contact, rulebook.terms(draft, now)) for now in (BEFORE, AFTER)] == [before, after]


def test_a_draft_for_units_that_have_ended_reaches_the_pages_of_their_heir() -> None:
    rulebook = Rulebook(RULES, load_lane_book(DATA_DIR), DIRECTORY)
    content = Content(message=ReplyContent(text="Mời bà con"))
    draft = Draft(title="t", unit="new", content=content, audience=Audience(units=("old", "middle")))

    assert rulebook.terms(draft, BEFORE).audience.units == ("old", "middle")
    assert rulebook.terms(draft, AFTER).audience.units == ("new",)
    assert matches(a_contact("p"), rulebook.terms(draft, AFTER))
