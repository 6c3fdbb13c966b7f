"""Walks articles through Zalo's asynchronous API, page by page, and looks up afterwards how often they were read.

Each call is marked in the row before it is made and its outcome is written down after it, as for every other send.
Every step asks anew whether the broadcast still runs, whether it is day, and whether the page may send one more.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from services.notifier.domain.articles import OPEN, TOO_LATE, ArticleOutcome, ArticleSend, after, next_look
from services.notifier.domain.broadcast import ArticleContent, Broadcast, NotAllowed, Snapshot, act
from services.notifier.domain.lanes import Refused as LaneRefused
from services.notifier.domain.next_step import Fail, without_token
from services.notifier.domain.outcomes import (
    Got,
    NotSent,
    Refused,
    SendOutcome,
    Statistics,
    Unknown,
)
from services.notifier.domain.rules import VIETNAM
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.forecast import Forecaster
from services.notifier.handlers.keep_tokens import AccessToken
from services.notifier.handlers.ports import Broadcasts, Clock, Rates
from services.notifier.handlers.recording import until_stored
from services.notifier.handlers.send_replies import TokenSource
from services.notifier.handlers.throttle import may_call, paused_until
from shared.crash import crash_point
from shared.errors import StoreUnavailable
from shared.telemetry import get_logger
from shared.zalo_config import ZaloConfig

log = get_logger()

SCHEDULER = "scheduler"
PAUSE = timedelta(seconds=2)
FOLLOWERS_KNOWN_SECONDS = 60.0
"""Counting followers reads every contact, so all pages of a broadcast share one count."""
COLLECT_AT_ONCE = 20
STORE_PAUSE_SECONDS = 2.0


class ArticleRows(Protocol):
    """The stored rows; see `adapters/article_store.py`."""

    async def add(self, sends: Sequence[ArticleSend]) -> None:
        """Keep new rows."""
        ...

    async def of_broadcast(self, broadcast_id: str) -> list[ArticleSend]:
        """Show a broadcast's rows."""
        ...

    async def claim(self, *, owner: str, now: datetime) -> ArticleSend | None:
        """Take one that is due."""
        ...

    async def mark_called(self, send: ArticleSend, *, now: datetime, day_slot: str | None = None) -> bool:
        """Note a call before it is made."""
        ...

    async def record(self, send: ArticleSend, changes: Mapping[str, Any]) -> None:
        """Write down an outcome."""
        ...

    async def expire_leases(self, *, now: datetime) -> None:
        """End what nobody recorded."""
        ...

    async def settle(self, broadcast_id: str, page: str, *, is_sent: bool, by: str, now: datetime) -> bool:
        """Let a person say what became of an uncertain page."""
        ...

    async def cancel(self, broadcast_id: str) -> None:
        """End what has not begun."""
        ...

    async def sent_since(self, page: str, since: datetime) -> int:
        """Count broadcasts of a page."""
        ...

    async def to_collect(self, *, now: datetime, limit: int) -> list[ArticleSend]:
        """Find those to look up."""
        ...

    async def keep_statistics(
        self, send_id: str, *, views: int | None, shares: int | None, now: datetime, next_at: datetime | None
    ) -> None:
        """Keep what was counted."""
        ...


class ArticleApi(Protocol):
    """Zalo's article API."""

    async def create_article(
        self, content: ArticleContent, *, app_id: str, access_token: str
    ) -> Got | Refused | NotSent | Unknown:
        """Ask for an article; a token."""
        ...

    async def verify_article(self, token: str, *, app_id: str, access_token: str) -> Got | Refused | NotSent | Unknown:
        """Ask for its id."""
        ...

    async def broadcast_article(
        self, article_id: str, target: Mapping[str, Sequence[int]], *, app_id: str, access_token: str
    ) -> SendOutcome:
        """Show it to followers."""
        ...

    async def article_statistics(self, article_id: str, *, app_id: str, access_token: str) -> Statistics | None:
        """Views and shares."""
        ...


@dataclass(frozen=True)
class ArticleAdapters:
    """The outside of the article sender."""

    broadcasts: Broadcasts
    rows: ArticleRows
    forecaster: Forecaster
    rates: Rates
    tokens: TokenSource
    zalo: ArticleApi
    config: ZaloConfig
    clock: Clock


class ArticleSender:
    """Sends the articles of running broadcasts until it is cancelled.

    Args:
        outside: the adapters.
        poll_seconds: how often it looks for something to do.
    """

    def __init__(self, outside: ArticleAdapters, *, poll_seconds: float) -> None:
        self._outside = outside
        self._poll_seconds = poll_seconds
        self._owner = secrets.token_hex(8)
        self._counted: dict[tuple[str, ...], tuple[float, dict[str, tuple[int, int]]]] = {}
        self._ended: set[str] = set()

    async def run(self) -> None:
        """Look, work, collect, until cancelled."""
        while True:
            try:
                await self.look()
                while await self.work_once():
                    pass
                await self.collect()
            except StoreUnavailable as error:
                log.warning("articles.waiting", error=str(error))
                await asyncio.sleep(STORE_PAUSE_SECONDS)
            await asyncio.sleep(self._poll_seconds)

    async def look(self) -> None:
        """Make the rows of what began, finish what is done, end what was cancelled, free what died.

        Raises:
            StoreUnavailable: repeat it.
        """
        await self._outside.rows.expire_leases(now=self._outside.clock.now())
        for broadcast in await self._outside.broadcasts.every({"running"}):
            if broadcast.draft.content.article is None:
                continue
            if not broadcast.snapshot.is_complete:
                await self._build(broadcast)
            elif not any(send.state in OPEN for send in await self._outside.rows.of_broadcast(broadcast.id)):
                await self._finish(broadcast)
        for broadcast in await self._outside.broadcasts.find(states={"cancelled"}):
            if broadcast.draft.content.article is not None and broadcast.id not in self._ended:
                await self._outside.rows.cancel(broadcast.id)
                self._ended.add(broadcast.id)

    async def _build(self, broadcast: Broadcast) -> None:
        now = self._outside.clock.now()
        followers = await self._followers(broadcast)
        pages = [page for name in followers if (page := self._outside.config.page_named(name)) is not None]
        sends = [
            ArticleSend(
                id=f"{broadcast.id}:{page.page}",
                broadcast_id=broadcast.id,
                page=page.page,
                oa_id=page.oa_id,
                app_id=page.app_id,
                followers=followers[page.page][0],
                step_at=now,
            )
            for page in pages
        ]
        await self._outside.rows.add(sends)
        crash_point("notifier.article.after_rows_added")
        # Another replica may have made some of them, from a count of its own: what is kept is what counts.
        kept = await self._outside.rows.of_broadcast(broadcast.id)
        digest = hashlib.sha256("\n".join(f"{send.page} {send.followers}" for send in kept).encode()).hexdigest()
        people = sum(send.followers for send in kept)
        await self._outside.broadcasts.keep_snapshot(broadcast.id, Snapshot(people, len(kept), digest, True))
        log.info("article.audience_fixed", broadcast=broadcast.id, pages=len(kept), followers=people)

    async def _finish(self, broadcast: Broadcast) -> None:
        crash_point("notifier.article.before_finish")
        await self._act(broadcast, "finish")

    async def _act(self, broadcast: Broadcast, action: Literal["finish", "reopen"]) -> None:
        """Do one thing as the scheduler; where somebody was faster, the next look sees what they did."""
        done = act(broadcast, action, by=SCHEDULER, at=self._outside.clock.now())
        if not isinstance(done, NotAllowed) and await self._outside.broadcasts.save(done):
            log.info("broadcast.moved", broadcast=broadcast.id, state=done.state, people=done.snapshot.people)

    async def _followers(self, broadcast: Broadcast) -> dict[str, tuple[int, int]]:
        units = broadcast.draft.audience.units
        counted_at, counts = self._counted.get(units, (-FOLLOWERS_KNOWN_SECONDS, {}))
        if time.monotonic() - counted_at >= FOLLOWERS_KNOWN_SECONDS or not counts:
            counts = await self._outside.forecaster.followers(units)
            self._counted[units] = (time.monotonic(), counts)
        return counts

    async def work_once(self) -> bool:
        """Take one step of one page.

        Returns:
            Whether there was one.

        Raises:
            StoreUnavailable: its claim ends by itself.
        """
        now = self._outside.clock.now()
        send = await self._outside.rows.claim(owner=self._owner, now=now)
        if send is None:
            return False
        crash_point("notifier.article.after_claim")
        broadcast = await self._outside.broadcasts.read(send.broadcast_id)
        article = None if broadcast is None else broadcast.draft.content.article
        if broadcast is None or article is None or broadcast.state == "cancelled":
            await self._skip(send, "broadcast.cancelled")
        elif broadcast.state == "done":
            await self._go_on_late(send, broadcast, now)
        elif broadcast.state != "running":
            await self._put_off(send, now + PAUSE, send.reason)
        elif (refusal := await self._refusal(send, broadcast, article)) is not None:
            await self._refuse(send, refusal)
        else:
            await self._step(send, article)
        return True

    async def _go_on_late(self, send: ArticleSend, broadcast: Broadcast, now: datetime) -> None:
        """Zalo proved this article only after all other pages were done: go on with it while it is still news."""
        if now - (broadcast.finished_at or now) >= self._outside.forecaster.rulebook.rules.copy_look_up.retry_within:
            await self._skip(send, TOO_LATE)
            return
        await self._act(broadcast, "reopen")
        await self._put_off(send, now, send.reason)

    async def _refusal(self, send: ArticleSend, broadcast: Broadcast, article: ArticleContent) -> LaneRefused | None:
        """Why this page must not go on now; asked before each step that people could notice."""
        if send.step == "verify":
            return None
        now = self._outside.clock.now()
        until = self._outside.forecaster.rulebook.quiet_until(broadcast.draft, now)
        if until is not None:
            return LaneRefused("broadcast.quiet_hours", until)
        _, opted_out = (await self._followers(broadcast)).get(send.page, (0, 0))
        return await self._outside.forecaster.article_refusal(
            send.page, opted_out=opted_out, reaches_opted_out=article.reaches_opted_out
        )

    async def _refuse(self, send: ArticleSend, refusal: LaneRefused) -> None:
        if refusal.until is not None:
            await self._put_off(send, refusal.until, refusal.reason)
            return
        await self._skip(send, refusal.reason)

    async def _skip(self, send: ArticleSend, reason: str) -> None:
        await self._outside.rows.record(send, {"state": "skipped", "reason": reason})
        log.info("article.skipped", article=send.id, page=send.page, reason=reason)

    async def _put_off(self, send: ArticleSend, until: datetime, reason: str | None) -> None:
        await self._outside.rows.record(send, {"state": "queued", "due_at": until, "reason": reason})

    async def _step(self, send: ArticleSend, article: ArticleContent) -> None:
        now = self._outside.clock.now()
        if not await may_call(self._outside.rates, oa_id=send.oa_id, app_id=send.app_id):
            await self._put_off(send, now + PAUSE, send.reason)
            return
        try:
            access = await self._outside.tokens.access(send.oa_id)
        except TokenUnavailable as error:
            step = without_token(
                send, error.reason, schedules=self._outside.forecaster.rulebook.rules.schedules, now=now
            )
            gone: dict[str, Any] = {"state": "failed", "reason": error.reason}
            await self._outside.rows.record(
                send,
                gone if isinstance(step, Fail) else {"state": "queued", "due_at": step.at, "reason": step.reason},
            )
            return
        slot = None
        if send.step == "broadcast":
            today = now.astimezone(VIETNAM).replace(hour=0, minute=0, second=0, microsecond=0)
            number = await self._outside.rows.sent_since(send.page, today)
            slot = f"{send.page} {today.date()} {number + 1}"
        if not await self._outside.rows.mark_called(send, now=now, day_slot=slot):
            # Another broadcast of the page is faster: it is asked again whether one more may go out today.
            await self._put_off(send, now + PAUSE, send.reason)
            return
        outcome = await self._call(send, article, access)
        if isinstance(outcome, Refused) and outcome.rule.error_class == "token":
            with suppress(TokenUnavailable, StoreUnavailable):
                outcome = await self._call(
                    send, article, await self._outside.tokens.replace(send.oa_id, access.generation)
                )
        not_before = await paused_until(
            self._outside.rates, outcome, oa_id=send.oa_id, app_id=send.app_id, now=self._outside.clock.now()
        )
        changes = after(
            send,
            outcome,
            schedules=self._outside.forecaster.rulebook.rules.schedules,
            now=self._outside.clock.now(),
            not_before=not_before,
        )
        await until_stored(
            lambda: self._outside.rows.record(send, changes),
            pause_seconds=STORE_PAUSE_SECONDS,
            waits=lambda error: log.warning("articles.recording_waits", error=str(error)),
        )
        crash_point("notifier.article.after_record")
        log.info(
            "article.stepped",
            article=send.id,
            page=send.page,
            step=send.step,
            state=changes["state"],
            reason=changes.get("reason"),
        )

    async def _call(self, send: ArticleSend, article: ArticleContent, token: AccessToken) -> ArticleOutcome:
        whose = {"app_id": send.app_id, "access_token": token.value}
        outcome: ArticleOutcome
        match send.step:
            case "create":
                crash_point("notifier.article.before_create")
                outcome = await self._outside.zalo.create_article(article, **whose)
                crash_point("notifier.article.after_create")
            case "verify":
                crash_point("notifier.article.before_verify")
                outcome = await self._outside.zalo.verify_article(send.token or "", **whose)
                crash_point("notifier.article.after_verify")
            case "broadcast":
                target: dict[str, Sequence[int]] = {name: codes for name, codes in article.target.items()}  # noqa: C416
                crash_point("notifier.article.before_broadcast")
                outcome = await self._outside.zalo.broadcast_article(send.article_id or "", target, **whose)
                crash_point("notifier.article.after_broadcast")
        return outcome

    async def collect(self) -> None:
        """Look up views and shares of what was sent, less and less often.

        Raises:
            StoreUnavailable: repeat it.
        """
        now = self._outside.clock.now()
        for send in await self._outside.rows.to_collect(now=now, limit=COLLECT_AT_ONCE):
            counted = None
            with suppress(TokenUnavailable):
                token = await self._outside.tokens.access(send.oa_id)
                counted = await self._outside.zalo.article_statistics(
                    send.article_id or "", app_id=send.app_id, access_token=token.value
                )
            crash_point("notifier.article.after_statistics")
            await self._outside.rows.keep_statistics(
                send.id,
                views=None if counted is None else counted.views,
                shares=None if counted is None else counted.shares,
                now=now,
                next_at=next_look(send.sent_at or now, now),
            )
