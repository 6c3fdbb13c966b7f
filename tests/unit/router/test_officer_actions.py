"""What officers decide: hand-over, close, reopen, correct; each taken once."""

from datetime import timedelta

from services.router.handlers.officer_actions import take_officer_actions
from shared.events import OfficerActed
from shared.kafka import Received
from tests.factories import NOW, an_officer_reply
from tests.unit.router.fakes import Office


def acting(**changes: object) -> list[Received[OfficerActed]]:
    return [Received(an_officer_reply(**changes), partition=0, offset=0)]


async def test_a_hand_over_moves_the_case_with_its_deadline_and_no_rule_moves_it_back() -> None:
    office = Office()
    await office.write("nhà em bị trộm đêm qua")
    before = office.only_case
    action = acting(case_code=before.code, action="hand_over", to_unit="thoi-an", text="Nhà ở Thới An")
    await take_officer_actions(action, office.officer_deps)
    await take_officer_actions(action, office.officer_deps)

    assert (office.only_case.unit, office.only_case.unit_basis) == ("thoi-an", "officer")
    assert office.only_case.due_at == before.due_at
    assert not [reply for reply in office.replies if reply.origin == "officer"], "the note is for the unit, not sent"
    (entry,) = [entry for entry in office.store.entries.values() if entry.kind == "officer_hand_over"]
    assert entry.changes == (("unit", before.unit, "thoi-an"),)

    at = NOW + timedelta(minutes=5)
    await office.write("nhà em ở đường TCH 21 phường Tân Chánh Hiệp", sent_at=at, received_at=at)
    assert office.only_case.unit == "thoi-an"


async def test_a_case_is_closed_and_reopened_with_a_deadline_again() -> None:
    office = Office()
    await office.write("nhà em bị trộm đêm qua")
    code = office.only_case.code
    await take_officer_actions(acting(event_id="a" * 32, case_code=code, action="close"), office.officer_deps)
    assert (office.only_case.state, office.only_case.is_open, office.only_case.due_at) == ("closed", False, None)

    await take_officer_actions(acting(event_id="b" * 32, case_code=code, action="reopen"), office.officer_deps)
    assert (office.only_case.state, office.only_case.is_open) == ("waiting_officer", True)
    assert office.only_case.due_at is not None


async def test_a_correction_changes_the_queue_and_only_brings_a_deadline_nearer() -> None:
    office = Office()
    await office.write("đêm nào quán kế bên cũng hát karaoke ồn quá")
    before = office.only_case
    assert before.due_at is not None
    action = acting(case_code=before.code, action="correct", category="crime_report", urgency="high", text="")
    await take_officer_actions(action, office.officer_deps)

    after = office.only_case
    assert (after.category, after.urgency) == ("crime_report", "high")
    assert after.priority < before.priority
    assert after.due_at is not None
    assert after.due_at <= before.due_at
