"""The broadcast store in memory; held to the real one by the conformance suite."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

from services.notifier.domain.broadcast import Broadcast, BroadcastState, Snapshot

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FakeBroadcastStore:
    """The `broadcasts` of all units.

    Attributes:
        lost_races: how many of the next `save` calls find that somebody was faster.
    """

    def __init__(self) -> None:
        self.broadcasts: dict[str, Broadcast] = {}
        self.lost_races = 0

    async def create(self, broadcast: Broadcast) -> bool:
        return self.broadcasts.setdefault(broadcast.id, broadcast) is broadcast

    async def read(self, broadcast_id: str) -> Broadcast | None:
        return self.broadcasts.get(broadcast_id)

    async def state_of(self, broadcast_id: str) -> BroadcastState | None:
        known = self.broadcasts.get(broadcast_id)
        return None if known is None else known.state

    async def save(self, changed: Broadcast) -> bool:
        if self.lost_races:
            self.lost_races -= 1
            return False
        known = self.broadcasts.get(changed.id)
        if known is not None and replace(changed, snapshot=known.snapshot) == known:
            return True
        if known is None or known.version != changed.version - 1:
            return False
        self.broadcasts[changed.id] = replace(changed, snapshot=known.snapshot)
        return True

    async def keep_snapshot(self, broadcast_id: str, snapshot: Snapshot) -> bool:
        known = self.broadcasts.get(broadcast_id)
        if known is None:
            return False
        if not known.snapshot.is_complete:
            self.broadcasts[broadcast_id] = replace(known, snapshot=snapshot)
            return True
        return known.snapshot == snapshot

    async def find(
        self,
        *,
        states: Collection[BroadcastState] = (),
        unit: str | None = None,
        limit: int = 200,
        skip: int = 0,
    ) -> list[Broadcast]:
        found = [
            one
            for one in self.broadcasts.values()
            if (not states or one.state in states) and (unit is None or one.draft.unit == unit)
        ]
        newest = sorted(found, key=lambda one: (one.created_at or EPOCH, one.id), reverse=True)
        return newest[skip : skip + min(limit, 200)]

    async def every(self, states: Collection[BroadcastState]) -> list[Broadcast]:
        return [one for one in self.broadcasts.values() if one.state in states]

    async def due(self, now: datetime) -> list[str]:
        waiting = [
            (one.starts_at, one.id)
            for one in self.broadcasts.values()
            if one.state == "scheduled" and one.starts_at is not None and one.starts_at <= now
        ]
        return [broadcast_id for _, broadcast_id in sorted(waiting)]
