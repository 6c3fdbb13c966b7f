"""An echo or a receipt proves a send whose answer was lost; each proves one."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.notifier.domain.settlement import OpenSend, Proof, look_up, settle
from tests.factories import NOW
from tests.unit.notifier.fakes import SKEW
from tests.unit.notifier.samples import a_proof, an_open_send

MINUTE = timedelta(minutes=1)


def test_an_echo_of_the_same_text_settles_the_send() -> None:
    echo = a_proof("m1", at=NOW + MINUTE)

    assert settle([an_open_send("r1")], [echo], owned=set(), skew=SKEW) == {"r1": echo}


def test_an_echo_of_another_text_proves_nothing() -> None:
    assert settle([an_open_send("r1")], [a_proof("m1", text="khác")], owned=set(), skew=SKEW) == {}


def test_an_echo_that_another_reply_owns_proves_nothing() -> None:
    assert settle([an_open_send("r1")], [a_proof("m1")], owned={"m1"}, skew=SKEW) == {}


def test_an_echo_from_before_the_attempt_proves_nothing() -> None:
    early = a_proof("m1", at=NOW - SKEW - timedelta(milliseconds=1))

    assert settle([an_open_send("r1")], [early], owned=set(), skew=SKEW) == {}


def test_an_echo_may_be_a_little_early_by_zalos_clock() -> None:
    assert settle([an_open_send("r1")], [a_proof("m1", at=NOW - SKEW)], owned=set(), skew=SKEW).keys() == {"r1"}


def test_one_echo_settles_one_of_two_sends_of_the_same_text() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", started_at=NOW + MINUTE)]

    assert settle(sends, [a_proof("m1", at=NOW + 2 * MINUTE)], owned=set(), skew=SKEW).keys() == {"r1"}


def test_two_echoes_settle_two_sends_of_the_same_text() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", started_at=NOW + MINUTE)]
    echoes = [a_proof("m1", at=NOW), a_proof("m2", at=NOW + MINUTE)]

    settled = settle(sends, echoes, owned=set(), skew=SKEW)

    assert {reply: proof.message_id for reply, proof in settled.items()} == {"r1": "m1", "r2": "m2"}


def test_the_same_echo_twice_settles_one_send() -> None:
    sends = [an_open_send("r1"), an_open_send("r2")]

    assert len(settle(sends, [a_proof("m1"), a_proof("m1", at=NOW + MINUTE)], owned=set(), skew=SKEW)) == 1


def test_nothing_is_concluded_while_the_same_text_is_still_being_sent() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", state="sending")]

    assert settle(sends, [a_proof("m1")], owned=set(), skew=SKEW) == {}


def test_another_text_being_sent_does_not_hold_up_the_proof_of_an_echo() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", text="khác", state="sending")]

    assert settle(sends, [a_proof("m1")], owned=set(), skew=SKEW).keys() == {"r1"}


def test_a_receipt_settles_the_only_open_send_of_a_citizen() -> None:
    receipt = a_proof("m1", text=None, kind="seen", at=NOW + MINUTE)

    assert settle([an_open_send("r1")], [receipt], owned=set(), skew=SKEW) == {"r1": receipt}


def test_a_receipt_proves_nothing_where_two_sends_may_be_meant() -> None:
    receipt = a_proof("m1", text=None, kind="received")
    sends = [an_open_send("r1"), an_open_send("r2", text="khác")]

    assert settle(sends, [receipt], owned=set(), skew=SKEW) == {}
    assert settle([sends[0], an_open_send("r2", state="sending")], [receipt], owned=set(), skew=SKEW) == {}


def test_receipts_of_two_strange_messages_prove_nothing() -> None:
    receipts = [a_proof("m1", text=None, kind="received"), a_proof("m2", text=None, kind="received")]

    assert settle([an_open_send("r1")], receipts, owned=set(), skew=SKEW) == {}


def test_a_receipt_of_a_message_whose_echo_has_another_text_proves_nothing() -> None:
    proofs = [a_proof("m1", text="khác"), a_proof("m1", text=None, kind="received")]

    assert settle([an_open_send("r1")], proofs, owned=set(), skew=SKEW) == {}


def test_echo_and_receipt_of_one_message_settle_one_send_by_the_echo() -> None:
    proofs = [a_proof("m1"), a_proof("m1", text=None, kind="received")]

    assert settle([an_open_send("r1")], proofs, owned=set(), skew=SKEW)["r1"].kind == "echo"


def test_a_receipt_that_names_a_send_proves_this_one_and_no_other() -> None:
    named = replace(a_proof("m1", text=None, kind="received"), send_id="r2")
    sends = [an_open_send("r1"), an_open_send("r2")]

    assert settle(sends, [named], owned=set(), skew=SKEW) == {"r2": named}
    assert settle(sends[:1], [named], owned=set(), skew=SKEW) == {}
    assert settle(sends, [named], owned={"m1"}, skew=SKEW) == {}
    assert settle([an_open_send("r2", state="sending")], [named], owned=set(), skew=SKEW) == {}


def test_an_echo_belongs_first_to_the_send_that_a_person_says_is_sent() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", state="sent", started_at=NOW + MINUTE)]
    echo = a_proof("m1", at=NOW + 2 * MINUTE)

    assert settle(sends, [echo], owned=set(), skew=SKEW) == {"r2": echo}
    assert settle(sends, [echo, a_proof("m2", at=NOW + 2 * MINUTE)], owned=set(), skew=SKEW).keys() == {"r1", "r2"}


def test_a_receipt_that_may_be_of_a_send_that_a_person_says_is_sent_proves_nothing() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", text="khác", state="sent")]

    assert settle(sends, [a_proof("m1", text=None, kind="seen", at=NOW)], owned=set(), skew=SKEW) == {}


# By Zalo's list


def listed(message_id: str, *, text: str = "chào", at: datetime = NOW) -> Proof:
    return a_proof(message_id, text=text, kind="listed", at=at)


def looked_up(
    sends: Sequence[OpenSend],
    messages: Sequence[Proof],
    *,
    owned: Collection[str] = (),
    by_people: Collection[str] = (),
) -> tuple[dict[str, str], list[str]]:
    result = look_up(sends, messages, owned=owned, by_people=by_people, skew=SKEW)
    return {key: proof.message_id for key, proof in result.found.items()}, [send.id for send in result.absent]


def test_a_listed_message_of_the_same_text_is_the_send() -> None:
    assert looked_up([an_open_send("r1")], [listed("m1")]) == ({"r1": "m1"}, [])


def test_what_the_list_does_not_show_is_absent() -> None:
    assert looked_up([an_open_send("r1")], []) == ({}, ["r1"])
    assert looked_up([an_open_send("r1")], [listed("m1")], owned={"m1"}) == ({}, ["r1"])
    assert looked_up([an_open_send("r1")], [listed("m1", text="khác")], by_people={"m1"}) == ({}, ["r1"])


def test_a_message_that_nobody_accounts_for_leaves_the_send_uncertain() -> None:
    assert looked_up([an_open_send("r1")], [listed("m1", text="khác")]) == ({}, [])
    before = listed("m1", text="khác", at=NOW - SKEW - MINUTE)
    assert looked_up([an_open_send("r1")], [before]) == ({}, ["r1"])


def test_nothing_is_absent_while_something_is_being_sent() -> None:
    assert looked_up([an_open_send("r1"), an_open_send("r2", text="khác", state="sending")], []) == ({}, [])


def test_what_zalo_does_not_list_is_never_absent() -> None:
    assert looked_up([replace(an_open_send("r1"), is_listed=False)], []) == ({}, [])


def test_nothing_is_absent_where_the_only_message_may_be_of_a_send_that_a_person_says_is_sent() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", state="sent")]
    assert looked_up(sends, [listed("m1")]) == ({"r2": "m1"}, [])
    assert looked_up(sends, []) == ({}, ["r1"])


def test_of_two_alike_the_list_shows_how_many_are_there() -> None:
    sends = [an_open_send("r1"), an_open_send("r2", started_at=NOW + MINUTE)]
    assert looked_up(sends, [listed("m1", at=NOW + 2 * MINUTE)]) == ({"r1": "m1"}, ["r2"])
