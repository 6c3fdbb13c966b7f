"""Two broadcasts in any order of events, on the ledger's stand-in; what must hold is said in `broadcast_machine.py`."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import settings

from services.notifier.adapters.zalo_copies import Address, Form
from services.notifier.domain.outcomes import SendOutcome
from services.notifier.handlers.send_copies import DECIDED_FOR
from tests.properties import examples
from tests.unit.notifier.broadcast_machine import PEOPLE, WAVE, BroadcastMachine

BroadcastMachine.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=30)
TestBroadcastMachine = BroadcastMachine.TestCase


@pytest.mark.parametrize("dies", range(4))
def test_a_copy_that_waits_for_a_dead_workers_copy_does_not_keep_it_from_being_taken_up(dies: int) -> None:
    """Two broadcasts to the same people: the first's worker dies in a call, the second's copies wait for that one."""
    machine = BroadcastMachine()
    machine.schedule(forecast=0)
    machine.schedule(forecast=0)
    machine.work(replicas=(0,), fates=[], outages=[True])
    machine.work(replicas=(0, 1), fates=["accepted"] * dies + ["dies_before", "accepted", "accepted"], outages=[])
    machine.teardown()


class SlowMachine(BroadcastMachine):
    """Each wave takes half a minute, and after the first all citizens say stop."""

    chunk_persons = PEOPLE

    async def send(self, form: Form, addresses: Sequence[Address]) -> list[SendOutcome]:
        outcomes = await super().send(form, addresses)
        self.clock.advance(DECIDED_FOR.total_seconds())
        for number in range(PEOPLE):
            self.citizen_chooses(number=number, opted_out=True)
        return outcomes


def test_who_says_stop_while_a_chunk_is_slowly_sent_gets_no_copy() -> None:
    machine = SlowMachine()
    machine.schedule(forecast=0)
    for _ in range(3):
        machine.work(replicas=(0,), fates=[], outages=[])
    reasons = Counter(row.reason for row in machine.run(machine.rows()))
    machine.teardown()

    assert reasons == {None: WAVE, "contact.opted_out": PEOPLE - WAVE}
