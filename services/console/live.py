"""Live pages: one look into the database for all who watch, and a short signal to those whose page is out of date.

A signal names what changed (`queue`, `case`, `pending`); the page then fetches that part again through the same route
and rules as ever. So the stream itself carries no text of any case, and a lost signal costs nothing: the next one, or
the next connection, says the same.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from services.console.adapters.action_store import ActionStore
from services.console.adapters.case_store import CaseRepository
from services.console.domain import Scope
from shared.errors import StoreUnavailable
from shared.mongo import Document, Store
from shared.telemetry import get_logger

log = get_logger()

HEARTBEAT_SECONDS = 5.0
"""By it a page notices a connection that died silently; also how long a revoked session may receive signals."""

WAKE_SECONDS = 0.5
MAX_WATCHERS = 500
MAX_WATCHERS_PER_ACCOUNT = 20


@dataclass(eq=False)
class Watcher:
    """One open page.

    Attributes:
        account: whose pending decisions it shows.
        scope: what the officer may see.
        code: the case on the page, if it is a case's page.
        seen: what the page shows now, by topic.
        changed: what to signal.
    """

    account: str
    scope: Scope
    code: str | None
    seen: dict[str, str]
    changed: dict[str, None] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, topic: str, fingerprint: str) -> None:
        """Note a state; a page that shows another one gets a signal."""
        if self.seen.get(topic) != fingerprint:
            self.seen[topic] = fingerprint
            self.changed[topic] = None
            self.wake.set()


def digest(state: str) -> str:
    """A short name of a state, to put into a page's address of the stream."""
    return hashlib.blake2b(state.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class LiveHub:
    """All open pages of this process and the one poller that serves them."""

    def __init__(self, store: Store, actions: ActionStore, *, poll_seconds: float) -> None:
        self._store = store
        self._actions = actions
        self._poll_seconds = poll_seconds
        self._watchers: set[Watcher] = set()
        self._somebody_watches = asyncio.Event()
        self.is_stopping: Callable[[], bool] = lambda: False
        self.polls = 0

    @property
    def watchers(self) -> int:
        """How many pages are open."""
        return len(self._watchers)

    async def fingerprints(self, scope: Scope, *, account: str, code: str | None = None) -> dict[str, str]:
        """What a page made now would show, by topic."""
        repository = CaseRepository(self._store, scope)
        seen = {
            "queue": digest(await repository.queue_fingerprint()),
            "pending": digest(_pending(await self._actions.waiting_of([account]))),
        }
        if code is not None:
            seen["case"] = digest((await repository.fingerprints([code]))[code])
        return seen

    async def stream(self, watcher: Watcher, is_valid: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """Server-sent events for one page, until it goes away, its session ends or the process stops.

        Args:
            watcher: the page.
            is_valid: asks whether the session still holds; called at every heartbeat.
        """
        mine = [other for other in self._watchers if other.account == watcher.account]
        if len(self._watchers) >= MAX_WATCHERS or len(mine) >= MAX_WATCHERS_PER_ACCOUNT:
            yield b"retry: 30000\nevent: busy\ndata: \n\n"
            return
        self._watchers.add(watcher)
        self._somebody_watches.set()
        try:
            yield b"retry: 2000\nevent: hello\ndata: \n\n"
            quiet_seconds = 0.0
            while not self.is_stopping():
                try:
                    async with asyncio.timeout(WAKE_SECONDS):
                        await watcher.wake.wait()
                except TimeoutError:
                    quiet_seconds += WAKE_SECONDS
                    if quiet_seconds < HEARTBEAT_SECONDS:
                        continue
                    quiet_seconds = 0.0
                    if not await is_valid():
                        yield b"event: signed-out\ndata: \n\n"
                        return
                    yield b"event: beat\ndata: \n\n"
                else:
                    watcher.wake.clear()
                    topics, watcher.changed = list(watcher.changed), {}
                    if not await is_valid():
                        yield b"event: signed-out\ndata: \n\n"
                        return
                    yield "".join(f"event: {topic}\ndata: \n\n" for topic in topics).encode()
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._somebody_watches.clear()

    async def run(self) -> None:
        """Poll until cancelled; sleeps while nobody watches."""
        while True:
            await self._somebody_watches.wait()
            try:
                await self._look()
            except StoreUnavailable as error:
                log.warning("live.waiting", error=str(error))
                self._tell_trouble()
            except Exception:  # one document that cannot be read must not take the page from everybody
                log.exception("live.failed")
                self._tell_trouble()
            else:
                for watcher in list(self._watchers):
                    if watcher.seen.pop("trouble", None):
                        watcher.changed["recovered"] = None
                        watcher.wake.set()
            await asyncio.sleep(self._poll_seconds)

    def _tell_trouble(self) -> None:
        for watcher in list(self._watchers):
            watcher.offer("trouble", "yes")

    async def _look(self) -> None:
        self.polls += 1
        by_scope: dict[Scope, list[Watcher]] = {}
        for watcher in self._watchers:
            by_scope.setdefault(watcher.scope, []).append(watcher)
        accounts = sorted({watcher.account for watcher in self._watchers})
        waiting = await self._actions.waiting_of(accounts)
        for scope, watchers in by_scope.items():
            repository = CaseRepository(self._store, scope)
            queue = digest(await repository.queue_fingerprint())
            codes = sorted({watcher.code for watcher in watchers if watcher.code is not None})
            cases = await repository.fingerprints(codes) if codes else {}
            for watcher in watchers:
                watcher.offer("queue", queue)
                watcher.offer("pending", digest(_pending(a for a in waiting if a["officer"] == watcher.account)))
                if watcher.code is not None:
                    watcher.offer("case", digest(cases[watcher.code]))


def _pending(actions: Iterable[Document]) -> str:
    return "|".join(f"{action['_id']}{action['due_at']}" for action in actions)
