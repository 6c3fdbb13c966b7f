"""The test world has the shape of what the router really writes; a renamed field is noticed here, not by an officer."""

from datetime import UTC, datetime

from services.router.adapters.case_store import entry_document
from services.router.domain.cases import CASE_FIELDS
from services.router.domain.plans import CaseEntry
from tests.unit.console.world import a_case, an_entry


def test_a_case_has_exactly_the_routers_fields() -> None:
    written = {"_id" if name == "case_id" else name for name in CASE_FIELDS} | {"officer_event_ids"}
    assert set(a_case(1)) == written


def test_an_entry_has_exactly_the_routers_fields() -> None:
    entry = CaseEntry(
        entry_id="e", case_id="c", case_code="Q12", kind="officer_reply", at=datetime.now(UTC), event_id="v",
        reasons=(), reply_id="r", template="officer", by="thoi-an",
    )  # fmt: skip
    document = entry_document(entry)
    ours = an_entry(a_case(1), "officer_reply", by="thoi-an", reply_id="r")
    assert set(ours) == set(document)
    assert set(ours["details"]) == set(document["details"])
