import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from services.intake.domain import SpooledRow, SpoolState
from services.intake.errors import ProducerStuck
from services.intake.handlers.keeping import Keeper, SpoolFlag
from services.intake.handlers.relay import RelayDeps, look_into_spool, relay_round, relay_spool
from shared.errors import BrokerUnavailable, EventTooLarge
from tests.unit.intake.support import KAFKA_IS_AWAY, MONGO_IS_AWAY, FakeParking, FakePublisher, FakeSpool, until


@dataclass
class Rows:
    """A spool full of rows."""

    rows: list[SpooledRow] = field(default_factory=list)
    failure: Exception | None = None

    async def is_empty(self) -> bool:
        if self.failure:
            raise self.failure
        return not self.rows

    async def state(self) -> SpoolState:
        return SpoolState(len(self.rows), 1.0 if self.rows else 0.0)

    async def next_rows(self, limit: int) -> list[SpooledRow]:
        return self.rows[:limit]

    async def remove(self, event_ids: Sequence[str]) -> None:
        self.rows = [row for row in self.rows if row.event_id not in event_ids]


@dataclass
class Kafka:
    """Takes raw records, refusing some."""

    taken: list[tuple[str, bytes]] = field(default_factory=list)
    refuse: dict[bytes, Exception] = field(default_factory=dict)

    async def publish_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: dict[str, str]) -> None:
        await asyncio.sleep(0)
        assert (topic, headers["ce_id"][:1]) == ("citizen.messages.v1", "e")
        if value in self.refuse:
            raise self.refuse[value]
        self.taken.append(((key or b"").decode(), value))


@dataclass
class Turn:
    """The lease."""

    is_ours: bool = True
    released: int = 0

    async def acquire(self) -> bool:
        return self.is_ours

    async def release(self) -> None:
        self.released += 1


@dataclass
class RowParking:
    """Dead letters."""

    parked: list[tuple[str, str]] = field(default_factory=list)

    async def park_row(self, row: SpooledRow, reason: str) -> None:
        self.parked.append((row.event_id, reason))


def a_row(number: int, key: str) -> SpooledRow:
    return SpooledRow(f"e{number}", number, "citizen.messages.v1", key, {"ce_id": f"e{number}"}, f"v{number}".encode())


class Case:
    """A relay over fakes."""

    def __init__(self, rows: list[SpooledRow], *, batch: int = 100) -> None:
        self.spool, self.kafka, self.turn, self.parking, self.flag = (
            Rows(rows),
            Kafka(),
            Turn(),
            RowParking(),
            SpoolFlag(),
        )
        self.kafka_is_well = False
        keeper = Keeper(
            FakePublisher(), FakeSpool(), FakeParking(), self.flag, outage_memory_seconds=1, reserve_seconds=0.1
        )
        self.deps = RelayDeps(
            spool=self.spool,
            publisher=self.kafka,
            parking=self.parking,
            lease=self.turn,
            flag=self.flag,
            keeper=keeper,
            batch=batch,
            poll_seconds=0.001,
            lease_seconds=60,
            kafka_answers=self.kafka_answers,
            stuck_seconds=0,
        )

    async def kafka_answers(self) -> bool:
        return self.kafka_is_well

    def taken_of(self, key: str) -> list[bytes]:
        return [value for taken_key, value in self.kafka.taken if taken_key == key]


def interleaved() -> list[SpooledRow]:
    return [a_row(number, f"citizen-{number % 3}") for number in range(30)]


async def test_rows_leave_in_the_order_of_each_citizen() -> None:
    case = Case(interleaved())

    assert await relay_round(case.deps) == 30

    for citizen in range(3):
        assert case.taken_of(f"citizen-{citizen}") == [f"v{n}".encode() for n in range(citizen, 30, 3)]
    assert case.spool.rows == []


async def test_what_kafka_refuses_stays_with_all_that_follows_it_of_the_same_citizen() -> None:
    case = Case(interleaved())
    case.kafka.refuse[b"v9"] = KAFKA_IS_AWAY

    with pytest.raises(BrokerUnavailable):
        await relay_round(case.deps)

    assert case.taken_of("citizen-0") == [b"v0", b"v3", b"v6"]
    left = [row.event_id for row in case.spool.rows if row.key == "citizen-0"]
    assert left == [f"e{n}" for n in range(9, 30, 3)]
    assert {value for _, value in case.kafka.taken}.isdisjoint({row.value for row in case.spool.rows})


async def test_a_row_that_can_never_be_published_is_parked_and_does_not_block() -> None:
    case = Case(interleaved())
    case.kafka.refuse[b"v3"] = EventTooLarge("too large")

    assert await relay_round(case.deps) == 30

    assert case.parking.parked == [("e3", "event.too_large")]
    assert case.spool.rows == []


async def test_only_the_holder_of_the_lease_relays() -> None:
    case = Case(interleaved())
    case.turn.is_ours = False

    assert await relay_round(case.deps) == 0
    assert case.kafka.taken == []


async def test_the_lease_is_given_back_when_the_spool_is_done() -> None:
    case = Case(interleaved(), batch=20)

    await relay_round(case.deps)
    assert case.turn.released == 0
    await relay_round(case.deps)
    assert case.turn.released == 1


async def test_a_look_that_finds_something_makes_new_webhooks_queue_up() -> None:
    case = Case(interleaved())

    assert not await look_into_spool(case.deps)
    assert case.flag.is_raised


async def test_the_relay_survives_outages_and_empties_the_spool_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.intake.handlers.relay.BACKOFF_SECONDS", (0.001,))
    case = Case(interleaved(), batch=7)
    case.kafka.refuse[b"v12"] = KAFKA_IS_AWAY
    case.spool.failure = MONGO_IS_AWAY
    task = asyncio.create_task(relay_spool(case.deps))
    await asyncio.sleep(0.01)
    assert case.kafka.taken == []

    case.spool.failure = None
    await until(lambda: len(case.kafka.taken) >= 12)
    case.kafka.refuse.clear()
    await until(lambda: not case.flag.is_raised and not case.spool.rows)
    task.cancel()

    for citizen in range(3):
        assert case.taken_of(f"citizen-{citizen}") == [f"v{n}".encode() for n in range(citizen, 30, 3)]


async def test_a_producer_that_is_dead_while_kafka_is_well_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.intake.handlers.relay.BACKOFF_SECONDS", (0.001,))
    case = Case(interleaved())
    case.kafka.refuse = {row.value: RuntimeError("the sender is gone") for row in case.spool.rows}
    task = asyncio.create_task(relay_spool(case.deps))
    await asyncio.sleep(0.05)
    assert not task.done()

    case.kafka_is_well = True

    with pytest.raises(ProducerStuck):
        await asyncio.wait_for(task, 10)
    assert len(case.spool.rows) == 30
