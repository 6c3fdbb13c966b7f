"""What a citizen's messages lead to: cases, deadlines, answers, each with its reasons."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.router.domain.assignment import Assignment
from services.router.domain.understanding import MessageContext, Reading
from services.router.errors import CaseMoved
from shared.directory import DirectoryView
from shared.events import CitizenMessageReceived, Coordinates
from tests.factories import NOW, a_message
from tests.unit.router.fakes import OFFICIAL_DESK, RULES, Office

QUESTION = "làm căn cước cần giấy tờ gì vậy"


def later(minutes: float) -> dict[str, datetime]:
    at = NOW + timedelta(minutes=minutes)
    return {"sent_at": at, "received_at": at, "occurred_at": at}


async def test_a_question_about_papers_is_answered_and_becomes_a_case_nobody_has_to_work_on() -> None:
    office = Office()
    message = await office.write(QUESTION)

    case, (reply,) = office.only_case, office.replies
    assert (case.state, case.needs_person, case.due_at) == ("answered_automatically", False, None)
    assert case.matter == "procedure.citizen_id_issue"
    assert case.closes_at == NOW + timedelta(hours=72)
    assert case.unit == "tan-chanh-hiep"
    assert "7 ngày làm việc" in reply.content.text
    assert case.code == reply.case_code == "Q12-261124-0001"
    assert case.code in reply.content.text
    assert reply.answers_event_id == message.event_id
    assert reply.interaction_at == message.sent_at
    assert [button.payload for button in reply.content.buttons] == ["Gặp cán bộ"]


async def test_an_unapproved_text_goes_to_a_person_outside_the_demo() -> None:
    office = Office(desk=OFFICIAL_DESK)
    message = await office.write(QUESTION)

    assert office.templates == ["procedure.to_person"]
    assert (office.only_case.state, office.only_case.needs_person) == ("waiting_officer", True)
    assert "answer.needs_approval" in office.reasons_of(message)
    # Tuesday 16:30 in Vietnam: half an hour is left, and seven and a half make a whole Wednesday.
    assert office.only_case.due_at == datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


async def test_an_emergency_is_answered_with_numbers_and_put_on_top_of_a_persons_queue() -> None:
    office = Office()
    await office.write("cháy nhà ở TCH 10 công an ơi")

    case, (reply,) = office.only_case, office.replies
    assert reply.is_emergency
    assert "114" in reply.content.text
    assert (case.priority, case.state, case.needs_person) == (0, "waiting_officer", True)
    assert case.due_at == NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("nhà em bị trộm đêm qua", 15),
        ("đang có đám đua xe ở Vườn Lài", 30),
        ("nhà đối diện hát karaoke ồn quá", 24 * 60),
    ],
)
async def test_a_report_gets_the_deadline_of_its_service_level(text: str, minutes: int) -> None:
    office = Office()
    await office.write(text)

    assert office.only_case.due_at == NOW + timedelta(minutes=minutes)
    assert office.only_case.needs_person


async def test_a_repeated_report_joins_the_open_case_and_is_acknowledged_once() -> None:
    office = Office()
    await office.write("nhà em bị trộm đêm qua")
    again = await office.write("nhà em bị trộm mất 2 xe máy", **later(2))

    assert len(office.store.cases) == 1
    assert office.templates == ["crime_report.received"]
    assert "answer.already_given" in office.reasons_of(again)
    assert "case.joined" in office.reasons_of(again)


async def test_what_is_added_long_after_is_acknowledged_again() -> None:
    office = Office()
    await office.write("nhà em bị trộm đêm qua")
    await office.write("nhà em bị trộm mất 2 xe máy", **later(30))

    assert office.templates == ["crime_report.received", "follow_up.noted"]


async def test_a_tip_that_becomes_an_emergency_escalates_within_its_case() -> None:
    office = Office()
    await office.write("quán nhậu kế bên ồn ào quá")
    await office.write("tụi nó đang cầm dao chém nhau", **later(20))

    case = office.only_case
    assert (case.category, case.urgency, case.priority) == ("emergency", "emergency", 0)
    assert case.due_at == NOW + timedelta(minutes=21)
    assert office.templates == ["security_tip.received", "emergency.violence"]
    assert "case.escalated" in case.reasons


async def test_an_emergency_is_not_lowered_by_what_follows() -> None:
    office = Office()
    await office.write("cháy nhà TCH 10")
    await office.write("hàng xóm karaoke ồn", **later(60))
    await office.write("cảm ơn", **later(61))

    case = office.only_case
    assert (case.category, case.urgency, case.priority) == ("emergency", "emergency", 0)
    assert case.due_at == NOW + timedelta(minutes=1)


async def test_two_questions_become_two_cases_and_both_are_answered() -> None:
    office = Office()
    await office.receive(a_message(text=QUESTION), a_message(text="đăng ký tạm trú cần những gì", **later(1)))

    assert len(office.store.cases) == 2
    assert {case.code for case in office.store.cases.values()} == {"Q12-261124-0001", "Q12-261124-0002"}
    assert office.templates == ["procedure.citizen_id_issue", "procedure.temporary_residence"]


async def test_every_direct_question_gets_its_answer_and_the_third_time_a_person_looks_too() -> None:
    office = Office()
    for minute in range(3):
        await office.write(QUESTION, **later(minute))

    assert office.templates == ["procedure.citizen_id_issue"] * 3
    assert office.only_case.state == "waiting_officer"
    assert "case.question_repeated" in office.only_case.reasons


@pytest.mark.parametrize(
    "text", ["cảm ơn cán bộ nhiều", "👍", "...", "bán nhà giá chỉ 3 tỷ sổ hồng riêng liên hệ ngay"]
)
async def test_what_needs_no_case_opens_none_and_is_kept_with_its_reason(text: str) -> None:
    office = Office()
    message = await office.write(text)

    assert not office.store.cases
    assert not office.replies
    assert "message.no_case_needed" in office.reasons_of(message)


async def test_a_greeting_is_answered_once_in_its_window() -> None:
    office = Office()
    await office.write("xin chào")
    again = await office.write("alo", **later(30))
    next_day = await office.write("chào cán bộ", **later(24 * 60))

    assert not office.store.cases
    assert office.templates == ["greeting.hello", "greeting.hello"]
    assert "answer.already_given" in office.reasons_of(again)
    assert "answer.given" in office.reasons_of(next_day)


async def test_thanks_after_an_answer_join_the_case_and_change_nothing() -> None:
    office = Office()
    await office.write(QUESTION)
    thanks = await office.write("dạ em cảm ơn", **later(5))

    assert office.only_case.state == "answered_automatically"
    assert "case.joined" in office.reasons_of(thanks)
    assert office.templates == ["procedure.citizen_id_issue"]


async def test_what_no_rule_knows_goes_to_a_person_soon() -> None:
    office = Office()
    message = await office.write("hôm bữa em có gửi cái đó lên rồi mà giờ tính sao đây")

    assert (office.only_case.matter, office.only_case.state) == ("conversation", "waiting_officer")
    assert office.only_case.due_at == NOW + timedelta(minutes=60)
    assert office.templates == ["unknown.to_person"]
    assert "reading.unknown" in office.reasons_of(message)


async def test_a_picture_without_a_word_reaches_a_person() -> None:
    office = Office()
    message = await office.write("", kind="image")

    assert (office.only_case.matter, office.only_case.needs_person) == ("conversation", True)
    assert office.templates == ["attachment.to_person"]
    assert "reading.only_image" in office.reasons_of(message)


async def test_a_picture_after_a_report_joins_it() -> None:
    office = Office()
    await office.write("nhà em bị trộm đêm qua")
    picture = await office.write("", kind="image", **later(1))

    assert office.store.messages[picture.event_id].plan.case_id == office.only_case.case_id
    assert office.templates == ["crime_report.received"]
    assert "answer.already_given" in office.reasons_of(picture)


async def test_an_unknown_text_after_an_automatic_answer_is_acknowledged_and_handed_over() -> None:
    office = Office()
    await office.write(QUESTION)
    await office.write("còn con của tôi thì tính sao đây", **later(1))

    assert office.only_case.state == "waiting_officer"
    assert office.templates == ["procedure.citizen_id_issue", "follow_up.noted"]


async def test_a_shared_location_moves_a_report_to_the_ward_where_it_is() -> None:
    office = Office()
    await office.write("có người rình mò ngoài hẻm")
    await office.write("", kind="location", location=Coordinates(latitude=10.8552, longitude=106.6927), **later(1))

    assert office.only_case.unit == "an-phu-dong"
    assert "unit.moved" in office.only_case.reasons


async def test_a_location_does_not_overrule_a_place_that_was_named() -> None:
    office = Office()
    await office.write("có người rình mò ở HT13")
    await office.write("", kind="location", location=Coordinates(latitude=10.8552, longitude=106.6927), **later(1))

    assert office.only_case.unit == "hiep-thanh"
    assert "unit.other_place_named" in office.only_case.doubts


async def test_asking_for_a_person_takes_an_answered_question_to_an_officer() -> None:
    office = Office()
    await office.write(QUESTION)
    await office.write("Gặp cán bộ", **later(3))

    case = office.only_case
    assert (case.state, case.needs_person, case.closes_at) == ("waiting_officer", True, None)
    assert case.due_at is not None
    assert office.templates == ["procedure.citizen_id_issue", "person.requested"]


async def test_asking_for_a_person_reopens_a_case_that_closed_itself() -> None:
    office = Office()
    await office.write(QUESTION)
    await office.write("Gặp cán bộ", **later(73 * 60))

    assert office.only_case.is_open
    assert "case.reopened" in office.only_case.reasons


async def test_the_same_question_days_later_is_a_new_case_and_the_old_one_is_closed() -> None:
    office = Office()
    await office.write(QUESTION)
    await office.write(QUESTION, **later(80 * 60))

    old, new = sorted(office.store.cases.values(), key=lambda case: case.opened_at)
    assert (old.is_open, old.state, old.closed_at) == (False, "closed_by_itself", NOW + timedelta(hours=72))
    assert new.is_open
    assert {entry.kind for entry in office.store.entries.values()} == {"opened", "closed_by_itself"}


async def test_calling_off_a_report_tells_a_person_and_starts_nothing() -> None:
    office = Office()
    await office.write("có trộm trong nhà")
    await office.write("em báo nhầm, không cần xuống nữa", **later(2))

    case = office.only_case
    assert (case.category, case.state) == ("emergency", "waiting_officer")
    assert "reading.called_off" in case.reasons
    assert office.templates == ["emergency.violence", "cancel.noted"]


async def test_calling_off_without_a_report_opens_no_case() -> None:
    office = Office()
    await office.write("em báo nhầm, không cần xuống nữa")

    assert not office.store.cases
    assert not office.replies


class DoubtedCallOff:
    """Understanding that takes every text for a call-off which may tell a new report."""

    def read_all(self, asked: Sequence[tuple[str, MessageContext]]) -> list[Reading]:
        return [Reading("greeting", cancels=True, needs_person=True) for _ in asked]


async def test_a_doubted_call_off_without_a_report_reaches_a_person() -> None:
    office = Office(understanding=DoubtedCallOff())
    await office.write("bữa báo lộn, giờ báo cái này thiệt, đêm qua mất dầu ba xe")

    assert (office.only_case.matter, office.only_case.state) == ("conversation", "waiting_officer")


async def test_a_matter_of_another_body_is_told_where_to_go() -> None:
    office = Office()
    await office.write("làm giấy khai sinh cho con ở đâu")

    assert office.templates == ["other_body.birth_marriage"]
    assert office.only_case.state == "answered_automatically"


async def test_a_place_outside_is_told_where_to_go_and_a_report_still_reaches_a_person() -> None:
    office = Office()
    await office.write("nhà tôi ở Gò Vấp, làm tạm trú sao")
    await office.write("em bị lừa đảo ở Bình Dương", user_id="2", **later(1))

    assert office.templates == ["out_of_area.procedure", "out_of_area.incident"]
    assert [case.needs_person for case in office.store.cases.values()] == [False, True]


async def test_an_allegation_against_staff_goes_to_the_district() -> None:
    office = Office()
    await office.write("công an khu vực đòi tiền mới làm giấy cho")

    assert (office.only_case.unit, office.only_case.priority) == ("district", 3)
    assert office.templates == ["complaint.staff"]


async def test_a_foreigner_is_answered_in_english() -> None:
    office = Office()
    await office.write("Help, there is a fire in the building next to us")

    assert "CALL" in office.replies[0].content.text


async def test_a_redelivered_message_asks_for_the_same_reply_and_changes_nothing() -> None:
    office = Office()
    message = await office.write(QUESTION)
    before = office.only_case
    await office.receive(message)

    assert office.only_case == before
    assert len({reply.event_id for reply in office.replies}) == 1


async def test_a_message_twice_in_one_batch_is_one_message() -> None:
    office = Office()
    message = a_message(text=QUESTION)
    await office.receive(message, message)

    assert len(office.replies) == 1
    assert len(office.store.messages) == 1


async def test_a_late_message_neither_turns_back_the_case_nor_is_lost() -> None:
    office = Office()
    await office.write("nhà em bị trộm đêm qua", **later(10))
    late = await office.write("chúng chạy xe màu đỏ", received_at=NOW + timedelta(minutes=11), sent_at=NOW)

    assert office.only_case.last_message_at == NOW + timedelta(minutes=10)
    assert "case.joined" in office.reasons_of(late)


async def test_the_round_trips_of_a_batch_do_not_grow_with_its_messages() -> None:
    small, large = Office(), Office()
    await small.receive(*(a_message(text=QUESTION, user_id=str(n)) for n in range(2)))
    await large.receive(*(a_message(text=QUESTION, user_id=str(n)) for n in range(200)))

    assert large.store.round_trips == small.store.round_trips == 7


class Broken:
    """Fails on questions."""

    def read_all(self, asked: Sequence[tuple[str, MessageContext]]) -> list[Reading]:
        if any(text == QUESTION for text, _ in asked):
            raise RuntimeError(f"a rule is broken by {asked}")
        return RULES.read_all(asked)


async def test_a_message_that_a_rule_fails_on_costs_no_other_of_its_batch() -> None:
    office = Office(understanding=Broken())
    failed, fine = a_message(text=QUESTION, user_id="1"), a_message(text="nhà em bị trộm đêm qua", user_id="2")
    await office.receive(failed, fine)

    assert "understanding.failed" in office.reasons_of(failed)
    assert "understanding.failed" not in office.reasons_of(fine)
    assert {case.category for case in office.store.cases.values()} == {"other", "crime_report"}


async def test_a_message_that_a_rule_fails_on_goes_to_a_person() -> None:
    office = Office(understanding=Broken())
    message = await office.write(QUESTION)

    assert (office.only_case.state, office.only_case.needs_person) == ("waiting_officer", True)
    assert "understanding.failed" in office.reasons_of(message)
    assert office.templates == ["unknown.to_person"]
    assert "113" in office.replies[0].content.text


async def test_a_message_that_the_map_fails_on_stays_with_its_page_in_doubt() -> None:
    def broken(message: CitizenMessageReceived, reading: Reading, view: DirectoryView) -> Assignment:
        raise RuntimeError(f"the map is broken by {message} {reading} {view}")

    office = Office(units=broken)
    await office.write("nhà em bị trộm đêm qua")

    assert office.only_case.unit == "tan-chanh-hiep"
    assert "unit.map_failed" in office.only_case.doubts


async def test_a_page_nobody_owns_goes_to_the_district_with_a_reason() -> None:
    office = Office()
    message = await office.write("nhà em bị trộm đêm qua", page="phuong-la")

    assert office.only_case.unit == "district"
    assert "unit.page_unknown" in office.reasons_of(message)


async def test_a_message_that_another_replica_decided_meanwhile_is_read_again() -> None:
    office = Office()
    message = a_message(text=QUESTION)
    office_2 = Office(store=office.store)

    class Blind:
        """Sees nothing of what the other replica wrote."""

        def __getattr__(self, name: str) -> Any:
            return getattr(office.store, name)

        async def plans_of(self, _: Any) -> dict[str, Any]:
            return {}

    await office.receive(message)
    office_2.store = Blind()  # type: ignore[assignment]
    with pytest.raises(CaseMoved):
        await office_2.receive(message)
    assert not office_2.replies


async def test_no_reply_repeats_a_word_that_only_the_citizen_wrote() -> None:
    office = Office()
    await office.write("cháy nhà ông Xyzzyplugh ở TCH 10")

    assert "Xyzzyplugh" not in office.replies[0].content.text


async def test_case_codes_count_by_the_day_of_the_units() -> None:
    office = Office()
    midnight = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)  # midnight in Vietnam
    before, after = midnight - timedelta(seconds=1), midnight
    await office.receive(
        a_message(text=QUESTION, user_id="1", sent_at=before, received_at=before),
        a_message(text=QUESTION, user_id="2", sent_at=after, received_at=after),
    )

    assert {case.code for case in office.store.cases.values()} == {"Q12-261124-0001", "Q12-261125-0001"}
