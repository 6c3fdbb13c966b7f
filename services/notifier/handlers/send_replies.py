"""Sending: due replies of the ledger go to Zalo, each at most once, each citizen's in order.

One round takes candidates, asks the gate, takes rate tokens and claims no more than there are free slots; then the
claimed replies are marked and sent side by side, and what they came to is recorded in bulk. A slot is free again only
when its outcome is recorded, so that a kill leaves at most `slots` replies of which nobody knows.
"""

import asyncio
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from services.notifier.adapters.rate_bucket import app_bucket, page_bucket
from services.notifier.adapters.reply_ledger import Result
from services.notifier.domain.gate import Free, Gone, Held, gate
from services.notifier.domain.next_step import Fail, Park, Sent, Step, TryAgain, next_step, without_token
from services.notifier.domain.outcomes import Accepted, Refused, SendOutcome
from services.notifier.domain.permission import Allowed, Denied, permission
from services.notifier.domain.reply import EMERGENCY, PRIORITIES, Candidate, Contact, Reply
from services.notifier.domain.rules import VIETNAM, DeliveryRules
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.call_marks import CallMarks
from services.notifier.handlers.keep_tokens import AccessToken
from services.notifier.handlers.ports import Clock, Contacts, Ledger, Rates, Reports, Sender
from services.notifier.handlers.recording import until_stored
from services.notifier.handlers.settle import Settlement
from services.notifier.handlers.throttle import paused_until
from shared.crash import crash_point
from shared.errors import StoreUnavailable
from shared.telemetry import get_logger
from shared.tracing import tracing_of

log = get_logger()
T = TypeVar("T")

SENDS = Counter("hub_sends", "Send attempts, by what followed", ["step", "reason"])
SEND_SECONDS = Histogram("hub_send_seconds", "Time of one call to Zalo, seconds", ["outcome"])
REPLY_SECONDS = Histogram(
    "hub_reply_seconds",
    "From a reply's request to Zalo's acceptance, seconds",
    buckets=(0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200),
)

BUFFER = 2_000
"""Candidates fetched at once: in a backlog one search feeds many rounds."""
MAX_HINTS = 10_000
STORE_PAUSE_SECONDS = 0.5
SWEEP_SECONDS = 1.0
AFTER_OUTAGE_SECONDS = 10.0
"""After an outage of the database the senders write down their outcomes first; only then claims are called dead."""


class TokenSource(Protocol):
    """The token keeper, as a sender sees it."""

    async def access(self, oa_id: str) -> AccessToken:
        """The page's access token."""
        ...

    async def replace(self, oa_id: str, generation: int) -> AccessToken:
        """Another token than the refused one."""
        ...

    async def worked(self, oa_id: str, generation: int, *, started_at: datetime) -> None:
        """Learn from an accepted call."""
        ...


@dataclass(frozen=True)
class SendLimits:
    """How the sender works; see the settings of the same names."""

    slots: int
    lease: timedelta
    call_timeout: timedelta
    lease_margin: timedelta
    grace: timedelta
    poll_seconds: float
    stop_seconds: float
    pays_beyond_free: bool


@dataclass(frozen=True)
class Adapters:
    """The outside of the sender."""

    ledger: Ledger
    contacts: Contacts
    reports: Reports
    rates: Rates
    tokens: TokenSource
    zalo: Sender
    clock: Clock


class ReplySender:
    """Sends due replies until it is stopped.

    Args:
        outside: the adapters.
        settlement: settles what became uncertain.
        rules: of delivery.
        limits: slots, lease and waits.
    """

    def __init__(self, outside: Adapters, settlement: Settlement, rules: DeliveryRules, limits: SendLimits) -> None:
        self._ledger = outside.ledger
        self._marks = CallMarks(outside.ledger)
        self._outside = outside
        self._settlement = settlement
        self._rules = rules
        self._limits = limits
        self._instance = secrets.token_hex(6)
        self._rounds = 0
        self._wake = asyncio.Event()
        self._candidates: dict[int, deque[Candidate]] = {priority: deque() for priority in PRIORITIES}
        self._buffered: set[str] = set()
        self._waiting: dict[str, list[Candidate]] = defaultdict(list)
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._unreleased: list[tuple[list[str], str]] = []
        self._results: asyncio.Queue[Result] = asyncio.Queue()
        self._next_poll = 0.0
        self._pause_until = 0.0
        self._store_failed_at = -AFTER_OUTAGE_SECONDS

    @property
    def in_flight(self) -> int:
        """Calls that are not recorded yet."""
        return len(self._in_flight)

    def notice(self, candidates: Iterable[Candidate]) -> None:
        """Replies were queued: send them without waiting for the next search."""
        for candidate in candidates:
            if len(self._buffered) >= MAX_HINTS:
                break  # the search will find them
            self._buffer(candidate)
        self._wake.set()

    def look_now(self) -> None:
        """Search the ledger at once."""
        self._next_poll = 0.0
        self._wake.set()

    def _buffer(self, candidate: Candidate, *, first: bool = False) -> None:
        if candidate.id in self._buffered or candidate.id in self._in_flight:
            return
        self._buffered.add(candidate.id)
        queue = self._candidates[candidate.priority]
        if first:
            queue.appendleft(candidate)
        else:
            queue.append(candidate)

    # The loops

    async def run(self) -> None:
        """Send until cancelled; then finish what is in flight."""
        recorder = asyncio.create_task(self._record_all())
        working: asyncio.Task[int] | None = None
        try:
            while True:
                await self._wait()
                if recorder.done():
                    recorder.result()  # a fault of ours: without it no outcome is ever written down
                try:
                    working = asyncio.create_task(self.round())
                    await asyncio.shield(working)
                except StoreUnavailable as error:
                    self._store_failed_at = time.monotonic()
                    log.warning("sending.waiting", error=str(error))
                    await asyncio.sleep(STORE_PAUSE_SECONDS)
        finally:
            # A round that is cut off could leave claims that nobody sends, and that nobody may send again.
            if working is not None:
                await asyncio.wait([working], timeout=self._limits.stop_seconds)
            await self._finish(recorder)

    async def _wait(self) -> None:
        now = time.monotonic()
        wait_seconds = max(self._next_poll - now, 0.0)
        if self.in_flight >= self._limits.slots:
            wait_seconds = self._limits.poll_seconds  # a recorded outcome wakes us
        elif self._has_candidates():
            wait_seconds = max(self._pause_until - now, 0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await self._wake.wait()
        self._wake.clear()
        if (still := self._pause_until - time.monotonic()) > 0 and not self._candidates[EMERGENCY]:
            await asyncio.sleep(min(still, self._limits.poll_seconds))

    def _has_candidates(self) -> bool:
        return any(self._candidates.values())

    async def _finish(self, recorder: asyncio.Task[None]) -> None:
        """Let calls in flight end and write down what they came to; what is left is found by its lease."""
        if self._in_flight:
            log.info("sending.finishing", in_flight=self.in_flight)
        deadline = time.monotonic() + self._limits.stop_seconds
        while self._in_flight and time.monotonic() < deadline:
            await asyncio.wait(list(self._in_flight.values()), timeout=0.05)
            await asyncio.sleep(0.005)  # the recorder frees the slots
        for task in [*self._in_flight.values(), recorder]:
            task.cancel()
        await asyncio.gather(*self._in_flight.values(), recorder, return_exceptions=True)

    async def sweep(self) -> None:
        """End unrecorded claims when their lease is over, and look at uncertain replies again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if time.monotonic() - self._store_failed_at < AFTER_OUTAGE_SECONDS:
                continue
            try:
                await self.sweep_once()
            except StoreUnavailable as error:
                self._store_failed_at = time.monotonic()
                log.warning("sweep.waiting", error=str(error))

    async def sweep_once(self) -> None:
        """One sweep.

        Raises:
            StoreUnavailable: repeat it.
        """
        expired = await self._ledger.expire_leases(next_check=self._settlement.checks[0])
        if expired.requeued:
            log.warning("replies.requeued", count=len(expired.requeued), reason="send.never_called")
            SENDS.labels("TryAgain", "send.never_called").inc(len(expired.requeued))
        if expired.uncertain:
            log.warning("replies.became_uncertain", count=len(expired.uncertain), reason="send.lease_expired")
            SENDS.labels("Park", "send.lease_expired").inc(len(expired.uncertain))
            await self._settlement.of_citizens(expired.uncertain)
        if await self._settlement.check_uncertain() or expired.requeued or expired.uncertain:
            self.look_now()

    # One round

    async def round(self) -> int:
        """Choose, claim and start sends.

        Returns:
            How many were started.

        Raises:
            StoreUnavailable: nothing is lost; claims whose fate is not known are given back first next time.
        """
        await self._give_back()
        free = self._limits.slots - self.in_flight
        if free <= 0:
            return 0
        await self._search()
        looked_at = self._take_candidates(free)
        if not looked_at:
            return 0
        try:
            chosen = await self._through_gate(looked_at, free)
            chosen = await self._within_limits(chosen)
            if not chosen:
                return 0
            claimed = await self._claim(chosen)
        except StoreUnavailable:
            for candidate in reversed(looked_at):
                self._buffer(candidate, first=True)
            raise
        return claimed

    async def _give_back(self) -> None:
        while self._unreleased:
            ids, owner = self._unreleased[-1]
            await self._ledger.release(ids, owner=owner, now=self._outside.clock.now())
            self._unreleased.pop()

    async def _search(self) -> None:
        """Search the ledger now and then for what no event announced: restarts, retries, other replicas' leftovers."""
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + self._limits.poll_seconds
        at = self._outside.clock.now()
        for priority in PRIORITIES:
            if len(self._candidates[priority]) >= self._limits.slots:
                continue  # enough in hand: in a backlog the search is not free
            found = await self._ledger.due(priority, now=at, limit=BUFFER)
            for candidate in found:
                self._buffer(candidate)

    def _take_candidates(self, count: int) -> list[Candidate]:
        taken: list[Candidate] = []
        for priority in PRIORITIES:
            queue = self._candidates[priority]
            while queue and len(taken) < count:
                candidate = queue.popleft()
                self._buffered.discard(candidate.id)
                if candidate.id not in self._in_flight:
                    taken.append(candidate)
        return taken

    async def _through_gate(self, candidates: Sequence[Candidate], free: int) -> list[Candidate]:
        now = self._outside.clock.now()
        gates = await self._ledger.unfinished({candidate.citizen_key for candidate in candidates})
        chosen: dict[str, Candidate] = {}
        put_off: dict[tuple[str, datetime], list[str]] = defaultdict(list)
        for candidate in candidates:
            of_citizen = gates.get(candidate.citizen_key, [])
            match gate(candidate.id, of_citizen, now=now, grace=self._limits.grace):
                case Free() if len(chosen) < free:
                    chosen[candidate.id] = candidate
                case Free():
                    self._buffer(candidate)
                case Held(by, None):
                    self._waiting[candidate.citizen_key].append(candidate)
                    # The older reply takes over the urgency of the one behind it; else a row of emergencies would
                    # wait for an ordinary reply to whose turn it never comes.
                    is_free = isinstance(gate(by, of_citizen, now=now, grace=self._limits.grace), Free)
                    if is_free and len(chosen) < free:
                        chosen[by] = replace(candidate, id=by)
                case Held(by, until) if until is not None:
                    put_off[by, until].append(candidate.id)
                case Gone():
                    pass
        for (by, until), ids in put_off.items():
            await self._ledger.put_off(ids, until=until, held_by=by)
        self._forget_held()
        return list(chosen.values())

    def _forget_held(self) -> None:
        """Bound the memory of held replies; the search finds them again."""
        if sum(map(len, self._waiting.values())) > MAX_HINTS:
            self._waiting.clear()

    async def _within_limits(self, chosen: Sequence[Candidate]) -> list[Candidate]:
        """Those for which the page and the app may still call now; the others wait."""
        by_page: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
        for candidate in chosen:
            by_page[candidate.app_id, candidate.oa_id].append(candidate)
        allowed_by_page: dict[str, list[Candidate]] = defaultdict(list)
        for (app_id, oa_id), candidates in by_page.items():
            allowed_by_page[app_id] += await self._take_tokens(page_bucket(oa_id), candidates)
        allowed: list[Candidate] = []
        for app_id, candidates in allowed_by_page.items():
            candidates.sort(key=lambda candidate: candidate.priority)
            passed = await self._take_tokens(app_bucket(app_id), candidates)
            allowed += passed
            for candidate in candidates[len(passed) :]:
                self._outside.rates.give_back(page_bucket(candidate.oa_id), 1)
        return allowed

    async def _take_tokens(self, bucket_id: str, candidates: list[Candidate]) -> list[Candidate]:
        if not candidates:
            return []
        grant = await self._outside.rates.take(bucket_id, len(candidates))
        passed, rest = candidates[: grant.tokens], candidates[grant.tokens :]
        if not rest:
            return passed
        if grant.blocked_until is not None:
            # The whole page or app stands still: out of the way of the others.
            await self._ledger.put_off([one.id for one in rest], until=grant.blocked_until, held_by=None)
            return passed
        for candidate in reversed(rest):
            self._buffer(candidate, first=True)
        self._pause_until = time.monotonic() + min(max(grant.wait_seconds, 0.005), 1.0)
        return passed

    async def _claim(self, chosen: Sequence[Candidate]) -> int:
        self._rounds += 1
        owner = f"{self._instance}-{self._rounds}"
        ids = [candidate.id for candidate in chosen]
        started = time.monotonic()
        looked_up = asyncio.ensure_future(self._outside.contacts.of({candidate.citizen_key for candidate in chosen}))
        try:
            replies = await self._ledger.claim(ids, owner=owner, now=self._outside.clock.now())
            contacts = await looked_up
        except BaseException:
            looked_up.cancel()
            self._unreleased.append((ids, owner))
            raise
        crash_point("notifier.after_claim")
        for reply in replies:
            contact = contacts.get(reply.citizen_key, Contact())
            self._in_flight[reply.id] = asyncio.create_task(self._send(reply, contact, started))
        if len(replies) < len(chosen):  # taken by another replica: its tokens are ours for the next round
            claimed = {reply.id for reply in replies}
            for candidate in chosen:
                if candidate.id not in claimed:
                    self._outside.rates.give_back(page_bucket(candidate.oa_id), 1)
                    self._outside.rates.give_back(app_bucket(candidate.app_id), 1)
        return len(replies)

    # One reply

    async def _send(self, reply: Reply, contact: Contact, claimed_at: float) -> None:
        """Take one claimed reply to its next state."""
        started_ns = time.time_ns()
        with tracing_of("notifier").span(
            "zalo.send",
            reply.correlation_id,
            traceparent=reply.traceparent,
            kind=SpanKind.CLIENT,
            started_ns=started_ns,
            attributes={"reply": reply.id, "page": reply.page, "attempt": reply.attempt},
        ):
            try:
                step = await self._attempt(reply, contact, claimed_at)
            except Exception as error:  # a fault of ours must not keep the slot, nor send the reply again
                log.exception("reply.fault", reply=reply.id, error=type(error).__name__)
                step = Park("send.fault", type(error).__name__)
        ended_at = self._outside.clock.now()
        await self._results.put(Result(reply, step, ended_at))

    async def _attempt(self, reply: Reply, contact: Contact, claimed_at: float) -> Step:
        now = self._outside.clock.now()
        window = self._rules.window_on(now.astimezone(VIETNAM).date())
        match permission(reply, contact, window=window, now=now, pays_beyond_free=self._limits.pays_beyond_free):
            case Denied(reason):
                return Fail(reason)
            case Allowed():
                pass
        try:
            token = await self._outside.tokens.access(reply.oa_id)
        except (TokenUnavailable, StoreUnavailable) as error:
            reason = error.reason if isinstance(error, TokenUnavailable) else error.code
            return without_token(reply, reason, schedules=self._rules.schedules, now=self._outside.clock.now())
        try:
            is_ours = self._has_time(claimed_at) and await self._marks.mark(reply)
        except StoreUnavailable as error:
            return TryAgain(self._outside.clock.now(), error.code, reply.failures)
        if not is_ours or not self._has_time(claimed_at):  # another's by now, or writing the mark took too long
            return TryAgain(self._outside.clock.now(), "send.lease_short", reply.failures)
        crash_point("notifier.after_mark")
        outcome = await self._call(reply, token)
        crash_point("notifier.after_call")
        if isinstance(outcome, Refused) and outcome.rule.error_class == "token":
            outcome = await self._once_more(reply, token, outcome, claimed_at)
        not_before = await paused_until(
            self._outside.rates, outcome, oa_id=reply.oa_id, app_id=reply.app_id, now=self._outside.clock.now()
        )
        return next_step(
            outcome, reply, schedules=self._rules.schedules, now=self._outside.clock.now(), not_before=not_before
        )

    def _has_time(self, claimed_at: float) -> bool:
        """Whether a call that starts now is over before the claim's lease is."""
        left_seconds = self._limits.lease.total_seconds() - (time.monotonic() - claimed_at)
        return left_seconds > self._limits.call_timeout.total_seconds() + self._limits.lease_margin.total_seconds()

    async def _call(self, reply: Reply, token: AccessToken) -> SendOutcome:
        started_at, started = self._outside.clock.now(), time.perf_counter()
        outcome = await self._outside.zalo.send(
            reply.content,
            app_id=reply.app_id,
            user_id=reply.user_id,
            access_token=token.value,
            conversation_id=reply.conversation_id,
        )
        SEND_SECONDS.labels(type(outcome).__name__).observe(time.perf_counter() - started)
        if isinstance(outcome, Accepted):
            with suppress(StoreUnavailable):
                await self._outside.tokens.worked(reply.oa_id, token.generation, started_at=started_at)
        return outcome

    async def _once_more(self, reply: Reply, token: AccessToken, refused: Refused, claimed_at: float) -> SendOutcome:
        """After a refused token: once, with the token that another replica or we have renewed meanwhile."""
        try:
            newer = await self._outside.tokens.replace(reply.oa_id, token.generation)
        except (TokenUnavailable, StoreUnavailable):
            return refused
        return await self._call(reply, newer) if self._has_time(claimed_at) else refused

    # Recording

    async def _record_all(self) -> None:
        while True:
            batch = [await self._results.get()]
            while not self._results.empty():
                batch.append(self._results.get_nowait())
            await self._until_stored(lambda batch=batch: self._ledger.record(batch))  # type: ignore[misc]
            for result in batch:
                self._in_flight.pop(result.reply.id, None)
                self._tell(result)
            self._wake.set()
            await self._until_stored(lambda batch=batch: self._after(batch))  # type: ignore[misc]

    async def record_pending(self) -> None:
        """Record what has ended, and what follows from it; for tests that drive the rounds themselves."""
        while self._in_flight:
            result = await self._results.get()
            await self._ledger.record([result])
            self._in_flight.pop(result.reply.id, None)
            await self._after([result])

    async def _until_stored(self, write: Callable[[], Awaitable[T]]) -> T:
        def waits(error: StoreUnavailable) -> None:
            self._store_failed_at = time.monotonic()
            log.warning("recording.waiting", error=str(error), unrecorded=self.in_flight)

        return await until_stored(write, pause_seconds=STORE_PAUSE_SECONDS, waits=waits)

    async def _after(self, batch: Sequence[Result]) -> None:
        """Let later replies go, note echoes that were quicker than the answers, settle what is uncertain."""
        message_ids, uncertain, finished = [], set(), {}
        for result in batch:
            reply = result.reply
            for candidate in self._waiting.pop(reply.citizen_key, ()):
                self._buffer(candidate)
            match result.step:
                case Sent(message_id=str(message_id)):
                    message_ids.append(message_id)
                case Park():
                    uncertain.add(reply.citizen_key)
            if isinstance(result.step, Sent | Fail) and (reply.failures or reply.attempt > 1):
                finished[reply.id] = reply.citizen_key
        self._wake.set()
        if finished:
            await self._ledger.let_go(list(finished), set(finished.values()), now=self._outside.clock.now())
            self.look_now()
        if message_ids and (early := await self._outside.reports.of_messages(message_ids)):
            await self._ledger.mark(early)
        if uncertain:
            await self._settlement.of_citizens(uncertain)
            self.look_now()

    def _tell(self, result: Result) -> None:
        reply, step = result.reply, result.step
        reason = "" if isinstance(step, Sent) else step.reason
        SENDS.labels(type(step).__name__, reason).inc()
        facts = {
            "reply": reply.id,
            "page": reply.page,
            "citizen": reply.citizen_key,
            "case_code": reply.case_code,
            "attempt": reply.attempt,
            "correlation_id": reply.correlation_id,
        }
        match step:
            case Sent(message_id):
                seconds = (datetime.now(UTC) - reply.requested_at).total_seconds()
                REPLY_SECONDS.observe(max(seconds, 0.0))
                log.info("reply.sent", message_id=message_id, seconds=round(seconds, 3), **facts)
            case TryAgain(at):
                log.warning("reply.put_off", reason=reason, until=at.isoformat(), **facts)
            case Fail():
                log.error("reply.failed", reason=reason, **facts)
            case Park(why=why):
                log.error("reply.uncertain", reason=reason, why=why, **facts)
