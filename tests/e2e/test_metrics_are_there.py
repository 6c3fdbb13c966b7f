"""Alerts and dashboard are about what a running hub exports, not about what its code could export."""

import asyncio
import time
import urllib.request

from tests.servers import RunningHub
from tests.unit.observability.test_alerts import EXPRESSIONS, METRIC


def scrape(hub: RunningHub) -> str:
    texts = []
    for addresses in hub.state.instances.values():
        for address in addresses:
            with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310 - our own address
                texts.append(answer.read().decode())
    return "\n".join(texts)


async def test_every_metric_of_an_alert_or_a_panel_is_exported_by_a_running_service(hub: RunningHub) -> None:
    exported = set()
    for line in (await asyncio.to_thread(scrape, hub)).splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            exported |= {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"}

    asked = {name for expression in EXPRESSIONS for name, _ in METRIC.findall(expression)}

    assert len(asked) > 20
    assert asked - exported == set()


async def test_what_is_measured_now_and_then_has_a_value_without_anybody_asking(hub: RunningHub) -> None:
    wanted = {
        'hub_ledger_rows{state="uncertain"}',
        "hub_ledger_oldest_due_seconds",
        'hub_cases_waiting{unit="thoi-an"}',
        'hub_emergencies_waiting{unit="thoi-an"}',
        'hub_dead_letters_parked{service="router"}',
        'hub_event_loop_lag_seconds{service="intake"}',
        "hub_intake_spool_events",
    }
    deadline = time.monotonic() + 150
    while missing := {w for w in wanted if f"\n{w} " not in await asyncio.to_thread(scrape, hub)}:
        assert time.monotonic() < deadline, missing
        await asyncio.sleep(0.5)
