"""Sending a broadcast's copies: one chunk goes out in waves, each person at most one copy.

A wave is: look at the state, take rate tokens, mark, check the caps, call, record. So a kill leaves at most one wave of
a worker of which nobody knows, and a pause takes effect within one wave. Two writes of the database, whatever its size:
the chunk, with the mark and the sign of life, and the outcomes.
"""

import asyncio
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from prometheus_client import Counter as Metric

from services.notifier.adapters.rate_bucket import RESERVED_SHARE, app_bucket, page_bucket
from services.notifier.adapters.zalo_copies import Address, Form, message_form, phone_form, template_form
from services.notifier.domain.audience import ContactView, Terms, plan
from services.notifier.domain.broadcast import Broadcast
from services.notifier.domain.copies import (
    Chunk,
    Copy,
    CopyResult,
    Counts,
    Recent,
    Row,
    Skip,
    Skipped,
    Wave,
    cap_verdict,
    copy_id,
    state_after,
    undecided,
)
from services.notifier.domain.lanes import Chosen, Lane
from services.notifier.domain.lanes import Refused as NoLane
from services.notifier.domain.next_step import Park, Sent, TryAgain, next_step, without_token
from services.notifier.domain.outcomes import Accepted, Refused
from services.notifier.domain.reply import composed
from services.notifier.domain.rulebook import Rulebook
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.keep_tokens import AccessToken
from services.notifier.handlers.ports import AudienceReader, Broadcasts, Clock, Copies, CopySender, Rates
from services.notifier.handlers.recording import until_stored
from services.notifier.handlers.send_replies import TokenSource
from services.notifier.handlers.settle import Settlement
from services.notifier.handlers.throttle import Pause, keep_pauses, pause_after
from shared.crash import crash_point
from shared.errors import StoreUnavailable
from shared.ids import text_digest
from shared.telemetry import get_logger

log = get_logger()
T = TypeVar("T")

COPIES = Metric("hub_copies", "Copies of broadcasts, by what followed", ["state", "reason"])

STORE_PAUSE_SECONDS = 0.5
PENDING_SECONDS = 5.0
"""How long a copy waits for another broadcast's copy to the same person that is being sent at this moment."""
NO_TOKEN_PAUSE_SECONDS = 1.0
DECIDED_FOR = timedelta(seconds=30)
"""So long after a chunk was prepared its people may be written to; then it is put down, and they are looked at anew.
A page that may call seldom takes minutes for a chunk, and nobody who says stop is to hear from us minutes later."""


@dataclass(frozen=True)
class BroadcastLimits:
    """How broadcasts are sent; see the settings of the same names.

    Attributes:
        workers: chunks at once in this process.
        wave: copies marked and called at once by one worker.
        chunk_persons: people of one chunk on average.
    """

    workers: int
    wave: int
    chunk_persons: int
    lease: timedelta
    call_timeout: timedelta
    lease_margin: timedelta
    poll_seconds: float
    stop_seconds: float


@dataclass(frozen=True)
class BroadcastAdapters:
    """The outside of the runner."""

    broadcasts: Broadcasts
    copies: Copies
    audience: AudienceReader
    rates: Rates
    tokens: TokenSource
    zalo: CopySender
    clock: Clock


@dataclass
class _Work:
    """One chunk in this worker's hands.

    Attributes:
        waiting: those of the chunk who are not decided yet.
        counts: of the chunk, as far as we know; what we show while we work.
        until: when the first of those who must wait may go; None while nobody waits.
    """

    broadcast: Broadcast
    chunk: Chunk
    terms: Terms
    forms: dict[Lane, tuple[Form, str]]
    waiting: deque[Copy]
    states: Counter[str]
    reasons: Counter[tuple[str, str]]
    until: datetime | None = None
    renewed_at: float = 0.0

    @property
    def counts(self) -> Counts:
        return Counts(self.states, self.reasons)

    def wait_until(self, at: datetime) -> None:
        self.until = at if self.until is None else min(self.until, at)

    def count(self, before: str, after: str, reason: str | None, number: int = 1) -> None:
        self.states[before] -= number
        self.states[after] += number
        if reason:
            self.reasons[after, reason] += number


class ChunkSender:
    """Sends chunks, as many side by side as there are workers.

    Args:
        outside: the adapters.
        settlement: settles copies that became uncertain.
        rulebook: all rules.
        app_by_oa: which app each of our pages belongs to.
        limits: waves and waits.

    Attributes:
        is_stopping: end after the waves that are under way.
        in_flight: copies marked and not recorded yet.
    """

    def __init__(
        self,
        outside: BroadcastAdapters,
        settlement: Settlement,
        rulebook: Rulebook,
        app_by_oa: Mapping[str, str],
        limits: BroadcastLimits,
    ) -> None:
        self._outside = outside
        self._copies = outside.copies
        self._settlement = settlement
        self._rulebook = rulebook
        self._app_by_oa = app_by_oa
        self._limits = limits
        self.is_stopping = False
        self.in_flight = 0

    async def send(self, broadcast: Broadcast, chunk: Chunk, *, claimed_at: float) -> bool:
        """Send one claimed chunk as far as it may go now, and put it down.

        Args:
            broadcast: whose.
            chunk: in our hands.
            claimed_at: by the monotonic clock.

        Returns:
            False if everybody in it only waits.

        Raises:
            StoreUnavailable: the chunk goes on when its lease is over.
        """
        work = await self._prepare(broadcast, chunk)
        work.renewed_at = claimed_at
        queued = work.states["queued"]
        await self._send_waves(work)
        return work.states["queued"] < queued or not queued

    async def _prepare(self, broadcast: Broadcast, chunk: Chunk) -> _Work:
        """See what is done of a chunk, and decide about all others with what is known of them now."""
        rows = {row.person: row for row in await self._copies.rows_of(chunk)}
        now = self._outside.clock.now()
        work = _Work(
            broadcast,
            chunk,
            self._rulebook.terms(broadcast.draft, now),
            _forms(broadcast),
            deque(),
            Counter(),
            Counter(),
        )
        for row in rows.values():
            work.states[row.state] += 1
        work.states["queued"] += len(chunk.persons) - len(rows)
        open_persons = undecided(chunk, rows)
        if not open_persons:
            return work
        people = await self._outside.audience.in_slice(chunk.part.first, chunk.part.end)
        contacts_of = {contacts[0].person: contacts for contacts in people}
        skips: list[Skip] = []
        for person in open_persons:
            known = rows.get(person)
            if known is not None and known.due_at is not None and known.due_at > now:
                work.wait_until(known.due_at)
                continue
            decided = self._decide(person, contacts_of.get(person, []), known, work)
            match decided:
                case Skip():
                    skips.append(decided)
                case Copy():
                    work.waiting.append(decided)
                case _:
                    work.wait_until(decided)
        if skips:
            await self._copies.skip(chunk, skips, now=now)
            for skip in skips:
                work.count("queued", "skipped", skip.reason)
                COPIES.labels("skipped", skip.reason).inc()
        return work

    def _decide(
        self, person: str, contacts: Sequence[ContactView], row: Row | None, work: _Work
    ) -> Copy | Skip | datetime:
        """The lane of one person at this moment, why there is none, or when there will be one."""
        terms = work.terms
        planned = plan(contacts, terms) if contacts else None
        if planned is None:
            # They left our pages, were merged with somebody, or no longer want these topics.
            return Skip(person, None, None, "audience.left")
        reach = planned.reach
        match planned.choice:
            case NoLane(until=until) if until is not None:
                return until
            case NoLane(reason):
                return Skip(person, reach.citizen_key, reach.page, reason)
            case Chosen(lane, _, reach) if lane not in work.forms:
                return Skip(person, reach.citizen_key, reach.page, "lane.not_built")
            case Chosen(lane, _, reach):
                return Copy(
                    person=person,
                    citizen_key=reach.citizen_key,
                    page=reach.page,
                    oa_id=reach.oa_id,
                    user_id=reach.user_id,
                    phone=reach.phone,
                    lane=lane,
                    keys=tuple(contact.reach.citizen_key for contact in contacts),
                    attempt=1 if row is None else row.attempt + 1,
                    failures=0 if row is None else row.failures,
                    requested_at=terms.now if row is None else row.requested_at,
                )

    async def _send_waves(self, work: _Work) -> None:
        """Wave after wave, as long as the broadcast runs and the chunk is ours."""
        while work.waiting and await self._may_go_on(work):
            wave, pause_seconds = await self._take_wave(work)
            if wave:
                is_ours = await self._send_wave(work, wave)
            else:
                is_ours = await self._give_sign(work)
                await asyncio.sleep(pause_seconds)
            if not is_ours:
                log.warning("chunk.lost", broadcast=work.broadcast.id, chunk=work.chunk.part.number)
                return
        due_at = work.until
        if work.waiting:  # paused, cancelled, stopping, night or prepared long ago: whoever goes on takes it at once
            due_at = self._outside.clock.now()
        await self._copies.release(work.chunk, due_at=due_at)

    async def _may_go_on(self, work: _Work) -> bool:
        now = self._outside.clock.now()
        if self.is_stopping or now - work.terms.now >= DECIDED_FOR:
            return False
        if self._rulebook.quiet_until(work.broadcast.draft, now) is not None:
            return False
        return await self._outside.broadcasts.state_of(work.broadcast.id) == "running"

    async def _take_wave(self, work: _Work) -> tuple[list[Copy], float]:
        """As many of those who wait as the pages and the app may call now; else how long to wait."""
        wave = [work.waiting.popleft() for _ in range(min(self._limits.wave, len(work.waiting)))]
        by_page: dict[str, list[Copy]] = defaultdict(list)
        for copy in wave:
            by_page[copy.oa_id].append(copy)
        by_app: dict[str, list[Copy]] = defaultdict(list)
        pause_seconds = 0.0
        for oa_id, copies in by_page.items():
            passed, wait_seconds = await self._take_tokens(page_bucket(oa_id), copies)
            by_app[self._app_by_oa.get(oa_id, "")] += passed
            work.waiting.extend(copies[len(passed) :])
            pause_seconds = max(pause_seconds, wait_seconds)
        allowed: list[Copy] = []
        for app_id, copies in by_app.items():
            passed, wait_seconds = await self._take_tokens(app_bucket(app_id), copies)
            allowed += passed
            for copy in copies[len(passed) :]:
                self._outside.rates.give_back(page_bucket(copy.oa_id), 1)
                work.waiting.append(copy)
            pause_seconds = max(pause_seconds, wait_seconds)
        return allowed, pause_seconds

    async def _take_tokens(self, bucket_id: str, copies: Sequence[Copy]) -> tuple[Sequence[Copy], float]:
        if not copies:
            return [], 0.0
        grant = await self._outside.rates.take(bucket_id, len(copies), reserved_share=RESERVED_SHARE)
        wait_seconds = 0.0
        if grant.tokens < len(copies):
            wait_seconds = min(max(grant.wait_seconds, 0.01), NO_TOKEN_PAUSE_SECONDS)
            if grant.blocked_until is not None:
                wait_seconds = NO_TOKEN_PAUSE_SECONDS
        return copies[: grant.tokens], wait_seconds

    # One wave

    async def _give_sign(self, work: _Work, wave: Wave | None = None) -> bool:
        """Renew the lease, and mark a wave by the same write; False if the chunk is somebody else's."""
        started = time.monotonic()
        if wave is None:
            is_ours = await self._copies.renew(work.chunk, work.counts)
        else:
            is_ours = await self._copies.mark_wave(work.chunk, wave, work.counts)
        work.renewed_at = started
        return is_ours

    async def _send_wave(self, work: _Work, copies: Sequence[Copy]) -> bool:
        """Send what was taken, form by form; False if the chunk is somebody else's."""
        by_lane: dict[Lane, list[Copy]] = defaultdict(list)
        for copy in copies:
            by_lane[copy.lane].append(copy)
        for lane, same in by_lane.items():
            form, text_sha256 = work.forms[lane]
            wave = Wave(tuple(same), text_sha256, self._outside.clock.now())
            if not await self._send_copies(work, form, wave):
                return False
        return True

    async def _send_copies(self, work: _Work, form: Form, wave: Wave) -> bool:
        """Mark, check, call and record one wave of one form."""
        work.count("queued", "sending", None, len(wave.copies))
        if not await self._until_stored(lambda: self._give_sign(work, wave)):
            return False
        self.in_flight += len(wave.copies)
        try:
            results, to_send = await self._within_caps(work, wave.copies)
            if to_send:
                results += await self._call(work, form, to_send)
            await self._until_stored(lambda: self._copies.record(work.chunk, wave, results))
        finally:
            self.in_flight -= len(wave.copies)
        uncertain = self._tell(work, results)
        if uncertain:
            with suppress(StoreUnavailable):  # the sweep looks again
                await self._settlement.of_citizens(uncertain)
        return True

    async def _within_caps(self, work: _Work, marked: Sequence[Copy]) -> tuple[list[CopyResult], list[Copy]]:
        """After marking: whoever had their share, or is just getting it, gets no copy now."""
        if work.terms.offer.is_emergency:
            return [], list(marked)
        now = self._outside.clock.now()
        recent = await self._until_stored(lambda: self._copies.recent(marked, broadcast_id=work.broadcast.id, now=now))
        results, to_send = [], []
        for copy in marked:
            match cap_verdict(recent.get(copy.person, Recent()), work.terms.rules.policy):
                case "send", _:
                    to_send.append(copy)
                case "capped", reason:
                    results.append(CopyResult(copy, Skipped(reason), now))
                case _, reason:
                    wait = timedelta(seconds=PENDING_SECONDS * (1 + secrets.randbelow(100) / 100))
                    results.append(CopyResult(copy, TryAgain(now + wait, reason, copy.failures), now))
        return results, to_send

    async def _call(self, work: _Work, form: Form, copies: Sequence[Copy]) -> list[CopyResult]:
        results: list[CopyResult] = []
        tokens = await self._tokens_of({copy.oa_id for copy in copies})
        ready: list[tuple[Copy, AccessToken]] = []
        now = self._outside.clock.now()
        has_time = self._has_time(work)
        for copy in copies:
            token = tokens[copy.oa_id]
            if isinstance(token, str):
                no_call = without_token(copy, token, schedules=self._rulebook.rules.schedules, now=now)
                results.append(CopyResult(copy, no_call, now))
            elif not has_time:
                results.append(CopyResult(copy, TryAgain(now, "send.lease_short", copy.failures), now))
            else:
                ready.append((copy, token))
        if not ready:
            return results
        addresses = [
            Address(
                user_id=copy.user_id,
                app_id=self._app_by_oa[copy.oa_id],
                access_token=token.value,
                phone=copy.phone,
                tracking_id=copy_id(work.broadcast.id, copy.person) if form.by_phone else "",
            )
            for copy, token in ready
        ]
        started_at = now
        outcomes = await self._outside.zalo.send(form, addresses)
        crash_point("notifier.broadcast.after_call")
        ended_at = self._outside.clock.now()
        worked: dict[str, int] = {}
        refused_tokens: dict[str, int] = {}
        pauses: list[Pause] = []
        for (copy, token), outcome in zip(ready, outcomes, strict=True):
            not_before = None
            if isinstance(outcome, Accepted):
                worked[copy.oa_id] = token.generation
            elif isinstance(outcome, Refused):
                app_id = self._app_by_oa[copy.oa_id]
                if pause := pause_after(outcome, oa_id=copy.oa_id, app_id=app_id, now=ended_at):
                    pauses.append(pause)
                    not_before = pause.until
                elif outcome.rule.error_class == "token":
                    refused_tokens[copy.oa_id] = token.generation
            step = next_step(
                outcome, copy, schedules=self._rulebook.rules.schedules, now=ended_at, not_before=not_before
            )
            results.append(CopyResult(copy, step, ended_at))
        await keep_pauses(self._outside.rates, pauses)
        for oa_id, generation in refused_tokens.items():  # renewed for the next wave
            with suppress(TokenUnavailable, StoreUnavailable):
                await self._outside.tokens.replace(oa_id, generation)
        for oa_id, generation in worked.items():
            with suppress(StoreUnavailable):
                await self._outside.tokens.worked(oa_id, generation, started_at=started_at)
        return results

    def _has_time(self, work: _Work) -> bool:
        """Whether calls that start now are over before the chunk's lease is."""
        left_seconds = self._limits.lease.total_seconds() - (time.monotonic() - work.renewed_at)
        return left_seconds > self._limits.call_timeout.total_seconds() + self._limits.lease_margin.total_seconds()

    async def _tokens_of(self, oa_ids: set[str]) -> dict[str, AccessToken | str]:
        """The access token of each page, or the reason why it has none."""
        tokens: dict[str, AccessToken | str] = {}
        for oa_id in oa_ids:
            if oa_id not in self._app_by_oa:
                tokens[oa_id] = "page.unknown"
                continue
            try:
                tokens[oa_id] = await self._outside.tokens.access(oa_id)
            except TokenUnavailable as error:
                tokens[oa_id] = error.reason
            except StoreUnavailable as error:
                tokens[oa_id] = error.code
        return tokens

    def _tell(self, work: _Work, results: Sequence[CopyResult]) -> set[str]:
        """Count outcomes; returns the citizens of those nobody knows."""
        uncertain: set[str] = set()
        outcomes = Counter[tuple[str, str]]()
        for result in results:
            state = state_after(result.step)
            reason = "" if isinstance(result.step, Sent) else result.step.reason
            outcomes[state, reason] += 1
            match result.step:
                case Park():
                    uncertain.add(result.copy.citizen_key)
                case TryAgain(at):
                    work.wait_until(at)
        for (after, reason), number in outcomes.items():
            work.count("sending", after, reason, number)
            COPIES.labels(after, reason).inc(number)
        log.info(
            "copies.sent",
            broadcast=work.broadcast.id,
            chunk=work.chunk.part.number,
            **{after: sum(n for (one, _), n in outcomes.items() if one == after) for after, _ in outcomes},
        )
        return uncertain

    async def _until_stored(self, write: Callable[[], Awaitable[T]]) -> T:
        def waits(error: StoreUnavailable) -> None:
            log.warning("copies.recording_waits", error=str(error), unrecorded=self.in_flight)

        return await until_stored(write, pause_seconds=STORE_PAUSE_SECONDS, waits=waits)


def _forms(broadcast: Broadcast) -> dict[Lane, tuple[Form, str]]:
    """What is sent on each lane, with the digest by which its echo is recognised."""
    content = broadcast.draft.content
    forms: dict[Lane, tuple[Form, str]] = {}
    if content.message is not None:
        message = composed(content.message)
        form = message_form(message), text_digest(message.text)
        forms |= {"answer": form, "consultation": form}
    if content.template is not None:
        digest = text_digest(content.template.text)
        forms["template_user"] = template_form(content.template), digest
        forms["template_phone"] = phone_form(content.template), digest
    return forms
