"""The rows of articles in memory; held to the real store by the conformance suite."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.notifier.domain.articles import ArticleSend, next_look
from services.notifier.domain.settlement import NOT_SENT
from tests.unit.notifier.fakes import ManualClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KNOWN = {field.name for field in fields(ArticleSend)}


class Row:
    """A row with what only the store knows of it."""

    def __init__(self, send: ArticleSend) -> None:
        self.send = send
        self.due_at = send.step_at
        self.collect_at: datetime | None = None
        self.marked_at = EPOCH
        self.is_called = False
        self.day_slot = send.id

    def change(self, changes: Mapping[str, Any]) -> None:
        self.send = replace(self.send, **{name: value for name, value in changes.items() if name in _KNOWN})


class FakeArticleRows:
    """The `article_sends` of all broadcasts."""

    def __init__(self, clock: ManualClock, *, lease: timedelta = timedelta(seconds=60)) -> None:
        self.rows: dict[str, Row] = {}
        self._clock = clock
        self._lease = lease

    async def add(self, sends: Sequence[ArticleSend]) -> None:
        for send in sends:
            self.rows.setdefault(send.id, Row(send))

    async def of_broadcast(self, broadcast_id: str) -> list[ArticleSend]:
        found = [row.send for row in self.rows.values() if row.send.broadcast_id == broadcast_id]
        return sorted(found, key=lambda send: send.page)

    async def claim(self, *, owner: str, now: datetime) -> ArticleSend | None:
        for row in self.rows.values():
            if row.send.state == "queued" and row.due_at <= now:
                row.send = replace(row.send, state="calling", owner=owner)
                row.due_at = self._clock.now() + self._lease
                return row.send
        return None

    def _held(self, send: ArticleSend, *states: str) -> Row | None:
        row = self.rows[send.id]
        is_ours = (row.send.owner, row.send.step) == (send.owner, send.step)
        return row if is_ours and row.send.state in states else None

    async def mark_called(self, send: ArticleSend, *, now: datetime, day_slot: str | None = None) -> bool:
        row = self._held(send, "calling")
        if row is None:
            return False
        if day_slot is not None:
            if any(other.day_slot == day_slot for other in self.rows.values() if other is not row):
                return False
            row.day_slot, row.marked_at = day_slot, now
        row.is_called = True
        return True

    async def record(self, send: ArticleSend, changes: Mapping[str, Any]) -> None:
        row = self._held(send, "calling", *(["uncertain"] if changes["state"] == "sent" or "step" in changes else []))
        if row is None:
            return
        row.change(changes)
        row.is_called = False
        row.due_at = changes.get("due_at", row.due_at)
        row.collect_at = changes.get("collect_at", row.collect_at)
        if changes["state"] in {"queued", "failed", "skipped"}:
            row.day_slot, row.marked_at = send.id, EPOCH

    async def expire_leases(self, *, now: datetime) -> None:
        for row in self.rows.values():
            if row.send.state != "calling" or row.due_at > now:
                continue
            if row.is_called and row.send.step != "verify":
                row.change({"state": "uncertain", "reason": "send.lease_expired"})
            else:
                row.change({"state": "queued"})
                row.is_called, row.due_at = False, now

    async def settle(self, broadcast_id: str, page: str, *, is_sent: bool, by: str, now: datetime) -> bool:  # noqa: ARG002
        row = self.rows.get(f"{broadcast_id}:{page}")
        if row is None or row.send.state != "uncertain" or (is_sent and row.send.step != "broadcast"):
            return False
        if is_sent:
            row.change({"state": "sent", "reason": None, "sent_at": now})
            row.collect_at = next_look(now, now)
        else:
            row.change({"state": "failed", "reason": NOT_SENT})
            row.day_slot, row.marked_at = row.send.id, EPOCH
        return True

    async def cancel(self, broadcast_id: str) -> None:
        for row in self.rows.values():
            if row.send.broadcast_id == broadcast_id and row.send.state == "queued":
                row.change({"state": "skipped", "reason": "broadcast.cancelled"})

    async def sent_since(self, page: str, since: datetime) -> int:
        counted = {"calling", "sent", "uncertain"}
        return sum(
            row.send.page == page and row.marked_at >= since and row.send.state in counted for row in self.rows.values()
        )

    async def to_collect(self, *, now: datetime, limit: int) -> list[ArticleSend]:
        due = [row.send for row in self.rows.values() if row.collect_at is not None and row.collect_at <= now]
        return due[:limit]

    async def keep_statistics(
        self, send_id: str, *, views: int | None, shares: int | None, now: datetime, next_at: datetime | None
    ) -> None:
        row = self.rows[send_id]
        if views is not None:
            row.change({"views": views, "shares": shares, "collected_at": now})
        row.collect_at = next_at
