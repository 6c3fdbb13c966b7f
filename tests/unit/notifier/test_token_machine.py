"""The token keeper as a state machine: two replicas, a person who links, lost answers and deaths in any order.

What must hold, always: a pair that Zalo issued is stored, or was lost by a fault we injected, never by a refresh of
ours; a used-up refresh token is only tried again when the page could not speak anyway. At the end: a page whose pair is
in the store speaks; one whose pair is lost says so; and linking it by hand always heals it.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import SecretStr

from services.notifier.domain.outcomes import NotSent, RefreshOutcome, RefreshRefused, TokensGranted, Unknown
from services.notifier.errors import LinkFailed, TokenUnavailable
from services.notifier.handlers.keep_tokens import AccessToken, TokenKeeper
from services.notifier.handlers.link_page import link_page
from shared.zalo_config import ZaloPage
from tests.factories import OA_ID, PAGE
from tests.properties import examples
from tests.unit.notifier.fake_tokens import FakeOAuth
from tests.unit.notifier.samples import APP_ID
from tests.unit.notifier.test_keep_tokens import Office

T = TypeVar("T")
Fate = Literal["granted", "lost after", "lost before", "unreachable", "refused", "dies before", "dies after"]
FATES: tuple[Fate, ...] = (
    *("granted", "lost after", "lost before", "unreachable", "refused", "dies before", "dies after"),
)
HOUR = 3_600
LIFE = timedelta(hours=25)


class ProcessDied(BaseException):
    """The replica is gone in the middle of a refresh."""


class Zalo(FakeOAuth):
    """Zalo with the fates that a rule chooses, and the truth about what it issued."""

    def __init__(self, office: Office) -> None:
        super().__init__()
        self.office = office
        self.fates: list[Fate] = []
        self.lost: set[str] = set()
        self.granted_at = office.clock.now()

    def is_alive(self, access: str) -> bool:
        """Whether a call with this token would be accepted now."""
        return access == self.access and self.office.clock.now() < self.granted_at + LIFE

    def _issue(self) -> TokensGranted:
        self.granted_at = self.office.clock.now()
        return self.grant()

    async def refresh(self, *, app_id: str, refresh_token: str) -> RefreshOutcome:  # noqa: ARG002 - the port's
        stored = self.office.store.tokens[OA_ID]
        assert stored.is_leased, "a refresh without the lease"
        if refresh_token in self.used:
            speaks = stored.access_token is not None and self.is_alive(stored.access_token)
            assert not speaks, "a used-up token was tried while the page could speak"
        return self._answer(refresh_token == self.valid)

    async def exchange_code(self, *, app_id: str, code: str, verifier: str) -> RefreshOutcome:  # noqa: ARG002
        assert self.office.store.tokens[OA_ID].is_leased, "a link without the lease"
        return self._answer(is_valid=True)

    def _answer(self, is_valid: bool) -> RefreshOutcome:
        fate = self.fates.pop() if self.fates else "granted"
        match fate:
            case "unreachable":
                return NotSent("refused")
            case "refused":
                return RefreshRefused(-14029, is_final=False)
            case "lost before":
                return Unknown("zalo.answer_lost", "reset")
            case "dies before":
                raise ProcessDied
        if not is_valid:
            return RefreshRefused(-14014, is_final=True)
        pair = self._issue()
        if fate == "granted":
            return pair
        self.lost.add(pair.access_token)
        if fate == "dies after":
            raise ProcessDied
        return Unknown("zalo.answer_lost", "reset")


class TokenMachine(RuleBasedStateMachine):
    """Everything that may happen to a page's tokens, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.patch = pytest.MonkeyPatch()
        for module in ("keep_tokens", "link_page"):  # waiting for another replica costs no time here
            self.patch.setattr(f"services.notifier.handlers.{module}.WAIT_STEP_SECONDS", 0.5)
        self.patch.setattr("services.notifier.handlers.keep_tokens.asyncio.sleep", self.sleep)
        self.office = Office()
        self.office.oauth = self.zalo = Zalo(self.office)
        self.keepers: list[TokenKeeper] = [self.office.a_keeper(), self.office.a_keeper()]
        self.page = ZaloPage(page=PAGE, oa_id=OA_ID, app_id=APP_ID, refresh_token=SecretStr("configured"))
        self.generation = 0

    def teardown(self) -> None:
        try:
            self.run(self.end())
        finally:
            self.patch.undo()
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def sleep(self, seconds: float) -> None:
        """Time passes by the page's clock instead of ours."""
        self.office.clock.advance(seconds)
        future = self.loop.create_future()
        self.loop.call_soon(future.set_result, None)
        await future

    @contextmanager
    def replica(self, number: int, fate: Fate) -> Iterator[TokenKeeper]:
        """One of the replicas, which may die; then another one takes its place."""
        self.zalo.fates = [fate]
        try:
            with suppress(TokenUnavailable):
                yield self.keepers[number]
        except ProcessDied:
            self.keepers[number] = self.office.a_keeper()
        finally:
            self.zalo.fates = []

    # What happens

    @rule(number=st.integers(0, 1), fate=st.sampled_from(FATES))
    def look_after(self, number: int, fate: Fate) -> None:
        with self.replica(number, fate) as keeper:
            self.run(keeper.look_after_all())

    @rule(number=st.integers(0, 1), fate=st.sampled_from(FATES))
    def send(self, number: int, fate: Fate) -> None:
        with self.replica(number, fate) as keeper:
            self.run(self._send(keeper))

    async def _send(self, keeper: TokenKeeper) -> AccessToken:
        token = await keeper.access(OA_ID)
        for _ in range(2):  # what this replica knows may be two pairs old
            if not self.zalo.is_alive(token.value):
                token = await keeper.replace(OA_ID, token.generation)
        assert self.zalo.is_alive(token.value), "one refused token is replaced by the other"
        await keeper.worked(OA_ID, token.generation, started_at=self.office.clock.now())
        return token

    @rule(fate=st.sampled_from(FATES))
    def link(self, fate: Fate) -> None:
        self.zalo.fates = [fate]
        with suppress(LinkFailed, ProcessDied):
            self.run(link_page(self.page, "c", "v", self.office.store, self.zalo))
        self.zalo.fates = []

    @rule(seconds=st.sampled_from([1, 31, 61, HOUR, 6 * HOUR, 21 * HOUR, 26 * HOUR]))
    def time_passes(self, seconds: int) -> None:
        self.office.clock.advance(seconds)

    # What must hold

    @invariant()
    def every_pair_is_stored_or_was_lost_by_a_fault(self) -> None:
        stored = self.office.store.tokens.get(OA_ID)
        if stored is None:
            return
        issued = self.zalo.access
        assert issued is None or issued == stored.access_token or issued in self.zalo.lost, "we lost a pair ourselves"
        assert stored.generation >= self.generation
        self.generation = stored.generation

    async def end(self) -> None:
        """No more faults: the page speaks or says why not; a person heals it."""
        for keeper in self.keepers:
            for _ in range(4):
                await keeper.look_after_all()
                with suppress(TokenUnavailable):
                    await self._send(keeper)
                self.office.clock.advance(26 * HOUR)
        keeper = self.keepers[0]
        stored = self.office.store.tokens[OA_ID]
        (fact,) = await keeper.facts()
        if stored.refresh_token == self.zalo.valid:
            await keeper.look_after_all()
            assert (await self._send(keeper)).value == self.zalo.access
        else:
            assert fact["is_degraded"], "a page that cannot speak says nothing"
            assert fact["alarm"] in {"token.pair_lost", "token.refresh_token_refused"}
            await link_page(self.page, "c", "v", self.office.store, self.zalo)
            assert (await self._send(keeper)).value == self.zalo.access
        (fact,) = await keeper.facts()
        assert fact["alarm"] is None


TokenMachine.TestCase.settings = settings(max_examples=examples(80), stateful_step_count=30)
TestTokenMachine = TokenMachine.TestCase
