"""Two broadcasts in any order of events, on the ledger's stand-in; what must hold is said in `broadcast_machine.py`."""

import pytest
from hypothesis import settings

from tests.properties import examples
from tests.unit.notifier.broadcast_machine import BroadcastMachine

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
