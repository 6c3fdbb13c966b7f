"""Hand-written stand-ins of the notifier's outside. The ledger's is held to the real one by the conformance suite."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.notifier.adapters.delivery_rules import load_delivery_rules
from services.notifier.adapters.rate_bucket import Grant
from services.notifier.adapters.reply_ledger import Expired, LedgerRow, Result
from services.notifier.domain.contacts import ContactFacts
from services.notifier.domain.gate import Unfinished
from services.notifier.domain.next_step import Fail, Park, Sent, TryAgain
from services.notifier.domain.outcomes import Accepted, SendOutcome
from services.notifier.domain.reply import EMERGENCY, ORDINARY, UNFINISHED, Candidate, Contact, Reply, composed
from services.notifier.domain.rules import DeliveryRules
from services.notifier.domain.settlement import NOT_SENT, OpenSend, Proof
from services.notifier.handlers.keep_tokens import AccessToken
from services.notifier.handlers.send_replies import Adapters, ReplySender, SendLimits
from services.notifier.handlers.settle import ByList, Settlement
from shared.errors import StoreUnavailable
from shared.events import DeliveryReported, ReplyContent, TemplateDelivered
from shared.ids import text_digest
from tests.factories import NOW

DATA_DIR = Path(__file__).resolve().parents[3] / "data"
LEASE = timedelta(seconds=60)
GRACE = timedelta(seconds=20)
SKEW = timedelta(seconds=30)


class ManualClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Row:
    """One ledger entry."""

    row: LedgerRow
    state: str
    priority: int
    due_at: datetime
    text_sha256: str
    attempt: int = 0
    failures: int = 0
    owner: str | None = None
    is_called: bool = False
    attempt_started_at: datetime | None = None
    erased_at: datetime | None = None
    uncertain_at: datetime | None = None
    checks: int = 0
    message_id: str | None = None
    reason: str | None = None
    held_by: str | None = None
    settled_by: str | None = None
    moments: dict[str, datetime] = field(default_factory=dict)


class FakeLedger:
    """The send ledger in memory.

    Attributes:
        outages: how many of the next calls fail; `True` applies the call first.
        turns: how long each of the next calls takes, in turns of the event loop; then one turn each.
    """

    def __init__(self, clock: ManualClock, *, lease: timedelta = LEASE) -> None:
        self.rows: dict[str, Row] = {}
        self.outages: list[bool] = []
        self.turns: list[int] = []
        self._clock = clock
        self._lease = lease

    async def _fail_before(self) -> bool:
        for _ in range(self.turns.pop() if self.turns else 1):
            await asyncio.sleep(0)
        if not self.outages:
            return False
        if not self.outages.pop(0):
            raise StoreUnavailable("before")
        return True

    @staticmethod
    def _fail_after(fails: bool) -> None:
        if fails:
            raise StoreUnavailable("after")

    async def add(self, rows: Sequence[LedgerRow], *, now: datetime) -> list[Candidate]:
        fails = await self._fail_before()
        new = []
        for row in sorted(rows, key=lambda row: row.order):
            event = row.event
            if event.event_id in self.rows:
                continue
            self.rows[event.event_id] = entry = Row(
                row,
                state="failed" if row.app_id is None else "queued",
                priority=EMERGENCY if event.is_emergency else ORDINARY,
                due_at=min(now, event.occurred_at),
                text_sha256=text_digest(composed(event.content).text),
                reason="page.unknown" if row.app_id is None else None,
            )
            if entry.state == "queued":
                new.append(self._candidate(event.event_id))
        self._fail_after(fails)
        return new

    def _candidate(self, row_id: str) -> Candidate:
        entry = self.rows[row_id]
        event = entry.row.event
        return Candidate(row_id, event.citizen_key, event.oa_id, entry.row.app_id or "", entry.priority)

    def _of(self, state: str) -> list[str]:
        return [row_id for row_id, entry in self.rows.items() if entry.state == state]

    async def due(self, priority: int, *, now: datetime, limit: int) -> list[Candidate]:
        self._fail_after(await self._fail_before())
        found = [i for i in self._of("queued") if self.rows[i].priority == priority and self.rows[i].due_at <= now]
        return [self._candidate(i) for i in sorted(found, key=lambda i: self.rows[i].due_at)[:limit]]

    async def unfinished(self, citizen_keys: Iterable[str]) -> dict[str, list[Unfinished]]:
        self._fail_after(await self._fail_before())
        wanted, found = set(citizen_keys), defaultdict(list)
        for row_id, entry in self.rows.items():
            key = entry.row.event.citizen_key
            if key in wanted and entry.state in UNFINISHED:
                found[key].append(
                    Unfinished(
                        row_id,
                        key,
                        entry.row.order,
                        entry.state,
                        entry.due_at,
                        entry.priority == EMERGENCY,
                        entry.uncertain_at,
                    )
                )
        return found

    async def claim(self, ids: Sequence[str], *, owner: str, now: datetime) -> list[Reply]:
        fails = await self._fail_before()
        for row_id in ids:
            entry = self.rows[row_id]
            if entry.state == "queued" and entry.due_at <= now:
                entry.state, entry.owner, entry.attempt = "sending", owner, entry.attempt + 1
                entry.is_called = False
                entry.attempt_started_at = self._clock.now()
                entry.due_at = self._clock.now() + self._lease
        self._fail_after(fails)
        return [self._reply(i) for i in ids if (self.rows[i].state, self.rows[i].owner) == ("sending", owner)]

    def _reply(self, row_id: str) -> Reply:
        entry = self.rows[row_id]
        event = entry.row.event
        return Reply(
            id=row_id,
            citizen_key=event.citizen_key,
            page=event.page,
            oa_id=event.oa_id,
            app_id=entry.row.app_id or "",
            user_id=event.user_id,
            content=composed(event.content),
            conversation_id=event.conversation_id,
            correlation_id=event.correlation_id,
            traceparent=entry.row.traceparent,
            case_code=event.case_code,
            is_emergency=entry.priority == EMERGENCY,
            interaction_at=event.interaction_at,
            requested_at=event.occurred_at,
            attempt=entry.attempt,
            failures=entry.failures,
            owner=entry.owner or "",
        )

    async def mark_called(self, ids: Sequence[str], *, owner: str) -> set[str]:
        fails = await self._fail_before()
        marked = {i for i in ids if (self.rows[i].state, self.rows[i].owner) == ("sending", owner)}
        for row_id in marked:
            self.rows[row_id].is_called = True
        self._fail_after(fails)
        return marked

    async def release(self, ids: Sequence[str], *, owner: str, now: datetime) -> None:
        fails = await self._fail_before()
        for row_id in ids:
            entry = self.rows[row_id]
            if entry.state == "sending" and entry.owner == owner:
                entry.state, entry.owner, entry.due_at = "queued", None, now
        self._fail_after(fails)

    async def put_off(self, ids: Sequence[str], *, until: datetime, held_by: str | None) -> None:
        fails = await self._fail_before()
        for row_id in ids:
            entry = self.rows[row_id]
            if entry.state == "queued":
                entry.due_at, entry.held_by = max(entry.due_at, until), held_by
        self._fail_after(fails)

    async def let_go(self, finished: Sequence[str], citizen_keys: Iterable[str], *, now: datetime) -> None:
        fails = await self._fail_before()
        keys = set(citizen_keys)
        for entry in self.rows.values():
            if entry.state == "queued" and entry.held_by in finished and entry.row.event.citizen_key in keys:
                entry.due_at, entry.held_by = now, None
        self._fail_after(fails)

    async def record(self, results: Sequence[Result]) -> None:
        fails = await self._fail_before()
        for result in results:
            self._record(result)
        self._fail_after(fails)

    def _record(self, result: Result) -> None:
        entry, reply = self.rows[result.reply.id], result.reply
        states = {"sending", "uncertain"} if isinstance(result.step, Sent) else {"sending"}
        if (entry.owner, entry.attempt) != (reply.owner, reply.attempt) or entry.state not in states:
            return
        match result.step:
            case Sent(message_id):
                entry.state = "sent"
                if message_id is not None and not self._is_owned(message_id):
                    entry.message_id = message_id
            case TryAgain(at, reason, failures):
                entry.state, entry.due_at, entry.reason, entry.failures = "queued", at, reason, failures
                entry.held_by = None
            case Fail(reason):
                entry.state, entry.reason = "failed", reason
            case Park(reason):
                entry.state, entry.reason, entry.checks = "uncertain", reason, 0
                entry.uncertain_at = entry.due_at = result.ended_at

    def _is_owned(self, message_id: str) -> bool:
        return any(entry.message_id == message_id for entry in self.rows.values())

    async def expire_leases(self, *, next_check: timedelta) -> Expired:
        fails = await self._fail_before()
        now, expired = self._clock.now(), Expired([], [])
        for row_id in self._of("sending"):
            entry = self.rows[row_id]
            if entry.due_at >= now:
                continue
            if entry.is_called:
                entry.state, entry.reason, entry.uncertain_at = "uncertain", "send.lease_expired", now
                entry.checks, entry.due_at = 0, now + next_check
                expired.uncertain.append(entry.row.event.citizen_key)
            else:
                entry.state, entry.owner, entry.due_at, entry.held_by = "queued", None, now, None
                expired.requeued.append(entry.row.event.citizen_key)
        self._fail_after(fails)
        return expired

    async def open_sends(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        self._fail_after(await self._fail_before())
        return self._sends(citizen_keys, lambda entry: entry.state in {"sending", "uncertain"})

    async def uncertain(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        self._fail_after(await self._fail_before())
        return self._sends(citizen_keys, lambda entry: entry.state == "uncertain")

    async def nameless(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        self._fail_after(await self._fail_before())
        return self._sends(citizen_keys, lambda entry: entry.state == "sent" and entry.message_id is None)

    def _sends(self, citizen_keys: Iterable[str], is_wanted: Callable[[Row], bool]) -> list[OpenSend]:
        keys = set(citizen_keys)
        return [
            OpenSend(
                row_id,
                entry.row.event.citizen_key,
                entry.text_sha256,
                entry.attempt_started_at or NOW,
                entry.attempt,
                entry.state,  # type: ignore[arg-type]
                entry.row.event.occurred_at,
                entry.row.event.conversation_id is None,
            )
            for row_id, entry in self.rows.items()
            if is_wanted(entry) and entry.row.event.citizen_key in keys
        ]

    async def owned(self, message_ids: Iterable[str]) -> set[str]:
        self._fail_after(await self._fail_before())
        return {message_id for message_id in message_ids if self._is_owned(message_id)}

    async def settle(self, send: OpenSend, proof: Proof) -> bool:
        fails = await self._fail_before()
        entry = self.rows[send.id]
        works = (entry.state, entry.attempt) == ("uncertain", send.attempt) and not self._is_owned(proof.message_id)
        if works:
            entry.state, entry.message_id, entry.settled_by = "sent", proof.message_id, proof.kind
        self._fail_after(fails)
        return works

    async def not_taken(self, send: OpenSend, step: TryAgain | Fail, *, now: datetime) -> bool:  # noqa: ARG002
        fails = await self._fail_before()
        entry = self.rows[send.id]
        works = (entry.state, entry.attempt) == ("uncertain", send.attempt)
        if works:
            entry.reason, entry.settled_by = step.reason, "not_listed"
            match step:
                case TryAgain(at, _, failures):
                    entry.state, entry.due_at, entry.failures, entry.held_by = "queued", at, failures, None
                case Fail():
                    entry.state = "failed"
        self._fail_after(fails)
        return works

    async def uncertain_due(self, *, now: datetime, limit: int) -> dict[str, tuple[str, int]]:
        self._fail_after(await self._fail_before())
        due = [i for i in self._of("uncertain") if self.rows[i].due_at <= now][:limit]
        return {i: (self.rows[i].row.event.citizen_key, self.rows[i].checks) for i in due}

    async def check_again(self, at: Mapping[str, tuple[int, datetime]]) -> None:
        fails = await self._fail_before()
        for row_id, (checks, due_at) in at.items():
            entry = self.rows[row_id]
            if entry.state == "uncertain":
                entry.checks, entry.due_at = checks, due_at
        self._fail_after(fails)

    async def mark(self, reports: Mapping[str, Mapping[str, datetime]]) -> set[str]:
        fails = await self._fail_before()
        known = set()
        for entry in self.rows.values():
            if entry.message_id is not None and entry.message_id in reports:
                known.add(entry.message_id)
                for kind, at in reports[entry.message_id].items():
                    entry.moments[kind] = min(at, entry.moments.get(kind, at))
        self._fail_after(fails)
        return known

    async def erase(self, withdrawn: Mapping[str, datetime]) -> int:
        fails = await self._fail_before()
        erased = 0
        for entry in self.rows.values():
            event = entry.row.event
            at = withdrawn.get(event.citizen_key)
            if at is None or event.occurred_at > at:
                continue
            if entry.erased_at is None:
                entry.row = replace(entry.row, event=event.model_copy(update={"content": ReplyContent()}))
                entry.erased_at, erased = at, erased + 1
            if entry.state not in UNFINISHED:
                entry.text_sha256 = ""
        self._fail_after(fails)
        return erased


class FakeDecisions:
    """What people decide about replies of the ledger in memory."""

    def __init__(self, ledger: FakeLedger) -> None:
        self._rows = ledger.rows

    async def settle(self, reply_id: str, *, is_sent: bool, reason: str, now: datetime) -> bool:  # noqa: ARG002
        entry = self._rows[reply_id]
        if entry.state != "uncertain":
            return False
        entry.state, entry.settled_by = "sent" if is_sent else "failed", "person"
        entry.reason = entry.reason if is_sent else NOT_SENT
        return True

    async def requeue(self, ids: Collection[str], *, reason: str, now: datetime) -> None:  # noqa: ARG002
        for entry in (self._rows[reply_id] for reply_id in ids):
            if entry.state == "failed":
                entry.state, entry.due_at, entry.failures, entry.held_by = "queued", now, 0, None


class FakeReports:
    """Echoes and receipts in memory."""

    def __init__(self) -> None:
        self.reports: dict[str, DeliveryReported] = {}
        self.deliveries: dict[str, tuple[TemplateDelivered, str]] = {}

    async def add(self, reports: Sequence[DeliveryReported]) -> None:
        for report in reports:
            self.reports.setdefault(report.event_id, report)

    async def add_deliveries(self, deliveries: Sequence[tuple[TemplateDelivered, str]]) -> None:
        for event, citizen_key in deliveries:
            self.deliveries.setdefault(event.event_id, (event, citizen_key))

    async def of_messages(self, message_ids: Iterable[str]) -> dict[str, dict[str, datetime]]:
        wanted, moments = set(message_ids), defaultdict[str, dict[str, datetime]](dict)
        for report in self.reports.values():
            for message_id in wanted.intersection(report.message_ids):
                if report.report != "reacted":
                    known = moments[message_id].get(report.report, report.reported_at)
                    moments[message_id][report.report] = min(known, report.reported_at)
        return moments

    async def by_people(self, message_ids: Iterable[str]) -> set[str]:
        written = {one for r in self.reports.values() if r.admin_id is not None for one in r.message_ids}
        return written.intersection(message_ids)

    async def proofs(self, citizen_keys: Iterable[str], *, since: datetime) -> list[Proof]:
        keys = set(citizen_keys)
        theirs = [r for r in self.reports.values() if r.citizen_key in keys and r.reported_at >= since]
        by_people = {message_id for r in theirs if r.admin_id is not None for message_id in r.message_ids}
        return [
            Proof(message_id, r.citizen_key, r.report, r.text_sha256, r.reported_at)
            for r in theirs
            if r.report != "reacted"
            for message_id in r.message_ids
            if message_id not in by_people
        ] + [
            Proof(event.message_id, key, "received", None, event.delivered_at, event.tracking_id)
            for event, key in self.deliveries.values()
            if key in keys and event.delivered_at >= since
        ]


class FakeContacts:
    """Contacts in memory."""

    def __init__(self) -> None:
        self.contacts: dict[str, Contact] = {}
        self.learnt: list[ContactFacts] = []

    async def learn(self, facts: Sequence[ContactFacts]) -> None:
        self.learnt += facts

    async def of(self, citizen_keys: Iterable[str]) -> dict[str, Contact]:
        return {key: self.contacts[key] for key in citizen_keys if key in self.contacts}


class FakeRates:
    """A limit that gives what it is told to."""

    def __init__(self) -> None:
        self.grants: dict[str, Grant] = {}
        self.blocked: list[tuple[str, float]] = []

    async def take(self, bucket_id: str, wanted: int, *, reserved_share: float = 0.0) -> Grant:  # noqa: ARG002
        return self.grants.get(bucket_id, Grant(wanted, None, 0.0))

    def give_back(self, bucket_id: str, unused: int) -> None:
        """Nothing is kept here."""

    async def block(self, bucket_ids: Iterable[str], *, seconds: float) -> None:
        self.blocked += [(bucket_id, seconds) for bucket_id in bucket_ids]


class FakeTokens:
    """A page's token, and the next one after a refusal."""

    def __init__(self) -> None:
        self.generation = 1
        self.problem: Exception | None = None
        self.replaced: list[int] = []

    async def access(self, oa_id: str) -> AccessToken:
        if self.problem is not None:
            raise self.problem
        return AccessToken(f"access-{self.generation}-{oa_id}", self.generation)

    async def replace(self, oa_id: str, generation: int) -> AccessToken:
        self.replaced.append(generation)
        self.generation = max(self.generation, generation + 1)
        return await self.access(oa_id)

    async def worked(self, oa_id: str, generation: int, *, started_at: datetime) -> None:
        """Nothing to learn here."""


@dataclass
class SentCall:
    """One call to Zalo."""

    user_id: str
    content: ReplyContent
    access_token: str
    conversation_id: str | None


class FakeZalo:
    """Answers what it is told to, call by call; accepts otherwise."""

    def __init__(self) -> None:
        self.calls: list[SentCall] = []
        self.outcomes: list[SendOutcome] = []
        self.on_call: Callable[[SentCall], SendOutcome] | None = None

    async def send(
        self,
        content: ReplyContent,
        *,
        app_id: str,  # noqa: ARG002 - the port's signature
        user_id: str,
        access_token: str,
        conversation_id: str | None = None,
    ) -> SendOutcome:
        await asyncio.sleep(0)
        call = SentCall(user_id, content, access_token, conversation_id)
        self.calls.append(call)
        if self.on_call is not None:
            return self.on_call(call)
        return self.outcomes.pop(0) if self.outcomes else Accepted(f"m{len(self.calls)}", "reply")


RULES: DeliveryRules = load_delivery_rules(DATA_DIR)
LIMITS = SendLimits(
    slots=8,
    lease=LEASE,
    call_timeout=timedelta(seconds=10),
    lease_margin=timedelta(seconds=2),
    grace=GRACE,
    poll_seconds=0.01,
    stop_seconds=2.0,
    pays_beyond_free=True,
)


class FakeConversations:
    """Zalo's lists, as a test fills them.

    Attributes:
        is_told: whether Zalo answers at all.
    """

    def __init__(self) -> None:
        self.listed: list[Proof] = []
        self.is_told = True
        self.asked: list[str] = []

    async def messages(self, citizen_key: str, *, since: datetime) -> list[Proof] | None:
        await asyncio.sleep(0)
        self.asked.append(citizen_key)
        if not self.is_told:
            return None
        return [proof for proof in self.listed if proof.citizen_key == citizen_key and proof.at >= since]


@dataclass
class World:
    """A sender among stand-ins."""

    clock: ManualClock = field(default_factory=ManualClock)
    contacts: FakeContacts = field(default_factory=FakeContacts)
    reports: FakeReports = field(default_factory=FakeReports)
    rates: FakeRates = field(default_factory=FakeRates)
    tokens: FakeTokens = field(default_factory=FakeTokens)
    zalo: FakeZalo = field(default_factory=FakeZalo)
    conversations: FakeConversations = field(default_factory=FakeConversations)
    limits: SendLimits = LIMITS
    rules: DeliveryRules = RULES

    def __post_init__(self) -> None:
        self.ledger = FakeLedger(self.clock, lease=self.limits.lease)
        self.settlement = Settlement(
            self.ledger,
            self.reports,
            self.clock,
            skew=SKEW,
            checks=self.rules.uncertain_checks,
            by_list=ByList(self.conversations, self.rules.reply_look_up),
        )
        self.sender = self.a_sender()

    def a_sender(self, **changes: Any) -> ReplySender:
        """Another replica on the same ledger."""
        outside = {
            "ledger": self.ledger,
            "contacts": self.contacts,
            "reports": self.reports,
            "rates": self.rates,
            "tokens": self.tokens,
            "zalo": self.zalo,
            "clock": self.clock,
            **changes,
        }
        return ReplySender(Adapters(**outside), self.settlement, self.rules, self.limits)

    async def one_round(self) -> None:
        """Search, send and record once."""
        self.sender.look_now()
        await self.sender.round()
        await self.sender.record_pending()


def as_utc(text: str) -> datetime:
    """An aware moment from its short form."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
