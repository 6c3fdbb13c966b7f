"""Fixtures: a listening hub, and a simulator that sends to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.simulator.live import Live, Receiver, listening, running, settings_for


@pytest.fixture
async def hub() -> AsyncIterator[Receiver]:
    async with listening() as receiver:
        yield receiver


@pytest.fixture
async def live(tmp_path: Path, hub: Receiver) -> AsyncIterator[Live]:
    async with running(settings_for(tmp_path, webhook_url=hub.url)) as simulator:
        yield simulator
