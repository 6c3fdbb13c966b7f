"""Two broadcasts in any order of events, on the real ledger; what must hold is said in `broadcast_machine.py`.

Here the counters of chunks are stored ones, and whoever writes rows may die before it counts them. The database's clock
is the machine's: it stands in for `$$NOW`, so that days pass at once.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import SecretStr

from services.notifier.adapters.recipient_ledger import RecipientLedger
from shared.collections import create_indexes
from shared.errors import StoreUnavailable
from shared.mongo import Collection, Store, open_store
from shared.settings import HubSettings
from tests.properties import examples
from tests.unit.notifier.broadcast_machine import BroadcastMachine
from tests.unit.notifier.fakes import LEASE, ManualClock

COLLECTIONS = ("broadcast_chunks", "recipients")
UNRELIABLE = ("claim_chunk", "rows_of", "renew", "release", "mark_wave", "record")
UPDATES = ("update_one", "update_many", "find_one_and_update")


def at(update: Any, now: Any) -> Any:
    """An update with this moment in the place of the server's."""
    match update:
        case "$$NOW":
            return now
        case Mapping():
            return {name: at(value, now) for name, value in update.items()}
        case list():
            return [at(value, now) for value in update]
        case _:
            return update


class TimedCollection:
    """A collection whose updates are made at the machine's time."""

    def __init__(self, collection: Collection, clock: ManualClock) -> None:
        self._collection = collection
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._collection, name)
        return partial(self._update, call) if name in UPDATES else call

    def _update(self, call: Any, filter_: Any, update: Any, **options: Any) -> Any:
        return call(filter_, at(update, self._clock.now()), **options)


class TimedStore(Store):
    """A database whose clock is the machine's."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.__dict__.update(vars(store))
        self._clock = clock

    def __getitem__(self, name: str) -> Collection:
        return cast("Collection", TimedCollection(super().__getitem__(name), self._clock))

    async def server_now(self) -> Any:
        return self._clock.now()


class UnreliableLedger:
    """The real ledger, whose next calls fail as the stand-in's do: before they are applied, or (`True`) after."""

    def __init__(self, ledger: RecipientLedger) -> None:
        self._ledger = ledger
        self.outages: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._ledger, name)
        return partial(self._try, call) if name in UNRELIABLE else call

    async def _try(self, call: Any, *arguments: Any, **options: Any) -> Any:
        if not self.outages:
            return await call(*arguments, **options)
        if self.outages.pop(0):
            await call(*arguments, **options)
        raise StoreUnavailable("an outage")


class RealLedgerMachine(BroadcastMachine):
    """The machine with the ledger of the product in a database."""

    settings_of_hub: HubSettings

    def a_ledger(self) -> Any:
        """The ledger of the product, empty."""
        self.store = open_store(self.settings_of_hub)
        self.run(self._emptied())
        return UnreliableLedger(RecipientLedger(TimedStore(self.store, self.clock), lease=LEASE))

    async def _emptied(self) -> None:
        for name in COLLECTIONS:
            await self.store[name].delete_many({})

    def teardown(self) -> None:
        """Count, and let the database go."""
        try:
            self.run(self.end())
            self.run(self.store.close())
        finally:
            self.close()


@pytest.mark.hypothesis  # so that `make explore T=tests/integration/test_notifier_broadcast_machine.py` finds it
def test_broadcasts_add_up_on_the_real_ledger(mongo_uri: str) -> None:
    names = {"mongo_uri": SecretStr(mongo_uri), "mongo_database": "broadcast_machine", "mongo_driver": "pymongo"}
    RealLedgerMachine.settings_of_hub = HubSettings.model_validate(names)

    async def prepare(*, is_over: bool) -> None:
        store = open_store(RealLedgerMachine.settings_of_hub)
        await store.drop()
        if not is_over:
            await create_indexes(store)
        await store.close()

    asyncio.run(prepare(is_over=False))
    try:
        run_state_machine_as_test(
            RealLedgerMachine, settings=settings(max_examples=examples(8), stateful_step_count=20)
        )
    finally:
        asyncio.run(prepare(is_over=True))
