"""The token keeper: every page has an access token that works, refreshed by one replica at a time.

What makes it delicate: the refresh token works once, and a new pair kills the old access token at once. So:

- one replica refreshes, holding a lease by the database's clock; the others wait and read its result;
- the new pair is stored before anybody uses it, and storing is tried for as long as the process lives;
- a refresh whose answer is lost (`refresh_unknown`) is not repeated while the old access token may live. A call that
  the old token survives after the lease proves that no pair was issued: all is well again. A call that it does not
  survive, or its end, proves that the page cannot send anyway: then a further refresh risks nothing, since a pair that
  was issued is in nobody's hands. It is tried every minute until Zalo says yes or says that the token is used up.

Source: docs/architecture/notifier.md.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from prometheus_client import Gauge

from services.notifier.adapters.token_store import BROKEN, REFRESH_TOKEN_LIFE, PageToken, TokenState
from services.notifier.domain.outcomes import NotSent, RefreshOutcome, RefreshRefused, TokensGranted, Unknown
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.ports import Clock
from shared.crash import crash_point
from shared.errors import StoreUnavailable
from shared.telemetry import get_logger
from shared.zalo_config import ZaloPage

log = get_logger()

ACCESS_TOKEN_SECONDS = Gauge("hub_access_token_seconds_left", "Until a page's access token ends", ["page"])
REFRESH_TOKEN_SECONDS = Gauge("hub_refresh_token_seconds_left", "Until a page's refresh token ends", ["page"])
PAGE_DEGRADED = Gauge("hub_page_degraded", "1 where a page cannot renew its access token", ["page"])

LEASE_SECONDS = 30.0
UNKNOWN_PAUSE_SECONDS = 60.0
REFUSED_PAUSE_SECONDS = 60.0
UNREACHABLE_PAUSE_SECONDS = 3.0
WAIT_FOR_OTHER_SECONDS = 15.0
WAIT_STEP_SECONDS = 0.1
YOUNG = timedelta(seconds=10)
"""A token this young that Zalo refuses is not helped by another refresh: something else is wrong."""
LAST_MOMENT = timedelta(seconds=60)
LOOP_SECONDS = 20.0


@dataclass(frozen=True)
class AccessToken:
    """What a sender needs: the token, and which pair it is from."""

    value: str
    generation: int


class Tokens(Protocol):
    """The stored tokens; see `adapters/token_store.py`."""

    async def seed(self, *, oa_id: str, page: str, app_id: str, refresh_token: str | None) -> None:
        """Create a page's document, or start afresh with a new configured token."""
        ...

    async def read(self, oa_id: str) -> PageToken | None:
        """Show a page's tokens."""
        ...

    async def read_all(self) -> list[PageToken]:
        """Show all pages' tokens."""
        ...

    async def lease(self, token: PageToken, *, owner: str, seconds: float, is_by_hand: bool = False) -> bool:
        """Become the one who refreshes."""
        ...

    async def give_back(self, token: PageToken, *, owner: str) -> None:
        """End a lease under which nothing happened."""
        ...

    async def store_pair(self, token: PageToken, granted: TokensGranted) -> bool:
        """Keep a new pair."""
        ...

    async def end_refresh(
        self, token: PageToken, *, owner: str, state: TokenState, reason: str | None, pause_seconds: float
    ) -> None:
        """Note a refresh without a pair."""
        ...

    async def expire_lease(self, oa_id: str, *, pause_seconds: float) -> bool:
        """End a lease whose holder is gone."""
        ...

    async def access_proven(self, oa_id: str, generation: int, *, is_alive: bool) -> None:
        """Note what a call proved of an access token."""
        ...


class OAuth(Protocol):
    """Zalo's token endpoint."""

    async def refresh(self, *, app_id: str, refresh_token: str) -> RefreshOutcome:
        """Trade the refresh token for a pair."""
        ...


class TokenKeeper:
    """Gives senders the access token of a page and keeps it fresh.

    Args:
        tokens: the store.
        oauth: Zalo.
        pages: our pages.
        clock: the database's.
        refresh_after: age at which a token is renewed before it ends.
        alarm_before: how long before a refresh token ends a person is told.
    """

    def __init__(
        self,
        tokens: Tokens,
        oauth: OAuth,
        pages: Sequence[ZaloPage],
        clock: Clock,
        *,
        refresh_after: timedelta,
        alarm_before: timedelta,
    ) -> None:
        self._tokens = tokens
        self._oauth = oauth
        self._pages = {page.oa_id: page for page in pages}
        self._clock = clock
        self._refresh_after = refresh_after
        self._alarm_before = alarm_before
        self._known: dict[str, PageToken] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._refreshes: set[asyncio.Task[None]] = set()
        self._alarmed: dict[str, str] = {}
        self._is_seeded = False

    async def access(self, oa_id: str) -> AccessToken:
        """The page's access token.

        Raises:
            TokenUnavailable: it has none that works; the reason says why.
            StoreUnavailable: cannot tell.
        """
        known = self._known.get(oa_id)
        if known is not None and (token := self._usable(known)) is not None:
            return token
        async with self._locks[oa_id]:
            return await self._obtain(oa_id, dead_generation=-1)

    async def replace(self, oa_id: str, generation: int) -> AccessToken:
        """Another token than this one, which Zalo refused: the stored one if it is newer, else a refreshed one.

        Raises:
            TokenUnavailable: there is none.
            StoreUnavailable: cannot tell.
        """
        async with self._locks[oa_id]:
            stored = await self._tokens.read(oa_id)
            if stored is not None and stored.generation == generation:
                if self._clock.now() - stored.refreshed_at < YOUNG:
                    raise TokenUnavailable("token.new_one_refused")
                await self._tokens.access_proven(oa_id, generation, is_alive=False)
            return await self._obtain(oa_id, dead_generation=generation)

    async def worked(self, oa_id: str, generation: int, *, started_at: datetime) -> None:
        """A call with this token was accepted; that proves something where a refresh ended unknown."""
        known = self._known.get(oa_id)
        if known is None or known.generation != generation or known.state != "refresh_unknown":
            return
        if started_at > known.lease_until:
            await self._tokens.access_proven(oa_id, generation, is_alive=True)
            await self._read(oa_id)
            log.info("token.refresh_did_not_happen", page=known.page, generation=generation)

    def _usable(self, token: PageToken) -> AccessToken | None:
        if token.access_token is None or token.is_access_dead or token.expires_at - self._clock.now() < LAST_MOMENT:
            return None
        return AccessToken(token.access_token, token.generation)

    async def _read(self, oa_id: str) -> PageToken:
        token = await self._tokens.read(oa_id)
        if token is None:
            raise TokenUnavailable("token.page_unknown")
        self._known[oa_id] = token
        return token

    async def _obtain(self, oa_id: str, *, dead_generation: int) -> AccessToken:
        waited_until = self._clock.now() + timedelta(seconds=WAIT_FOR_OTHER_SECONDS)
        while True:
            token = await self._read(oa_id)
            if token.generation > dead_generation and (usable := self._usable(token)) is not None:
                return usable
            if token.is_leased:
                if self._clock.now() > waited_until:
                    raise TokenUnavailable("token.refresh_in_progress")
                if not await self._tokens.expire_lease(oa_id, pause_seconds=UNKNOWN_PAUSE_SECONDS):
                    await asyncio.sleep(WAIT_STEP_SECONDS)
                continue
            await self._refresh_or_say_why(token)

    async def _refresh_or_say_why(self, token: PageToken) -> None:
        """Refresh a token that cannot be used; returns when it is worth reading again.

        Raises:
            TokenUnavailable: no refresh may be tried now.
        """
        if token.refresh_token is None or token.state in {"refused", "undecryptable"}:
            raise TokenUnavailable(token.reason or "token.refused")
        if token.may_refresh_at > self._clock.now():
            raise TokenUnavailable(token.reason or f"token.{token.state}")
        await self._refresh(token)

    async def _refresh(self, token: PageToken) -> None:
        owner = secrets.token_hex(8)
        if not await self._tokens.lease(token, owner=owner, seconds=LEASE_SECONDS):
            await asyncio.sleep(WAIT_STEP_SECONDS)  # another replica was quicker, or its clock's reading differs
            return
        # In a task of its own: a sender that is cancelled must not throw away a pair that Zalo just issued.
        refresh = asyncio.create_task(self._refresh_as_owner(token, owner))
        self._refreshes.add(refresh)
        refresh.add_done_callback(self._refreshes.discard)
        await asyncio.shield(refresh)

    async def _refresh_as_owner(self, token: PageToken, owner: str) -> None:
        crash_point("notifier.token.after_lease")
        outcome = await self._oauth.refresh(app_id=token.app_id, refresh_token=token.refresh_token or "")
        crash_point("notifier.token.after_refresh")
        while True:
            try:
                await self._note(token, owner, outcome)
            except StoreUnavailable:
                log.error("token.storing", page=token.page, outcome=type(outcome).__name__)  # noqa: TRY400
                await asyncio.sleep(1.0)
            else:
                return

    async def _note(self, token: PageToken, owner: str, outcome: RefreshOutcome) -> None:
        state: TokenState = token.state
        match outcome:
            case TokensGranted():
                await self._tokens.store_pair(token, outcome)
                crash_point("notifier.token.after_store")
                log.info("token.refreshed", page=token.page, generation=token.generation + 1)
                return
            case RefreshRefused(code, is_final=True):
                state = "refused"
                reason = "token.pair_lost" if token.state == "refresh_unknown" else "token.refresh_token_refused"
                pause_seconds = REFUSED_PAUSE_SECONDS
                log.error("token.refused", page=token.page, code=code, reason=reason, todo="link the page again")
            case RefreshRefused(code):
                reason, pause_seconds = "token.oauth_refused", REFUSED_PAUSE_SECONDS
                log.error("token.oauth_refused", page=token.page, code=code)
            case NotSent(why):
                reason, pause_seconds = "token.oauth_unreachable", UNREACHABLE_PAUSE_SECONDS
                log.warning("token.oauth_unreachable", page=token.page, why=why)
            case Unknown(code, why):
                state, reason, pause_seconds = "refresh_unknown", "token.refresh_unknown", UNKNOWN_PAUSE_SECONDS
                log.error("token.refresh_unknown", page=token.page, reason=code, why=why)
        await self._tokens.end_refresh(token, owner=owner, state=state, reason=reason, pause_seconds=pause_seconds)

    # The loop

    async def _seed(self, pages: Iterable[ZaloPage]) -> None:
        """Make the documents of pages; one whose state is broken takes a new configured token."""
        for page in pages:
            secret = page.refresh_token
            await self._tokens.seed(
                oa_id=page.oa_id,
                page=page.page,
                app_id=page.app_id,
                refresh_token=secret.get_secret_value() if secret is not None else None,
            )

    async def run(self) -> None:
        """Refresh early, end dead leases, raise alarms; until cancelled."""
        try:
            while True:
                try:
                    await self.look_after_all()
                except StoreUnavailable as error:
                    log.warning("tokens.waiting", error=str(error))
                await asyncio.sleep(LOOP_SECONDS)
        finally:
            if self._refreshes:  # bounded by the supervisor: a pair in hand is worth waiting for
                await asyncio.gather(*self._refreshes, return_exceptions=True)

    async def look_after_all(self) -> None:
        """One round over all pages.

        Raises:
            StoreUnavailable: try again later.
        """
        if not self._is_seeded:
            await self._seed(self._pages.values())
            self._is_seeded = True
        for token in await self._tokens.read_all():
            if token.oa_id not in self._pages:
                continue
            self._known[token.oa_id] = token
            if token.state in BROKEN:
                await self._seed([self._pages[token.oa_id]])
            if token.is_leased:
                await self._tokens.expire_lease(token.oa_id, pause_seconds=UNKNOWN_PAUSE_SECONDS)
            elif self._is_due(token):
                async with self._locks[token.oa_id]:
                    await self._refresh(token)
                    await self._read(token.oa_id)
            self._watch(self._known[token.oa_id])

    def _is_due(self, token: PageToken) -> bool:
        now = self._clock.now()
        if token.refresh_token is None or token.may_refresh_at > now:
            return False
        match token.state:
            case "new":
                return True
            case "ok":
                return token.is_access_dead or now - token.refreshed_at >= self._refresh_after
            case "refresh_unknown":
                return self._usable(token) is None
            case _:
                return False

    def _watch(self, token: PageToken) -> None:
        fact = self._fact(token)
        ACCESS_TOKEN_SECONDS.labels(token.page).set(fact["access_token_seconds_left"])
        REFRESH_TOKEN_SECONDS.labels(token.page).set(fact["refresh_token_seconds_left"])
        PAGE_DEGRADED.labels(token.page).set(fact["is_degraded"])
        alarm = fact["alarm"]
        if alarm is not None and self._alarmed.get(token.oa_id) != alarm:
            log.error("token.alarm", page=token.page, alarm=alarm, state=token.state)
        self._alarmed[token.oa_id] = alarm or ""

    def _fact(self, token: PageToken) -> dict[str, Any]:
        now = self._clock.now()
        refresh_left = token.refreshed_at + REFRESH_TOKEN_LIFE - now
        usable = self._usable(token) is not None
        alarm = None
        if token.state in BROKEN:
            alarm = token.reason or f"token.{token.state}"
        elif refresh_left < self._alarm_before:
            alarm = "token.refresh_ends_soon"
        return {
            "page": token.page,
            "state": token.state,
            "can_send": usable,
            "is_degraded": token.state in BROKEN or not usable,
            "alarm": alarm,
            "reason": token.reason,
            "generation": token.generation,
            "access_token_seconds_left": max(0, int((token.expires_at - now).total_seconds())),
            "refresh_token_seconds_left": max(0, int(refresh_left.total_seconds())),
        }

    async def facts(self) -> list[dict[str, Any]]:
        """The state of each page's tokens, without the tokens.

        Raises:
            StoreUnavailable: cannot tell.
        """
        tokens = await self._tokens.read_all()
        return [self._fact(token) for token in sorted(tokens, key=lambda t: t.page) if token.oa_id in self._pages]
