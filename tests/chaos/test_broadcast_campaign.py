"""The short form of `python -m tests.campaigns.broadcast`: a broadcast while replicas, broker and database die.

What must hold and how we break it is said there; the verdict comes from the simulator's log.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.broadcast import Plan, conduct, environment_of
from tests.servers import KAFKA_TITLE, RunningHub, mongo_product, running_hub

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PLAN = Plan(
    followers=1_500,
    replicas=2,
    kafka_nodes=1,
    kills={"notifier": 3, "kafka": 1, "mongo": 1},
    pauses=2,
    per_minute=12_000,
    wave=20,
    seed=int(os.environ.get("CHAOS_SEED", "20261127")),
)


@pytest.fixture
def breakable_hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(environment=environment_of(PLAN, tmp_path)) as hub:
        request.node.user_properties.append(
            ("servers", [f"whole hub: {KAFKA_TITLE} and {mongo_product(str(hub.state.mongo))} (embedded)"])
        )
        yield hub


async def test_a_broadcast_through_kills_and_pauses_reaches_each_follower_at_most_once_and_adds_up(
    breakable_hub: RunningHub,
) -> None:
    verdict = await conduct(PLAN, breakable_hub)

    print(f"\n{verdict.table}")
    assert verdict.faults == []
