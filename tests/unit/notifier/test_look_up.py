"""Zalo's list of a conversation: read to the end of the time that matters, or not at all; and what follows."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.notifier.adapters.rate_bucket import Grant, app_bucket
from services.notifier.adapters.reply_ledger import LedgerRow
from services.notifier.domain.outcomes import ListedMessage, NotSent, Refused, Unknown
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.look_up import LookUp
from shared.events import ReplyContent
from shared.ids import text_digest
from tests.factories import NOW, OA_ID, a_reply
from tests.unit.notifier.fakes import RULES, FakeRates, FakeTokens, ManualClock, World
from tests.unit.notifier.samples import APP_ID, CITIZEN, a_proof

A_CALL = 3
Answer = list[ListedMessage] | Refused | NotSent | Unknown


def message(number: int, *, age: float, is_from_page: bool = True) -> ListedMessage:
    return ListedMessage(f"m{number}", f"Tin {number}", is_from_page, NOW - timedelta(seconds=age))


class Api:
    """Zalo's answers, call by call; then an empty page."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.offsets: list[int] = []

    async def conversation(self, user_id: str, *, offset: int, **_: Any) -> Answer:
        assert CITIZEN.endswith(user_id)
        self.offsets.append(offset)
        return self.answers.pop(0) if self.answers else []


class Scene:
    """A look-up among stand-ins."""

    def __init__(self, *answers: Answer) -> None:
        self.api, self.rates, self.tokens = Api(*answers), FakeRates(), FakeTokens()
        self.look_up = LookUp(self.api, self.tokens, self.rates, ManualClock(), {OA_ID: APP_ID}, a_call=A_CALL)

    async def ids(self, *, seconds: float = 60, citizen: str = CITIZEN) -> list[str] | None:
        proofs = await self.look_up.messages(citizen, since=NOW - timedelta(seconds=seconds))
        return None if proofs is None else [proof.message_id for proof in proofs]


async def test_the_pages_messages_are_read_until_they_are_too_old() -> None:
    first = [message(1, age=1), message(2, age=2, is_from_page=False), message(3, age=3)]
    scene = Scene(first, [message(4, age=59), message(5, age=61), message(6, age=70)])

    assert await scene.ids() == ["m1", "m3", "m4"]
    assert scene.api.offsets == [0, 3]


async def test_a_short_answer_is_the_end() -> None:
    scene = Scene([message(1, age=1)])
    assert await scene.ids() == ["m1"]
    assert scene.api.offsets == [0]
    (proof,) = await Scene([message(1, age=1)]).look_up.messages(CITIZEN, since=NOW - timedelta(seconds=60)) or []
    assert (proof.kind, proof.text_sha256, proof.citizen_key) == ("listed", text_digest("Tin 1"), CITIZEN)


async def test_a_message_that_moved_to_the_next_answer_is_read_once() -> None:
    scene = Scene([message(n, age=n) for n in (2, 3, 4)], [message(4, age=4), message(5, age=5)])
    assert await scene.ids() == ["m2", "m3", "m4", "m5"]


async def test_a_list_in_another_order_or_without_an_end_tells_nothing() -> None:
    assert await Scene([message(1, age=5), message(2, age=1), message(3, age=0)]).ids() is None
    assert await Scene(*[[message(n * 3 + k, age=0) for k in range(3)] for n in range(20)]).ids() is None


@pytest.mark.parametrize(
    "answer",
    [
        Refused(-213, RULES.errors.codes[-213].usual),
        NotSent("refused"),
        Unknown("zalo.answer_lost", "reset"),
    ],
)
async def test_an_error_tells_nothing(answer: Answer) -> None:
    assert await Scene(answer).ids() is None
    assert await Scene([message(n, age=n) for n in (1, 2, 3)], answer).ids() is None


async def test_a_throttled_look_up_pauses_the_app_and_a_refused_token_is_renewed() -> None:
    throttled = Scene(Refused(-32, RULES.errors.codes[-32].usual, retry_after_seconds=7))
    assert await throttled.ids() is None
    assert throttled.rates.blocked == [(app_bucket(APP_ID), 7)]
    refused = Scene(Refused(-216, RULES.errors.codes[-216].usual))
    assert await refused.ids() is None
    assert refused.tokens.replaced == [1]


async def test_without_calls_to_spare_a_token_or_a_page_of_ours_nothing_is_asked() -> None:
    busy, closed, strange = Scene(), Scene(), Scene()
    busy.rates.grants[app_bucket(APP_ID)] = Grant(0, None, 1.0)
    closed.tokens.problem = TokenUnavailable("token.none")
    assert [await busy.ids(), await closed.ids(), await strange.ids(citizen="9:2")] == [None, None, None]
    assert busy.api.offsets == closed.api.offsets == strange.api.offsets == []


# What follows for a reply


async def uncertain_reply(world: World) -> str:
    event = a_reply(content=ReplyContent(text="chào"), occurred_at=NOW, interaction_at=NOW)
    await world.ledger.add([LedgerRow(event, APP_ID, 0, None)], now=NOW)
    world.zalo.outcomes = [Unknown("zalo.answer_lost", "reset")]
    await world.one_round()
    return event.event_id


async def passes(world: World, seconds: float) -> None:
    """Let time pass as the sweeps see it."""
    for _ in range(int(seconds // 50)):
        world.clock.advance(50)
        await world.settlement.check_uncertain()


async def test_a_reply_is_found_in_the_list_a_minute_later() -> None:
    world = World()
    reply_id = await uncertain_reply(world)
    world.conversations.listed = [a_proof("m7", kind="listed")]
    await passes(world, 50)
    assert world.conversations.asked == []

    await passes(world, 100)

    row = world.ledger.rows[reply_id]
    assert (row.state, row.message_id, row.settled_by) == ("sent", "m7", "listed")
    assert len(world.conversations.asked) == 1


async def test_a_reply_that_zalo_lacks_after_the_echoes_time_fails_visibly() -> None:
    world = World()
    reply_id = await uncertain_reply(world)
    await passes(world, 7_150)
    assert world.ledger.rows[reply_id].state == "uncertain"

    await passes(world, 100)

    row = world.ledger.rows[reply_id]
    assert (row.state, row.reason) == ("failed", "send.not_taken")


async def test_a_reply_that_zalo_lacks_is_sent_again_where_the_rule_says_so() -> None:
    again = replace(RULES.reply_look_up, retry_within=timedelta(hours=4))
    world = World(rules=replace(RULES, reply_look_up=again))
    reply_id = await uncertain_reply(world)

    await passes(world, 7_250)
    await world.one_round()

    row = world.ledger.rows[reply_id]
    assert (row.state, row.attempt, len(world.zalo.calls)) == ("sent", 2, 2)


async def test_while_zalo_does_not_tell_the_reply_stays_uncertain() -> None:
    world = World()
    reply_id = await uncertain_reply(world)
    world.conversations.is_told = False

    await passes(world, 100_000)

    assert world.ledger.rows[reply_id].state == "uncertain"
    assert 5 < len(world.conversations.asked) < 20
