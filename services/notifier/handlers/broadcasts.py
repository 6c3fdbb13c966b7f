"""The desk at which people work broadcasts: one function for each thing that can be done, for whoever may do it.

Rules of a broadcast's life are in `domain/broadcast.py`; here are rights, races and what a preview needs.
"""

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from services.notifier.adapters.reply_ledger import LedgerRow
from services.notifier.domain.access import RIGHT_FOR, Person, Right
from services.notifier.domain.articles import ArticleSend, article_progress
from services.notifier.domain.audience import ContactView
from services.notifier.domain.broadcast import (
    Action,
    Broadcast,
    BroadcastState,
    Content,
    Draft,
    Forecast,
    HistoryEntry,
    NotAllowed,
    act,
    running_seconds,
)
from services.notifier.domain.copies import CopyState, Progress
from services.notifier.domain.lanes import LaneBook
from services.notifier.domain.permission import content_problem
from services.notifier.domain.reply import composed
from services.notifier.errors import Rejected
from services.notifier.handlers.forecast import Forecaster
from services.notifier.handlers.ports import Clock, Ledger
from shared.events import ReplyContent, ReplyRequested
from shared.ids import deterministic_id
from shared.telemetry import get_logger
from shared.zalo_config import ZaloConfig

log = get_logger()

RACES = 8
"""So often a change is made again over somebody else's; the ledger's builder does not race, so this is people only."""
MAX_TESTS = 20
MAX_UNCERTAIN = 1_000
TEST_TEMPLATE = "broadcast.test"
LAST_OF_ALL = 2**62
"""Place of a test among a citizen's replies: no reply ever waits for a test."""
READ_AT_ONCE = 200
REPEATABLE: frozenset[Action] = frozenset({"approve", "pause", "resume", "cancel"})


class Broadcasts(Protocol):
    """The stored broadcasts; see `adapters/broadcast_store.py`."""

    async def create(self, broadcast: Broadcast) -> bool:
        """Keep a new one."""
        ...

    async def read(self, broadcast_id: str) -> Broadcast | None:
        """Show one."""
        ...

    async def save(self, changed: Broadcast) -> bool:
        """Keep a change."""
        ...

    async def find(
        self,
        *,
        states: Collection[BroadcastState] = (),
        unit: str | None = None,
        limit: int = ...,
        skip: int = ...,
    ) -> list[Broadcast]:
        """Show the newest after so many."""
        ...


class Recipients(Protocol):
    """The ledger of copies."""

    async def progress(self, broadcast_id: str) -> Progress:
        """Count its copies."""
        ...

    async def in_state(self, broadcast_id: str, state: CopyState, *, limit: int) -> list[dict[str, Any]]:
        """Show some copies in a state."""
        ...

    async def of_person(self, person: str, broadcast_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Show a person's copies."""
        ...

    async def abandon(self, broadcast_id: str, person: str, *, by: str, now: datetime) -> bool:
        """Give an uncertain copy up."""
        ...

    async def settle_by_person(self, broadcast_id: str, person: str, *, is_sent: bool, by: str, now: datetime) -> bool:
        """Say what became of an uncertain copy."""
        ...


class ArticleSends(Protocol):
    """Articles on their way, page by page."""

    async def of_broadcast(self, broadcast_id: str) -> Sequence[ArticleSend]:
        """Show a broadcast's rows."""
        ...

    async def settle(self, broadcast_id: str, page: str, *, is_sent: bool, by: str, now: datetime) -> bool:
        """Say what became of an uncertain page."""
        ...


@dataclass(frozen=True)
class Standing:
    """A running broadcast as people watch it.

    Attributes:
        articles: of an article, page by page.
        per_second: copies whose fate is known, by the time it has been running; None before there is any.
        seconds_left: at that pace; None where it cannot be told.
    """

    broadcast: Broadcast
    progress: Progress
    articles: Sequence[ArticleSend]
    at: datetime
    per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class Desk:
    """All that people can do with broadcasts.

    Attributes:
        topics: subjects that citizens can choose.
        staff_tag: only contacts with this tag of the page get test sends: a test is approved by nobody.
    """

    broadcasts: Broadcasts
    recipients: Recipients
    articles: ArticleSends
    forecaster: Forecaster
    replies: Ledger
    book: LaneBook
    zalo: ZaloConfig
    clock: Clock
    topics: Collection[str]
    staff_tag: str

    # Writing

    async def create(self, draft: Draft, person: Person, *, key: str = "") -> Broadcast:
        """Keep a new draft.

        Args:
            draft: what to send.
            person: its author.
            key: the same key of the same person is the same draft, so that a repeated call makes no second one.

        Raises:
            Rejected: not theirs to write, or it cannot be sent like this.
        """
        _require(person, "write")
        self._check(draft, person)
        broadcast_id = deterministic_id("broadcast", person.id, key or secrets.token_hex(16))[:12]
        broadcast = Broadcast(broadcast_id, draft, person.id, created_at=self.clock.now())
        if not await self.broadcasts.create(broadcast):
            known = await self._visible(broadcast_id, person)
            if known.draft.digest != draft.digest:
                raise Rejected("broadcast.key_used", status=409, detail="This key was used for another draft.")
            return known
        log.info("broadcast.drafted", broadcast=broadcast.id, by=person.id, unit=draft.unit)
        return broadcast

    async def edit(self, broadcast_id: str, draft: Draft, person: Person, *, version: int) -> Broadcast:
        """Replace a draft that nobody changed since `version` was read.

        Raises:
            Rejected: somebody did, or it may not be changed.
        """
        _require(person, "write")
        self._check(draft, person)
        current = await self._visible(broadcast_id, person)
        if current.draft == draft and current.version == version + 1 and _did_last(current, "edit", person):
            return current
        if current.version != version:
            raise Rejected("broadcast.changed", status=409, detail=f"It is at version {current.version} now.")
        changed = _allowed(act(current, "edit", by=person.id, at=self.clock.now(), draft=draft))
        if not await self.broadcasts.save(changed):
            raise Rejected("broadcast.changed", status=409, detail="Somebody else changed it at the same time.")
        log.info("broadcast.acted", action="edit", broadcast=broadcast_id, by=person.id)
        return changed

    def _check(self, draft: Draft, person: Person) -> None:
        known = self.forecaster.units()
        if unknown := sorted({draft.unit, *draft.audience.units, *draft.audience.wards} - known):
            raise Rejected("broadcast.unit_unknown", status=422, detail=f"No such unit today: {', '.join(unknown)}.")
        if strange := sorted(set(draft.audience.topics) - set(self.topics)):
            raise Rejected(
                "broadcast.topic_unknown",
                status=422,
                detail=f"No citizen can choose {', '.join(strange)}; there are {', '.join(sorted(self.topics))}.",
            )
        if not person.covers(draft):
            mine = ", ".join(sorted(person.units))
            raise Rejected(
                "access.other_unit",
                status=403,
                detail=f"You write for {mine}: name one of them as `unit` and only them in `audience.units`.",
            )
        article = draft.content.article
        for name, codes in article.target.items() if article is not None else ():
            highest = self.book.article_targets[name]
            if not codes or not all(0 <= code <= highest for code in codes):
                raise Rejected(
                    "article.target_unknown", status=422, detail=f"target.{name}: codes from 0 to {highest}."
                )

    # Looking

    async def show(self, broadcast_id: str, person: Person) -> Broadcast:
        """One broadcast.

        Raises:
            Rejected: there is none that this person may see.
        """
        _require(person, "read")
        return await self._visible(broadcast_id, person)

    async def find(
        self,
        person: Person,
        *,
        states: Collection[BroadcastState] = (),
        unit: str | None = None,
        limit: int = 50,
        skip: int = 0,
    ) -> list[Broadcast]:
        """The newest broadcasts this person may see, after so many of them."""
        _require(person, "read")
        visible: list[Broadcast] = []
        read = 0
        while len(visible) < skip + limit and (
            part := await self.broadcasts.find(states=states, unit=unit, limit=READ_AT_ONCE, skip=read)
        ):
            read += len(part)
            visible += [one for one in part if person.covers(one.draft)]
        return visible[skip : skip + limit]

    async def standing(self, broadcast_id: str, person: Person) -> Standing:
        """How far it is, and how long it will still take."""
        broadcast = await self.show(broadcast_id, person)
        sends: Sequence[ArticleSend] = ()
        if broadcast.draft.content.article is not None:
            sends = await self.articles.of_broadcast(broadcast_id)
            progress = article_progress(sends)
        else:
            progress = await self.recipients.progress(broadcast_id)
        now = self.clock.now()
        waiting = progress.states.get("queued", 0)
        settled = progress.people - waiting - progress.in_flight
        seconds = running_seconds(broadcast, now)
        pace = settled / seconds if settled and seconds > 0 else None
        left = waiting / pace if pace and waiting and broadcast.state == "running" else None
        return Standing(broadcast, progress, sends, now, pace, left)

    async def copies_of(self, citizen: str, person: Person) -> list[tuple[Broadcast, dict[str, Any]]]:
        """What became of a citizen's copies, on whatever page, of the newest broadcasts that this person may see.

        Returns:
            The broadcasts that decided about this citizen, the newest first, each with its row.
        """
        broadcasts = {one.id: one for one in await self.find(person, limit=READ_AT_ONCE)}
        rows: dict[str, dict[str, Any]] = {}
        for contacts in await self.forecaster.audience.of_citizens([citizen]):
            for row in await self.recipients.of_person(contacts[0].person, broadcasts):
                rows[row["broadcast_id"]] = row
        return [(one, rows[one.id]) for one in broadcasts.values() if one.id in rows]

    async def uncertain(self, broadcast_id: str, person: Person) -> list[dict[str, Any]]:
        """Copies of which nobody knows whether Zalo has them, and which no echo settled; some, if there are many."""
        _require(person, "read")
        await self._visible(broadcast_id, person)
        return await self.recipients.in_state(broadcast_id, "uncertain", limit=MAX_UNCERTAIN)

    async def abandon(self, broadcast_id: str, person: Person, recipients: Sequence[str]) -> int:
        """Give uncertain copies up: they count as failed and are never sent.

        Returns:
            How many were uncertain still.
        """
        _require(person, "run")
        await self._visible(broadcast_id, person)
        now = self.clock.now()
        given_up = [await self.recipients.abandon(broadcast_id, one, by=person.id, now=now) for one in recipients]
        log.info("broadcast.abandoned", broadcast=broadcast_id, by=person.id, count=sum(given_up))
        return sum(given_up)

    async def settle(self, broadcast_id: str, person: Person, recipients: Sequence[str], *, is_sent: bool) -> int:
        """Say what became of uncertain copies, as it is seen in Zalo's own tool; nothing is sent again.

        Returns:
            How many were uncertain still.
        """
        _require(person, "run")
        await self._visible(broadcast_id, person)
        now = self.clock.now()
        settled = [
            await self.recipients.settle_by_person(broadcast_id, one, is_sent=is_sent, by=person.id, now=now)
            for one in recipients
        ]
        log.info("broadcast.settled", broadcast=broadcast_id, by=person.id, is_sent=is_sent, count=sum(settled))
        return sum(settled)

    async def settle_article(self, broadcast_id: str, page: str, person: Person, *, is_sent: bool) -> bool:
        """Say what became of an article whose page is uncertain, as it is seen in Zalo's own tool.

        Returns:
            False if the page is not uncertain, or still has no article that could have been shown.
        """
        _require(person, "run")
        await self._visible(broadcast_id, person)
        settled = await self.articles.settle(broadcast_id, page, is_sent=is_sent, by=person.id, now=self.clock.now())
        log.info("article.settled", broadcast=broadcast_id, page=page, by=person.id, is_sent=is_sent, settled=settled)
        return settled

    async def dry_run(self, draft: Draft, person: Person, *, citizens: Sequence[str] = ()) -> Forecast:
        """What would happen if this were sent to these people now."""
        _require(person, "read")
        self._check(draft, person)
        return await self.forecaster.forecast(draft, citizens=citizens)

    # Acting

    async def preview(self, broadcast_id: str, person: Person) -> Broadcast:
        """Count who would get it and who would not; the counts are kept beside the draft.

        Raises:
            Rejected: it was changed while we counted, or is no draft.
        """
        _require(person, RIGHT_FOR["preview"])
        before = await self._visible(broadcast_id, person)
        _allowed(act(before, "preview", by=person.id, at=self.clock.now()))  # before the work, not after it
        forecast = await self.forecaster.forecast(before.draft)
        return await self._act(broadcast_id, "preview", person, expected=before.draft.digest, forecast=forecast)

    async def approve(self, broadcast_id: str, person: Person, *, digest: str, note: str = "") -> Broadcast:
        """Agree, as the second person, to exactly the draft that was read.

        Raises:
            Rejected: it is another draft now, or this person may not.
        """
        return await self._act(broadcast_id, "approve", person, expected=digest, note=note)

    async def schedule(
        self, broadcast_id: str, person: Person, *, starts_at: datetime | None, note: str = ""
    ) -> Broadcast:
        """Let it start at a moment, or now."""
        return await self._act(broadcast_id, "schedule", person, starts_at=starts_at, note=note)

    async def pause(self, broadcast_id: str, person: Person, *, note: str = "") -> Broadcast:
        """Begin no further copies; what is in flight ends."""
        return await self._act(broadcast_id, "pause", person, note=note)

    async def resume(self, broadcast_id: str, person: Person, *, note: str = "") -> Broadcast:
        """Go on after a pause."""
        return await self._act(broadcast_id, "resume", person, note=note)

    async def cancel(self, broadcast_id: str, person: Person, *, note: str = "") -> Broadcast:
        """End it for good; what was sent stays sent."""
        return await self._act(broadcast_id, "cancel", person, note=note)

    async def test(self, broadcast_id: str, person: Person, citizens: Sequence[str], *, key: str = "") -> list[str]:
        """Send it to colleagues as they are: contacts that the page's own administrator tagged as staff.

        A test leaves by the reply ledger, so it is sent at most once and its fate can be looked up.

        Returns:
            Ids in the reply ledger, in the order of the citizens.

        Raises:
            Rejected: one of them is not staff, or there is nothing to send.
        """
        _require(person, "write")
        broadcast = await self._visible(broadcast_id, person)
        content = _as_message(broadcast.draft.content)
        contacts = {
            view.reach.citizen_key: view
            for same in await self.forecaster.audience.of_citizens(citizens)
            for view in same
        }
        strangers = [one for one in citizens if one not in contacts or self.staff_tag not in contacts[one].tags]
        if strangers:
            raise Rejected(
                "test.not_staff",
                status=422,
                detail=f"Not tagged “{self.staff_tag}” on their page: {', '.join(strangers)}. A test is approved by "
                "nobody, so it goes to colleagues only; tag them in Zalo's OA manager.",
            )
        key = key or secrets.token_hex(8)
        now = self.clock.now()
        rows = [self._test_row(broadcast, contacts[one], content, key, now) for one in dict.fromkeys(citizens)]
        await self.replies.add(rows, now=now)
        log.info("broadcast.tested", broadcast=broadcast_id, by=person.id, count=len(rows))
        return [row.event.event_id for row in rows]

    def _test_row(
        self, broadcast: Broadcast, contact: ContactView, content: ReplyContent, key: str, now: datetime
    ) -> LedgerRow:
        reach = contact.reach
        event_id = deterministic_id(TEST_TEMPLATE, broadcast.id, broadcast.draft.digest, reach.citizen_key, key)
        event = ReplyRequested(
            event_id=event_id,
            occurred_at=now,
            correlation_id=event_id,
            page=reach.page,
            oa_id=reach.oa_id,
            user_id=reach.user_id,
            origin="officer",
            template=TEST_TEMPLATE,
            content=content,
            interaction_at=reach.last_interaction_at,
        )
        page = self.zalo.page_of(reach.oa_id)
        return LedgerRow(event, None if page is None else page.app_id, LAST_OF_ALL, None)

    async def _act(
        self,
        broadcast_id: str,
        action: Action,
        person: Person,
        *,
        note: str = "",
        expected: str | None = None,
        forecast: Forecast | None = None,
        starts_at: datetime | None = None,
    ) -> Broadcast:
        _require(person, RIGHT_FOR[action])
        for _ in range(RACES):
            current = await self._visible(broadcast_id, person)
            if expected is not None and current.draft.digest != expected:
                raise Rejected("broadcast.changed", status=409, detail="The draft is another one now: read it again.")
            now = self.clock.now()
            changed = act(current, action, by=person.id, at=now, note=note, forecast=forecast, starts_at=starts_at)
            if isinstance(changed, NotAllowed) and action in REPEATABLE and _did_last(current, action, person):
                return current  # they did just this: the answer was lost, and they ask again
            if await self.broadcasts.save(changed := _allowed(changed)):
                log.info("broadcast.acted", action=action, broadcast=broadcast_id, by=person.id, state=changed.state)
                return changed
        raise Rejected("broadcast.changed", status=409, detail="Others change it all the time: try again.")

    async def _visible(self, broadcast_id: str, person: Person) -> Broadcast:
        broadcast = await self.broadcasts.read(broadcast_id)
        if broadcast is None or not person.covers(broadcast.draft):
            raise Rejected("broadcast.not_found", status=404)
        return broadcast


def _require(person: Person, right: Right) -> None:
    if not person.may(right):
        raise Rejected(
            "access.not_allowed", status=403, detail=f"Your roles ({', '.join(sorted(person.roles))}) may not {right}."
        )


def _allowed(changed: Broadcast | NotAllowed) -> Broadcast:
    if isinstance(changed, NotAllowed):
        raise Rejected(changed.reason, status=409, detail=_IN_WORDS.get(changed.reason, ""))
    return changed


_IN_WORDS = {
    "broadcast.not_previewed": "Nobody has counted yet whom this draft reaches.",
    "broadcast.preview_too_old": "Its preview is more than a day old.",
    "broadcast.needs_a_second_person": "You wrote or changed it last, so another person has to approve it.",
    "broadcast.starts_in_the_past": "That moment is over.",
}


def _did_last(broadcast: Broadcast, action: Action, person: Person) -> bool:
    last: HistoryEntry | None = broadcast.history[-1] if broadcast.history else None
    return last is not None and (last.action, last.by) == (action, person.id)


def _as_message(content: Content) -> ReplyContent:
    """What a test shows: a message as it is, of a template its text, of an article what the list of articles shows."""
    if content.message is not None:
        return content.message
    if content.template is not None:
        return ReplyContent(text=content.template.text)
    article = content.article
    if article is None:
        raise Rejected("content.empty", status=422)
    shown = composed(ReplyContent(text=f"{article.title}\n\n{article.description}", image_url=article.cover_url))
    if problem := content_problem(shown):
        raise Rejected(problem, status=422)
    return shown
