"""The token store and Zalo's token endpoint in memory; the store is held to the real one by the conformance suite."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from services.notifier.adapters.token_store import BROKEN, PageToken, TokenState
from services.notifier.domain.outcomes import RefreshOutcome, RefreshRefused, TokensGranted
from shared.errors import StoreUnavailable
from shared.mongo import EPOCH
from tests.factories import OA_ID, PAGE
from tests.unit.notifier.fakes import ManualClock
from tests.unit.notifier.samples import APP_ID


class FakeTokenStore:
    """The `page_tokens` of all pages.

    Attributes:
        outages: how many of the next `store_pair` calls fail before they are applied.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.tokens: dict[str, PageToken] = {}
        self.owners: dict[str, str | None] = {}
        self.outages = 0
        self._clock = clock

    async def seed(self, *, oa_id: str, page: str, app_id: str, refresh_token: str | None) -> None:
        await asyncio.sleep(0)
        known = self.tokens.get(oa_id)
        if known is not None and (
            refresh_token is None or known.state not in BROKEN or known.configured_hash == refresh_token
        ):
            return
        self.owners[oa_id] = None
        self.tokens[oa_id] = PageToken(
            oa_id=oa_id,
            page=page,
            app_id=app_id,
            state="new" if refresh_token else "refused",
            generation=0 if known is None else known.generation + 1,
            access_token=None,
            refresh_token=refresh_token,
            expires_at=EPOCH,
            refreshed_at=self._clock.now(),
            may_refresh_at=EPOCH,
            lease_until=EPOCH,
            is_leased=False,
            is_access_dead=False,
            reason=None if refresh_token else "token.not_configured",
            configured_hash=refresh_token,
        )

    async def read(self, oa_id: str) -> PageToken | None:
        await asyncio.sleep(0)
        return self.tokens.get(oa_id)

    async def read_all(self) -> list[PageToken]:
        await asyncio.sleep(0)
        return list(self.tokens.values())

    async def lease(self, token: PageToken, *, owner: str, seconds: float, is_by_hand: bool = False) -> bool:
        await asyncio.sleep(0)
        known, now = self.tokens[token.oa_id], self._clock.now()
        if known.generation != token.generation or known.is_leased:
            return False
        if not is_by_hand and (known.state != token.state or known.may_refresh_at > now):
            return False
        self.owners[token.oa_id] = owner
        self.tokens[token.oa_id] = replace(known, is_leased=True, lease_until=now + timedelta(seconds=seconds))
        return True

    async def give_back(self, token: PageToken, *, owner: str) -> None:
        await asyncio.sleep(0)
        known = self.tokens[token.oa_id]
        if known.generation == token.generation and self.owners[token.oa_id] == owner:
            self.owners[token.oa_id] = None
            self.tokens[token.oa_id] = replace(known, is_leased=False)

    async def store_pair(self, token: PageToken, granted: TokensGranted) -> bool:
        await asyncio.sleep(0)
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("away")
        known, now = self.tokens[token.oa_id], self._clock.now()
        if known.generation != token.generation:
            return False
        self.owners[token.oa_id] = None
        self.tokens[token.oa_id] = replace(
            known,
            state="ok",
            reason=None,
            generation=token.generation + 1,
            access_token=granted.access_token,
            refresh_token=granted.refresh_token,
            expires_at=now + timedelta(seconds=granted.expires_in_seconds),
            refreshed_at=now,
            may_refresh_at=EPOCH,
            is_leased=False,
            is_access_dead=False,
        )
        return True

    async def end_refresh(
        self, token: PageToken, *, owner: str, state: TokenState, reason: str | None, pause_seconds: float
    ) -> None:
        await asyncio.sleep(0)
        known = self.tokens[token.oa_id]
        if known.generation == token.generation and self.owners[token.oa_id] == owner:
            self._end(token.oa_id, state, reason, pause_seconds)

    def _end(self, oa_id: str, state: TokenState, reason: str | None, pause_seconds: float) -> None:
        self.owners[oa_id] = None
        self.tokens[oa_id] = replace(
            self.tokens[oa_id],
            state=state,
            reason=reason,
            is_leased=False,
            may_refresh_at=self._clock.now() + timedelta(seconds=pause_seconds),
        )

    async def expire_lease(self, oa_id: str, *, pause_seconds: float) -> bool:
        await asyncio.sleep(0)
        known = self.tokens[oa_id]
        if not known.is_leased or known.lease_until > self._clock.now():
            return False
        self._end(oa_id, "refresh_unknown", "token.refresh_interrupted", pause_seconds)
        return True

    async def access_proven(self, oa_id: str, generation: int, *, is_alive: bool) -> None:
        await asyncio.sleep(0)
        known = self.tokens[oa_id]
        if known.generation != generation:
            return
        if not is_alive:
            self.tokens[oa_id] = replace(known, is_access_dead=True)
        elif known.state == "refresh_unknown" and not known.is_leased:
            self.tokens[oa_id] = replace(known, state="ok", reason=None)


class FakeOAuth:
    """Single-use refresh tokens: a new pair kills the old one.

    Attributes:
        answers: what happens to the next refreshes; `lost` takes the token and answers nothing.
        used: every refresh token that was traded in.
    """

    def __init__(self, first: str = "configured") -> None:
        self.valid = first
        self.access: str | None = None
        self.used: list[str] = []
        self.answers: list[RefreshOutcome | Callable[[FakeOAuth], RefreshOutcome]] = []
        self.calls = 0
        self.codes: set[tuple[str, str]] = set()
        self.pause: asyncio.Event | None = None

    def grant(self) -> TokensGranted:
        self.used.append(self.valid)
        self.valid, self.access = f"refresh-{len(self.used)}", f"access-{len(self.used)}"
        return TokensGranted(self.access, self.valid, 90_000)

    async def refresh(self, *, app_id: str, refresh_token: str) -> RefreshOutcome:
        assert app_id == APP_ID
        self.calls += 1
        await asyncio.sleep(0)
        if self.pause is not None:
            await self.pause.wait()
        if self.answers:
            answer = self.answers.pop(0)
            return answer(self) if callable(answer) else answer
        if refresh_token != self.valid:
            return RefreshRefused(-14014, is_final=True)
        return self.grant()

    async def exchange_code(self, *, app_id: str, code: str, verifier: str) -> RefreshOutcome:
        assert app_id == APP_ID
        await asyncio.sleep(0)
        if self.answers:
            answer = self.answers.pop(0)
            return answer(self) if callable(answer) else answer
        if (code, verifier) not in self.codes:
            return RefreshRefused(-14010, is_final=False)
        self.codes.remove((code, verifier))
        return self.grant()


SEED = {"oa_id": OA_ID, "page": PAGE, "app_id": APP_ID}
