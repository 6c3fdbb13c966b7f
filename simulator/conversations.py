"""What one person and one Official Account said to each other, as the person's phone shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.clock import iso

MAX_ITEMS = 1_000
_TRIM = 200
_LISTENER_QUEUE = 256

Direction = Literal["in", "out"]
# in: sending -> sent (Zalo has it) -> received (the webhook was answered 200) -> seen; or refused while Zalo retries,
# and undelivered when it gave up. out: sent -> received -> seen.
ItemState = Literal["sending", "sent", "received", "seen", "refused", "undelivered"]


@dataclass(slots=True)
class Item:
    """One message; `direction` is the account's view: "in" was written by the citizen."""

    seq: int
    direction: Direction
    msg_id: str
    at_ms: int
    text: str = ""
    attachments: list[dict[str, Any]] = field(default_factory=list)
    buttons: list[dict[str, Any]] = field(default_factory=list)
    quote_message_id: str = ""
    state: ItemState = "sent"
    hidden: bool = False
    reaction: str = ""
    retry_wait_seconds: float = 0.0

    def public(self) -> dict[str, Any]:
        """The shape of the control API and of the phone page."""
        return {
            "seq": self.seq,
            "direction": self.direction,
            "msg_id": self.msg_id,
            "at": iso(self.at_ms),
            "text": self.text,
            "attachments": self.attachments,
            "buttons": self.buttons,
            "quote_message_id": self.quote_message_id,
            "state": self.state,
            "hidden": self.hidden,
            "reaction": self.reaction,
            "retry_wait_seconds": self.retry_wait_seconds,
        }


@dataclass(slots=True)
class Conversation:
    """The newest messages of one person with one account, bounded, with people waiting for the next one."""

    items: list[Item] = field(default_factory=list)
    last_seq: int = 0
    _by_msg_id: dict[str, Item] = field(default_factory=dict)
    _listeners: set[asyncio.Queue[Item]] = field(default_factory=set)

    def add(self, direction: Direction, msg_id: str, at_ms: int, **content: Any) -> Item:
        """Append a message and tell whoever watches."""
        self.last_seq += 1
        item = Item(seq=self.last_seq, direction=direction, msg_id=msg_id, at_ms=at_ms, **content)
        self.items.append(item)
        self._by_msg_id[msg_id] = item
        if len(self.items) > MAX_ITEMS:
            for old in self.items[:_TRIM]:
                self._by_msg_id.pop(old.msg_id, None)
            del self.items[:_TRIM]
        self.announce(item)
        return item

    def restore(self, items: list[Item], last_seq: int) -> None:
        """Put back what an earlier run remembered."""
        self.items = items
        self.last_seq = last_seq
        self._by_msg_id = {item.msg_id: item for item in items}

    def find(self, msg_id: str) -> Item | None:
        """The message with this id, if it is still remembered."""
        return self._by_msg_id.get(msg_id)

    def after(self, seq: int) -> list[Item]:
        """Messages newer than a sequence number, oldest first."""
        if not self.items or seq >= self.last_seq:
            return []
        first = self.items[0].seq
        return self.items[max(0, seq - first + 1) :]

    def set_state(self, item: Item, state: ItemState) -> None:
        """Change the mark beside a message."""
        if item.state != state:
            item.state = state
            self.announce(item)

    def announce(self, item: Item) -> None:
        """Tell the watchers that this message is new or changed; a watcher that fell far behind misses some."""
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(item)

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[Item]]:
        """Receive every new or changed message while the block runs."""
        queue: asyncio.Queue[Item] = asyncio.Queue(_LISTENER_QUEUE)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
