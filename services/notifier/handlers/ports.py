"""What the handlers need of the outside; `app.py` hands them the adapters."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from services.notifier.adapters.rate_bucket import Grant
from services.notifier.adapters.reply_ledger import Expired, LedgerRow, Result
from services.notifier.adapters.zalo_copies import Address, Form
from services.notifier.domain.audience import ContactView, Terms
from services.notifier.domain.broadcast import Broadcast, BroadcastState, Snapshot
from services.notifier.domain.contacts import ContactFacts
from services.notifier.domain.copies import Chunk, Copy, CopyResult, Counts, NewChunk, Progress, Recent, Row, Skip, Wave
from services.notifier.domain.gate import Unfinished
from services.notifier.domain.next_step import Fail, TryAgain
from services.notifier.domain.outcomes import SendOutcome
from services.notifier.domain.reply import Candidate, Contact, Reply
from services.notifier.domain.settlement import OpenSend, Proof
from shared.events import DeliveryReported, ReplyContent, TemplateDelivered


class Clock(Protocol):
    """The database's clock."""

    def now(self) -> datetime:
        """The time all replicas agree on."""
        ...


class Ledger(Protocol):
    """The send ledger; see `adapters/reply_ledger.py` for what each call promises."""

    async def add(self, rows: Sequence[LedgerRow], *, now: datetime) -> list[Candidate]:
        """Queue replies that are new."""
        ...

    async def due(self, priority: int, *, now: datetime, limit: int) -> list[Candidate]:
        """Find due replies."""
        ...

    async def unfinished(self, citizen_keys: Iterable[str]) -> Mapping[str, list[Unfinished]]:
        """Show the gates of citizens."""
        ...

    async def claim(self, ids: Sequence[str], *, owner: str, now: datetime) -> list[Reply]:
        """Take replies for one attempt."""
        ...

    async def mark_called(self, ids: Sequence[str], *, owner: str) -> set[str]:
        """Write down that calls begin."""
        ...

    async def release(self, ids: Sequence[str], *, owner: str, now: datetime) -> None:
        """Give back claims without a call."""
        ...

    async def put_off(self, ids: Sequence[str], *, until: datetime, held_by: str | None) -> None:
        """Make queued replies due later."""
        ...

    async def let_go(self, finished: Sequence[str], citizen_keys: Iterable[str], *, now: datetime) -> None:
        """Make due what finished replies held."""
        ...

    async def record(self, results: Sequence[Result]) -> None:
        """Write down what attempts came to."""
        ...

    async def expire_leases(self, *, next_check: timedelta) -> Expired:
        """End unrecorded claims."""
        ...

    async def open_sends(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Show sends of which nobody knows yet whether Zalo has them, those under way included."""
        ...

    async def uncertain(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Show the uncertain ones alone."""
        ...

    async def nameless(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Show what is sent without a message id."""
        ...

    async def owned(self, message_ids: Iterable[str]) -> set[str]:
        """Tell which message ids are taken."""
        ...

    async def settle(self, send: OpenSend, proof: Proof) -> bool:
        """Mark an uncertain reply as sent."""
        ...

    async def not_taken(self, send: OpenSend, step: TryAgain | Fail, *, now: datetime) -> bool:
        """Queue or fail an uncertain reply that Zalo does not have."""
        ...

    async def uncertain_due(self, *, now: datetime, limit: int) -> Mapping[str, tuple[str, int]]:
        """Find uncertain replies to look at."""
        ...

    async def check_again(self, at: Mapping[str, tuple[int, datetime]]) -> None:
        """Set when to look at uncertain replies next."""
        ...

    async def mark(self, reports: Mapping[str, Mapping[str, datetime]]) -> set[str]:
        """Note reports on replies."""
        ...

    async def erase(self, withdrawn: Mapping[str, datetime]) -> int:
        """Erase what was written to citizens who withdrew."""
        ...


class Reports(Protocol):
    """Echoes and receipts."""

    async def add(self, reports: Sequence[DeliveryReported]) -> None:
        """Keep reports."""
        ...

    async def add_deliveries(self, deliveries: Sequence[tuple[TemplateDelivered, str]]) -> None:
        """Keep receipts that name a send of ours, each with its citizen."""
        ...

    async def of_messages(self, message_ids: Iterable[str]) -> Mapping[str, Mapping[str, datetime]]:
        """Show the reports of messages."""
        ...

    async def by_people(self, message_ids: Iterable[str]) -> set[str]:
        """Tell which messages people sent in Zalo's tool."""
        ...

    async def proofs(self, citizen_keys: Iterable[str], *, since: datetime) -> list[Proof]:
        """Show what was reported of citizens."""
        ...


class Contacts(Protocol):
    """What is known of citizens."""

    async def learn(self, facts: Sequence[ContactFacts]) -> None:
        """Add facts."""
        ...

    async def of(self, citizen_keys: Iterable[str]) -> Mapping[str, Contact]:
        """Show contacts."""
        ...


class Rates(Protocol):
    """Shared rate limits."""

    async def take(self, bucket_id: str, wanted: int, *, reserved_share: float = ...) -> Grant:
        """Take tokens."""
        ...

    def give_back(self, bucket_id: str, unused: int) -> None:
        """Keep unused tokens for the next round."""
        ...

    async def block(self, bucket_ids: Iterable[str], *, seconds: float) -> None:
        """Stop all calls of buckets for a while."""
        ...


class Sender(Protocol):
    """Zalo's message API."""

    async def send(
        self,
        content: ReplyContent,
        *,
        app_id: str,
        user_id: str,
        access_token: str,
        conversation_id: str | None = None,
    ) -> SendOutcome:
        """Make one call and say what it came to."""
        ...


class Settleable(Protocol):
    """A ledger whose sends can be uncertain: that of replies, and that of broadcasts."""

    async def open_sends(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Show sends of which nobody knows yet whether Zalo has them, those under way included."""
        ...

    async def uncertain(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Show the uncertain ones alone."""
        ...

    async def nameless(self, citizen_keys: Iterable[str]) -> list[OpenSend]:
        """Show what is sent without a message id."""
        ...

    async def owned(self, message_ids: Iterable[str]) -> set[str]:
        """Tell which message ids are taken."""
        ...

    async def settle(self, send: OpenSend, proof: Proof) -> bool:
        """Mark an uncertain send as sent."""
        ...

    async def not_taken(self, send: OpenSend, step: TryAgain | Fail, *, now: datetime) -> bool:
        """Queue or fail an uncertain send that Zalo does not have."""
        ...

    async def let_go(self, finished: Sequence[str], citizen_keys: Iterable[str], *, now: datetime) -> None:
        """Make due what finished sends held."""
        ...

    async def uncertain_due(self, *, now: datetime, limit: int) -> Mapping[str, tuple[str, int]]:
        """Find uncertain sends to look at."""
        ...

    async def check_again(self, at: Mapping[str, tuple[int, datetime]]) -> None:
        """Set when to look at uncertain sends next."""
        ...

    async def mark(self, reports: Mapping[str, Mapping[str, datetime]]) -> set[str]:
        """Note reports on sends."""
        ...


class Copies(Settleable, Protocol):
    """The recipient ledger; see `adapters/recipient_ledger.py` for what each call promises."""

    async def agree_on_slices(self, broadcast_id: str, wanted: int) -> int:
        """Fix the number of slices."""
        ...

    async def add_chunks(self, chunks: Sequence[NewChunk]) -> None:
        """Keep new chunks."""
        ...

    async def built(self, broadcast_id: str) -> Mapping[int, tuple[int, str]]:
        """Show which chunks are there."""
        ...

    async def claim_chunk(self, broadcast_id: str, *, owner: str) -> Chunk | None:
        """Take a chunk that is due, and end what another owner left."""
        ...

    async def rows_of(self, chunk: Chunk) -> list[Row]:
        """Show what is done of a chunk."""
        ...

    async def renew(self, chunk: Chunk, counts: Counts) -> bool:
        """Give a sign."""
        ...

    async def release(self, chunk: Chunk, *, due_at: datetime | None) -> bool:
        """Put a chunk down."""
        ...

    async def skip(self, chunk: Chunk, skips: Sequence[Skip], *, now: datetime) -> None:
        """Write down who gets nothing."""
        ...

    async def mark_wave(self, chunk: Chunk, wave: Wave, counts: Counts) -> bool:
        """Mark copies as being sent, and give a sign."""
        ...

    async def record(self, chunk: Chunk, wave: Wave, results: Sequence[CopyResult]) -> None:
        """Write down what attempts came to."""
        ...

    async def recent(self, copies: Sequence[Copy], *, broadcast_id: str, now: datetime) -> Mapping[str, Recent]:
        """Show what else persons have had."""
        ...

    async def recount_unsettled(self, *, limit: int = ...) -> int:
        """Count unfinished chunks again."""
        ...

    async def progress(self, broadcast_id: str) -> Progress:
        """Show how far a broadcast is."""
        ...

    async def with_open_chunks(self) -> set[str]:
        """Name the broadcasts that are not at their end."""
        ...

    async def next_due(self, broadcast_id: str) -> datetime | None:
        """Show when the first open chunk is due."""
        ...


class Broadcasts(Protocol):
    """Broadcasts themselves; see `adapters/broadcast_store.py`."""

    async def read(self, broadcast_id: str) -> Broadcast | None:
        """Show one."""
        ...

    async def state_of(self, broadcast_id: str) -> BroadcastState | None:
        """Show its state alone."""
        ...

    async def save(self, changed: Broadcast) -> bool:
        """Keep a change."""
        ...

    async def keep_snapshot(self, broadcast_id: str, snapshot: Snapshot) -> bool:
        """Keep the audience's snapshot."""
        ...

    async def find(self, *, states: Collection[BroadcastState] = ..., limit: int = ...) -> list[Broadcast]:
        """Show the newest of some states."""
        ...

    async def every(self, states: Collection[BroadcastState]) -> list[Broadcast]:
        """Show all of some states."""
        ...

    async def due(self, now: datetime) -> list[str]:
        """Show those whose start has come."""
        ...


class AudienceReader(Protocol):
    """Contacts in the order of persons; see `adapters/audience_store.py`."""

    async def size(self) -> int:
        """Estimate how many contacts there are."""
        ...

    async def meant_in_slice(self, lower: str, upper: str, terms: Terms) -> list[str]:
        """Name the persons between two bounds whom an audience means."""
        ...

    async def in_slice(self, lower: str, upper: str) -> list[list[ContactView]]:
        """Show the contacts of the persons between two bounds."""
        ...


class CopySender(Protocol):
    """Zalo's message API for one content and many people."""

    async def send(self, form: Form, addresses: Sequence[Address]) -> list[SendOutcome]:
        """Make one call for each and say what they came to."""
        ...
