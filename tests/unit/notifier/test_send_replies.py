"""The sender: one round at a time, with every way a send can end."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.notifier.adapters.rate_bucket import Grant, app_bucket, page_bucket
from services.notifier.domain.outcomes import Accepted, NotSent, Refused, Unknown
from services.notifier.domain.reply import Contact
from services.notifier.domain.settlement import Proof
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.events import NotifierDeps, note_reports, queue_replies
from shared.errors import StoreUnavailable
from shared.events import ReplyContent, ReplyRequested
from shared.ids import deterministic_id, text_digest
from shared.kafka import Received
from shared.zalo_config import ZaloConfig
from tests.factories import NOW, OA_ID, PAGE, a_reply, a_report
from tests.unit.notifier.fakes import GRACE, LIMITS, RULES, World
from tests.unit.notifier.samples import APP_ID, CITIZEN, eventually
from tests.unit.notifier.zalo_stub import ZaloStub

CONFIG: ZaloConfig = ZaloStub(pages={OA_ID: PAGE}, url="http://127.0.0.1:1").config()


def deps(world: World) -> NotifierDeps:
    return NotifierDeps(
        world.ledger, world.contacts, world.reports, world.settlement, world.sender, world.clock, CONFIG
    )


async def ask(world: World, *names: str, **changes: Any) -> list[str]:
    """Queue one reply for each name, in this order."""
    received: list[Received[ReplyRequested]] = []
    for name in names:
        filled = {
            "event_id": deterministic_id(name),
            "content": ReplyContent(text=name),
            "occurred_at": world.clock.now(),
            "interaction_at": world.clock.now(),
            **changes,
        }
        received.append(Received(a_reply(**filled), 0, len(world.ledger.rows) + len(received)))
    await queue_replies(received, deps(world))
    return [one.event.event_id for one in received]


def refusal(code: int) -> Refused:
    return Refused(code, RULES.errors.codes[code].usual)


def states(world: World) -> list[str]:
    return [row.state for row in world.ledger.rows.values()]


def texts(world: World) -> list[str]:
    return [call.content.text for call in world.zalo.calls]


async def echo(world: World, name: str, message_id: str, **changes: Any) -> None:
    report = a_report(
        event_id=deterministic_id("echo", message_id, repr(changes)),
        message_ids=(message_id,),
        text_sha256=text_digest(name),
        reported_at=world.clock.now(),
        **changes,
    )
    await note_reports([Received(report, 0, 0)], deps(world))


async def test_an_asked_reply_is_sent_once_and_owns_its_message() -> None:
    world = World()
    (reply,) = await ask(world, "a")

    await world.one_round()
    await world.one_round()

    assert texts(world) == ["a"]
    row = world.ledger.rows[reply]
    assert (row.state, row.message_id, row.attempt) == ("sent", "m1", 1)


async def test_a_redelivered_request_is_sent_once() -> None:
    world = World()
    await ask(world, "a")
    await world.one_round()
    await ask(world, "a")
    await world.one_round()

    assert texts(world) == ["a"]


async def test_a_page_that_is_not_ours_fails_with_its_reason_and_without_a_call() -> None:
    world = World()
    (reply,) = await ask(world, "a", oa_id="4999")

    await world.one_round()

    assert (world.ledger.rows[reply].state, world.ledger.rows[reply].reason) == ("failed", "page.unknown")
    assert world.zalo.calls == []


async def test_a_closed_window_fails_without_a_call() -> None:
    world = World()
    (reply,) = await ask(world, "a", interaction_at=NOW - timedelta(days=8))

    await world.one_round()

    assert (world.ledger.rows[reply].state, world.ledger.rows[reply].reason) == ("failed", "window.closed")
    assert world.zalo.calls == []


async def test_the_window_is_judged_at_the_moment_of_sending() -> None:
    world = World()
    (reply,) = await ask(world, "a", interaction_at=NOW - timedelta(days=8))
    world.contacts.contacts[CITIZEN] = Contact(NOW)  # the citizen wrote meanwhile

    await world.one_round()

    assert world.ledger.rows[reply].state == "sent"


async def test_a_withdrawn_citizen_gets_nothing() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.contacts.contacts[CITIZEN] = Contact(NOW, withdrawn_at=NOW)

    await world.one_round()

    assert world.ledger.rows[reply].reason == "contact.withdrawn"


async def test_an_unknown_outcome_of_which_zalo_tells_nothing_is_parked_and_never_sent_again() -> None:
    world = World()
    world.conversations.is_told = False
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]

    await world.one_round()
    world.clock.advance(86_400)
    await world.sender.sweep_once()
    await world.one_round()

    assert texts(world) == ["a"]
    assert (world.ledger.rows[reply].state, world.ledger.rows[reply].reason) == ("uncertain", "zalo.answer_lost")


async def test_an_echo_settles_an_unknown_outcome() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]
    await world.one_round()

    await echo(world, "a", "m9")

    row = world.ledger.rows[reply]
    assert (row.state, row.message_id, row.settled_by) == ("sent", "m9", "echo")
    assert "echo" in row.moments


async def test_an_echo_that_was_quicker_than_the_lost_answer_settles_it() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    await echo(world, "a", "m9")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]

    await world.one_round()

    assert world.ledger.rows[reply].state == "sent"


async def test_an_echo_that_was_quicker_than_the_answer_is_noted_on_the_reply() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    await echo(world, "a", "m1")

    await world.one_round()

    assert world.ledger.rows[reply].moments == {"echo": NOW}


async def test_what_a_person_wrote_in_zalos_own_tool_settles_nothing() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]
    await world.one_round()

    await echo(world, "a", "m9", admin_id="7")

    assert world.ledger.rows[reply].state == "uncertain"


async def test_a_receipt_settles_the_only_open_reply_of_a_citizen() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]
    await world.one_round()

    seen = a_report(event_id="e" * 32, report="seen", message_ids=("m9",), text_sha256=None, reported_at=NOW)
    await note_reports([Received(seen, 0, 0)], deps(world))

    assert world.ledger.rows[reply].settled_by == "seen"


async def test_the_echo_of_a_send_that_began_while_reports_were_read_does_not_prove_an_older_one() -> None:
    world = World()
    (older,) = await ask(world, "a")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]
    await world.one_round()
    world.clock.advance(GRACE.total_seconds())
    (newer,) = await ask(world, "a again", content=ReplyContent(text="a"))
    read = world.reports.proofs

    async def reads_late(citizen_keys: Iterable[str], *, since: datetime) -> list[Proof]:
        """The newer one goes out, and its echo comes, before its own answer is written down."""
        world.sender.look_now()
        await world.sender.round()
        await eventually(lambda: len(world.zalo.calls) == 2)
        await world.reports.add([a_report(event_id="e" * 32, message_ids=("m2",), text_sha256=text_digest("a"))])
        return await read(citizen_keys, since=since)

    world.reports.proofs = reads_late  # type: ignore[method-assign]

    assert await world.settlement.of_citizens([CITIZEN]) == set()

    assert world.ledger.rows[older].state == "uncertain"
    world.reports.proofs = read  # type: ignore[method-assign]
    await world.sender.record_pending()
    assert (world.ledger.rows[newer].state, world.ledger.rows[newer].message_id) == ("sent", "m2")


async def round_until_called(world: World) -> None:
    """Let a round come as far as the calls, of which nothing is recorded."""
    await world.sender.round()
    await eventually(lambda: bool(world.zalo.calls))


async def test_a_called_claim_that_nobody_recorded_becomes_uncertain_when_its_lease_ends() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    await round_until_called(world)  # and then the process dies: nothing is recorded
    world.sender = world.a_sender()

    world.clock.advance(59)
    await world.sender.sweep_once()
    assert world.ledger.rows[reply].state == "sending"
    world.clock.advance(2)
    await world.sender.sweep_once()

    assert (world.ledger.rows[reply].state, world.ledger.rows[reply].reason) == ("uncertain", "send.lease_expired")
    await world.one_round()
    assert texts(world) == ["a"]


async def test_a_claim_that_was_never_called_is_sent_by_another_replica_when_its_lease_ends() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    await world.ledger.claim([reply], owner="a replica that dies", now=NOW)

    world.clock.advance(61)
    await world.sender.sweep_once()
    await world.one_round()

    row = world.ledger.rows[reply]
    assert (row.state, row.failures, texts(world)) == ("sent", 0, ["a"])


async def test_a_claim_that_is_another_replicas_by_now_is_not_called() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    await world.sender.round()  # claimed; its mark comes too late
    row = world.ledger.rows[reply]
    row.owner = "another replica"

    await world.sender.record_pending()

    assert texts(world) == []
    assert (row.state, row.owner, row.is_called) == ("sending", "another replica", False)


@pytest.mark.parametrize("is_applied", [True, False])
async def test_without_a_mark_no_call_is_made_and_the_reply_is_sent_later(is_applied: bool) -> None:
    world = World()
    (reply,) = await ask(world, "a")
    await world.sender.round()
    world.ledger.outages = [is_applied]

    await world.sender.record_pending()

    row = world.ledger.rows[reply]
    assert (row.state, row.reason, row.failures, texts(world)) == ("queued", "store.unavailable", 0, [])
    await world.one_round()
    assert (row.state, texts(world)) == ("sent", ["a"])


async def test_calls_that_leave_together_share_a_mark() -> None:
    world = World(limits=replace(LIMITS, slots=20))
    writes: list[int] = []
    mark_called = world.ledger.mark_called

    async def counted(ids: Sequence[str], *, owner: str) -> set[str]:
        writes.append(len(ids))
        return await mark_called(ids, owner=owner)

    world.ledger.mark_called = counted  # type: ignore[method-assign]
    for number in range(20):
        await ask(world, f"{number}", user_id=f"20000000000000000{number}")
    await world.one_round()

    assert len(texts(world)) == 20
    assert writes == [8, 8, 4]


async def test_an_answer_that_is_recorded_after_the_lease_still_counts_as_a_proof() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    await round_until_called(world)
    world.clock.advance(61)
    await world.a_sender().sweep_once()

    await world.sender.record_pending()

    assert (world.ledger.rows[reply].state, world.ledger.rows[reply].message_id) == ("sent", "m1")


async def test_a_refusal_that_is_recorded_after_the_lease_changes_nothing() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [refusal(-200)]
    await round_until_called(world)
    world.clock.advance(61)
    await world.a_sender().sweep_once()

    await world.sender.record_pending()

    assert world.ledger.rows[reply].state == "uncertain"


async def test_what_zalo_provably_did_not_take_is_tried_again_when_its_time_comes() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [NotSent("refused")]

    await world.one_round()
    assert world.ledger.rows[reply].state == "queued"
    await world.one_round()
    assert texts(world) == ["a"]
    world.clock.advance(1)
    await world.one_round()

    assert texts(world) == ["a", "a"]
    assert world.ledger.rows[reply].state == "sent"


async def test_a_citizens_replies_go_out_one_after_another_and_others_go_on() -> None:
    world = World()
    await ask(world, "a1", "a2", "a3")
    await ask(world, "b1", user_id="2000000000000000002")

    await world.one_round()
    assert sorted(texts(world)) == ["a1", "b1"]
    await world.one_round()
    await world.one_round()

    assert [text for text in texts(world) if text.startswith("a")] == ["a1", "a2", "a3"]


async def test_a_later_reply_waits_behind_one_that_waits_for_its_retry() -> None:
    world = World()
    await ask(world, "a1", "a2")
    world.zalo.outcomes = [refusal(-200)]

    await world.one_round()
    await world.one_round()
    assert texts(world) == ["a1"]
    world.clock.advance(11)
    await world.one_round()
    await world.one_round()

    assert texts(world) == ["a1", "a1", "a2"]


async def test_a_reply_that_was_held_goes_as_soon_as_its_obstacle_is_settled() -> None:
    world = World()
    await ask(world, "a1", "a2")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]
    await world.one_round()
    await world.one_round()
    assert texts(world) == ["a1"]

    await echo(world, "a1", "m9")
    await world.one_round()

    assert texts(world) == ["a1", "a2"]


async def test_an_uncertain_reply_holds_back_later_ones_only_for_its_grace() -> None:
    world = World()
    await ask(world, "a1", "a2")
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]
    await world.one_round()

    world.clock.advance(GRACE.total_seconds())
    await world.one_round()

    assert texts(world) == ["a1", "a2"]


async def test_an_emergency_overtakes_a_reply_that_waits_for_its_retry() -> None:
    world = World()
    await ask(world, "a1")
    world.zalo.outcomes = [refusal(-200)]
    await world.one_round()

    await ask(world, "a2", is_emergency=True)
    await world.one_round()

    assert texts(world) == ["a1", "a2"]


async def test_emergencies_of_other_citizens_go_first() -> None:
    world = World(limits=replace(LIMITS, slots=1))
    await ask(world, "a", "b")
    await ask(world, "c", is_emergency=True, user_id="2000000000000000003")

    await world.one_round()

    assert texts(world) == ["c"]


async def test_a_row_of_emergencies_lends_its_urgency_to_the_reply_before_it() -> None:
    world = World(limits=replace(LIMITS, slots=2))
    await ask(world, "a1")
    await ask(world, "a2", "a3", "a4", is_emergency=True)

    for _ in range(8):
        await world.one_round()

    assert texts(world) == ["a1", "a2", "a3", "a4"]


async def test_no_more_is_claimed_than_there_are_free_slots() -> None:
    world = World(limits=replace(LIMITS, slots=3))
    for number in range(7):
        await ask(world, f"a{number}", user_id=f"20000000000000000{number:02}")

    await world.sender.round()

    assert states(world).count("sending") == 3
    assert states(world).count("queued") == 4


async def test_a_refused_token_is_replaced_and_the_message_sent_once_more() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [refusal(-216), Accepted("m1", None)]

    await world.one_round()

    assert [call.access_token for call in world.zalo.calls] == [f"access-1-{OA_ID}", f"access-2-{OA_ID}"]
    assert world.ledger.rows[reply].state == "sent"


async def test_a_second_refused_token_waits_for_its_schedule() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [refusal(-216), refusal(-220)]

    await world.one_round()

    row = world.ledger.rows[reply]
    assert (len(world.zalo.calls), row.state, row.reason) == (2, "queued", "zalo.token_expired")


async def test_a_page_without_a_token_keeps_its_replies_with_the_reason() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    world.tokens.problem = TokenUnavailable("token.pair_lost")

    await world.one_round()

    row = world.ledger.rows[reply]
    assert (row.state, row.reason, row.due_at) == ("queued", "token.pair_lost", NOW + timedelta(seconds=2))
    assert world.zalo.calls == []


@pytest.mark.parametrize(("is_page_limit", "bucket"), [(True, page_bucket(OA_ID)), (False, app_bucket(APP_ID))])
async def test_a_throttled_call_blocks_the_bucket_until_the_next_minute(is_page_limit: bool, bucket: str) -> None:
    world = World()
    world.clock.advance(20)
    (reply,) = await ask(world, "a")
    world.zalo.outcomes = [replace(refusal(-32), is_page_limit=is_page_limit)]

    await world.one_round()

    assert world.rates.blocked == [(bucket, 40.0)]
    assert world.ledger.rows[reply].due_at == NOW + timedelta(minutes=1)


async def test_replies_of_a_blocked_page_are_put_off_without_a_claim() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    until = NOW + timedelta(seconds=30)
    world.rates.grants[page_bucket(OA_ID)] = Grant(0, until, 30.0)

    await world.one_round()

    row = world.ledger.rows[reply]
    assert (row.state, row.attempt, row.due_at) == ("queued", 0, until)


async def test_no_more_is_sent_than_the_app_may_call() -> None:
    world = World()
    for number in range(5):
        await ask(world, f"a{number}", user_id=f"20000000000000000{number:02}")
    world.rates.grants[app_bucket(APP_ID)] = Grant(2, None, 0.5)

    await world.one_round()

    assert len(world.zalo.calls) == 2
    assert states(world).count("queued") == 3


async def test_a_claim_of_which_nobody_knows_whether_it_was_made_is_given_back() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    claim = world.ledger.claim

    async def claim_then_fail(*args: Any, **kwargs: Any) -> Any:
        await claim(*args, **kwargs)
        world.ledger.claim = claim  # type: ignore[method-assign]
        world.ledger.outages = [False]
        return await world.ledger.release([], owner="", now=NOW)

    world.ledger.claim = claim_then_fail  # type: ignore[method-assign]
    with pytest.raises(Exception, match="before"):
        await world.sender.round()
    assert world.ledger.rows[reply].state == "sending"

    await world.one_round()

    assert texts(world) == ["a"]
    assert world.ledger.rows[reply].state == "sent"


async def test_outcomes_are_recorded_after_an_outage_of_the_database() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    running = asyncio.create_task(world.sender.run())
    record = world.ledger.record
    failures = ["before", "after"]

    async def fail_first(results: Any) -> None:
        failure = failures.pop(0) if failures else None
        if failure == "before":
            raise StoreUnavailable(failure)
        await record(results)
        if failure == "after":
            raise StoreUnavailable(failure)

    world.ledger.record = fail_first  # type: ignore[method-assign]
    await eventually(lambda: world.sender.in_flight == 0 and world.ledger.rows[reply].state == "sent")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert failures == []
    assert texts(world) == ["a"]


async def test_a_stopping_sender_finishes_and_records_what_is_in_flight() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    called, go_on = asyncio.Event(), asyncio.Event()
    send = world.zalo.send

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        called.set()
        await go_on.wait()
        return await send(*args, **kwargs)

    world.zalo.send = slowly  # type: ignore[method-assign]
    running = asyncio.create_task(world.sender.run())
    await called.wait()
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    await asyncio.gather(running, return_exceptions=True)

    assert world.ledger.rows[reply].state == "sent"


async def test_a_sender_that_is_stopped_in_the_middle_of_a_claim_sends_what_it_claimed() -> None:
    world = World()
    (reply,) = await ask(world, "a")
    claiming, go_on = asyncio.Event(), asyncio.Event()
    claim = world.ledger.claim

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        replies = await claim(*args, **kwargs)
        claiming.set()
        await go_on.wait()
        return replies

    world.ledger.claim = slowly  # type: ignore[method-assign]
    running = asyncio.create_task(world.sender.run())
    await claiming.wait()
    running.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(running, return_exceptions=True)

    assert world.ledger.rows[reply].state == "sent"


async def test_a_fault_of_ours_leaves_the_reply_to_a_person_and_frees_its_slot() -> None:
    world = World()
    (reply,) = await ask(world, "a")

    def fault(_: object) -> Any:
        raise KeyError("fault")

    world.zalo.on_call = fault
    await world.one_round()

    row = world.ledger.rows[reply]
    assert (row.state, row.reason, world.sender.in_flight) == ("uncertain", "send.fault", 0)


async def test_a_queued_reply_leaves_without_waiting_for_the_next_search() -> None:
    world = World(limits=replace(LIMITS, poll_seconds=60.0))
    running = asyncio.create_task(world.sender.run())
    await asyncio.sleep(0)
    (reply,) = await ask(world, "a")

    await eventually(lambda: world.ledger.rows[reply].state == "sent")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_two_senders_send_each_reply_once() -> None:
    world = World()
    for number in range(20):
        await ask(world, f"a{number}", user_id=f"20000000000000000{number % 7:02}")
    other = world.a_sender()

    for _ in range(20):
        for sender in (world.sender, other):
            sender.look_now()
        await asyncio.gather(world.sender.round(), other.round())
        await asyncio.gather(world.sender.record_pending(), other.record_pending())

    assert sorted(texts(world)) == sorted(f"a{number}" for number in range(20))
