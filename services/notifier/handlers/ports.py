"""What the handlers need of the outside; `app.py` hands them the adapters."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from services.notifier.adapters.rate_bucket import Grant
from services.notifier.adapters.reply_ledger import Expired, LedgerRow, Result
from services.notifier.domain.contacts import ContactFacts
from services.notifier.domain.gate import Unfinished
from services.notifier.domain.outcomes import SendOutcome
from services.notifier.domain.reply import Candidate, Contact, Reply
from services.notifier.domain.settlement import OpenSend, Proof
from shared.events import DeliveryReported, ReplyContent


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
        """Show sends without a message id."""
        ...

    async def owned(self, message_ids: Iterable[str]) -> set[str]:
        """Tell which message ids are taken."""
        ...

    async def settle(self, send: OpenSend, proof: Proof) -> bool:
        """Mark an uncertain reply as sent."""
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


class Reports(Protocol):
    """Echoes and receipts."""

    async def add(self, reports: Sequence[DeliveryReported]) -> None:
        """Keep reports."""
        ...

    async def of_messages(self, message_ids: Iterable[str]) -> Mapping[str, Mapping[str, datetime]]:
        """Show the reports of messages."""
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

    async def take(self, bucket_id: str, wanted: int) -> Grant:
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
