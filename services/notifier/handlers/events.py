"""One function for each kind of event: keep it, then let the ledger know. All are repeatable."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.notifier.adapters.reply_ledger import LedgerRow
from services.notifier.domain.contacts import facts_of_change, facts_of_choice, facts_of_message, merged
from services.notifier.domain.reply import Candidate
from services.notifier.handlers.ports import Clock, Contacts, Ledger, Reports
from services.notifier.handlers.settle import Settlement
from shared.crash import crash_point
from shared.events import (
    CitizenChanged,
    CitizenChose,
    CitizenMessageReceived,
    DeliveryReported,
    ReplyRequested,
    TemplateDelivered,
)
from shared.kafka import Received
from shared.telemetry import get_logger
from shared.zalo_config import ZaloConfig

log = get_logger()


class Wakeable(Protocol):
    """The sender, as the handlers of events see it."""

    def notice(self, candidates: Iterable[Candidate]) -> None:
        """Replies were queued."""
        ...

    def look_now(self) -> None:
        """Replies were set free."""
        ...


class Deliverable(Protocol):
    """The ledger whose sends Zalo names by our own ids."""

    async def delivered(self, moments: Mapping[str, datetime]) -> Mapping[str, str]:
        """Note deliveries on sends by id; their citizens."""
        ...


@dataclass(frozen=True)
class NotifierDeps:
    """What the handlers of events need.

    Attributes:
        settlement: of replies; a settled one sets free what waited behind it.
        of_copies: of broadcasts.
        copies: of broadcasts, told by our own ids.
    """

    ledger: Ledger
    contacts: Contacts
    reports: Reports
    settlement: Settlement
    sender: Wakeable
    clock: Clock
    zalo: ZaloConfig
    of_copies: Settlement | None = None
    copies: Deliverable | None = None


async def queue_replies(received: Sequence[Received[ReplyRequested]], deps: NotifierDeps) -> None:
    """Put requested replies into the send ledger, which is also the queue; the sender takes them from there.

    Raises:
        StoreUnavailable: Kafka redelivers the batch.
    """
    rows = []
    for one in received:
        page = deps.zalo.page_of(one.event.oa_id)
        app_id = page.app_id if page is not None else None
        rows.append(LedgerRow(one.event, app_id, one.offset, one.traceparent))
    new = await deps.ledger.add(rows, now=deps.clock.now())
    deps.sender.notice(new)
    log.info("replies.queued", count=len(received), new=len(new), emergencies=sum(not c.priority for c in new))


async def note_reports(received: Sequence[Received[DeliveryReported]], deps: NotifierDeps) -> None:
    """Keep echoes and receipts, note them on their replies, and settle uncertain replies with them.

    Raises:
        StoreUnavailable: Kafka redelivers the batch.
    """
    reports = [one.event for one in received]
    await deps.reports.add(reports)
    crash_point("notifier.after_report_stored")
    about = {message_id for report in reports if report.report != "reacted" for message_id in report.message_ids}
    moments = await deps.reports.of_messages(about) if about else {}
    known = await deps.settlement.note(moments) if about else set()
    if deps.of_copies is not None and (others := {one: at for one, at in moments.items() if one not in known}):
        known |= await deps.of_copies.note(others)
    strangers = {
        report.citizen_key
        for report in reports
        if report.report != "reacted" and report.admin_id is None and not known.issuperset(report.message_ids)
    }
    settled = await deps.settlement.of_citizens(strangers) if strangers else set()
    if settled:
        deps.sender.look_now()
    if deps.of_copies is not None and strangers:
        settled |= await deps.of_copies.of_citizens(strangers)
    log.info("reports.noted", count=len(reports), messages=len(about), known=len(known), settled=len(settled))


async def note_deliveries(received: Sequence[Received[TemplateDelivered]], deps: NotifierDeps) -> None:
    """Note on copies that their template reached the phone number, and settle the uncertain ones among them.

    Raises:
        StoreUnavailable: Kafka redelivers the batch.
    """
    if deps.copies is None or deps.of_copies is None:
        return
    events = [one.event for one in received]
    tracked = {event.tracking_id: event for event in events if event.tracking_id is not None}
    citizens = await deps.copies.delivered({send_id: event.delivered_at for send_id, event in tracked.items()})
    await deps.reports.add_deliveries([(tracked[send_id], citizen) for send_id, citizen in citizens.items()])
    # Where Zalo does not repeat our id, its own still tells, if the answer came.
    others = {one.message_id: {"received": one.delivered_at} for one in events if one.tracking_id not in citizens}
    known = await deps.of_copies.note(others) if others else set()
    settled = await deps.of_copies.of_citizens(set(citizens.values())) if citizens else set()
    log.info("deliveries.noted", count=len(events), copies=len(citizens) + len(known), settled=len(settled))


async def note_interactions(received: Sequence[Received[CitizenMessageReceived]], deps: NotifierDeps) -> None:
    """Remember when citizens wrote last: it opens the window for answers.

    Raises:
        StoreUnavailable: Kafka redelivers the batch.
    """
    facts = merged(facts_of_message(one.event) for one in received)
    await deps.contacts.learn(facts)
    log.info("interactions.noted", count=len(received), citizens=len(facts))


async def note_changes(received: Sequence[Received[CitizenChanged]], deps: NotifierDeps) -> None:
    """Keep followers, profiles, tags and withdrawals right, whatever the order in which they come.

    Raises:
        StoreUnavailable: Kafka redelivers the batch.
    """
    facts = merged(facts_of_change(one.event) for one in received)
    await deps.contacts.learn(facts)
    withdrawn = {fact.citizen_key: fact.withdrawn_at for fact in facts if fact.withdrawn_at is not None}
    erased = await deps.ledger.erase(withdrawn) if withdrawn else 0
    log.info("changes.noted", count=len(received), citizens=len(facts), withdrawn=list(withdrawn), erased=erased)


async def note_choices(received: Sequence[Received[CitizenChose]], deps: NotifierDeps) -> None:
    """Remember what citizens want to receive; it holds for the person on all pages.

    Raises:
        StoreUnavailable: Kafka redelivers the batch.
    """
    facts = merged(facts_of_choice(one.event) for one in received)
    await deps.contacts.learn(facts)
    log.info(
        "choices.noted",
        count=len(received),
        citizens=len(facts),
        choices=[f"{one.event.subject}.{one.event.value or 'all'}.{one.event.is_on}" for one in received],
    )
