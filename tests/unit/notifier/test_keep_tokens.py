"""The token keeper: one refresh for each pair, whatever happens around it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import SecretStr

from services.notifier.domain.outcomes import NotSent, RefreshOutcome, RefreshRefused, Unknown
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.keep_tokens import AccessToken, TokenKeeper
from shared.zalo_config import ZaloPage
from tests.factories import OA_ID, PAGE
from tests.unit.notifier.fake_tokens import FakeOAuth, FakeTokenStore
from tests.unit.notifier.fakes import ManualClock
from tests.unit.notifier.samples import APP_ID, eventually

HOUR = 3_600
UNKNOWN = Unknown("zalo.answer_lost", "reset")


class Office:
    """A store, a Zalo and as many keepers as a test wants."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = FakeTokenStore(self.clock)
        self.oauth = FakeOAuth()
        self.keeper = self.a_keeper()

    def a_keeper(self, configured: str | None = "configured") -> TokenKeeper:
        secret = None if configured is None else SecretStr(configured)
        page = ZaloPage(page=PAGE, oa_id=OA_ID, app_id=APP_ID, refresh_token=secret)
        return TokenKeeper(
            self.store,
            self.oauth,
            [page],
            self.clock,
            refresh_after=timedelta(hours=20),
            alarm_before=timedelta(days=14),
        )

    async def started(self) -> "Office":
        await self.keeper.look_after_all()
        return self

    async def fact(self) -> dict[str, object]:
        (fact,) = await self.keeper.facts()
        return fact


def lost(oauth: FakeOAuth) -> RefreshOutcome:
    oauth.grant()
    return UNKNOWN


async def test_the_first_round_trades_the_configured_token_for_a_pair() -> None:
    office = await Office().started()

    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)
    assert office.store.tokens[OA_ID].refresh_token == "refresh-1"


async def test_many_senders_at_once_cause_one_refresh() -> None:
    office = Office()
    await office.store.seed(oa_id=OA_ID, page=PAGE, app_id=APP_ID, refresh_token="configured")

    tokens = await asyncio.gather(*(office.keeper.access(OA_ID) for _ in range(50)))

    assert set(tokens) == {AccessToken("access-1", 1)}
    assert office.oauth.calls == 1


async def test_two_replicas_at_once_cause_one_refresh() -> None:
    office = Office()
    await office.store.seed(oa_id=OA_ID, page=PAGE, app_id=APP_ID, refresh_token="configured")
    other = office.a_keeper()

    tokens = await asyncio.gather(*(keeper.access(OA_ID) for keeper in (office.keeper, other) for _ in range(10)))

    assert set(tokens) == {AccessToken("access-1", 1)}
    assert office.oauth.calls == 1


async def test_a_token_is_renewed_before_it_ends() -> None:
    office = await Office().started()

    office.clock.advance(20 * HOUR - 1)
    await office.keeper.look_after_all()
    assert office.oauth.calls == 1
    office.clock.advance(1)
    await office.keeper.look_after_all()

    assert await office.keeper.access(OA_ID) == AccessToken("access-2", 2)


async def test_a_sender_whose_token_was_replaced_by_another_replica_reads_the_new_one() -> None:
    office = await Office().started()
    other = office.a_keeper()
    await other.look_after_all()
    office.clock.advance(21 * HOUR)
    await other.look_after_all()

    assert (await office.keeper.access(OA_ID)).generation == 1  # does not know yet
    assert await office.keeper.replace(OA_ID, 1) == AccessToken("access-2", 2)
    assert office.oauth.calls == 2


async def test_many_senders_with_a_dead_token_cause_one_refresh() -> None:
    office = await Office().started()
    office.clock.advance(HOUR)

    tokens = await asyncio.gather(*(office.keeper.replace(OA_ID, 1) for _ in range(20)))

    assert set(tokens) == {AccessToken("access-2", 2)}
    assert office.oauth.calls == 2


async def test_a_token_that_is_refused_as_soon_as_it_is_new_is_not_refreshed_again() -> None:
    office = await Office().started()

    with pytest.raises(TokenUnavailable, match=r"token\.new_one_refused"):
        await office.keeper.replace(OA_ID, 1)

    assert office.oauth.calls == 1


async def test_a_new_pair_is_stored_for_as_long_as_it_takes() -> None:
    office = Office()
    office.store.outages = 1

    await office.started()

    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)
    assert office.oauth.calls == 1


async def test_a_sender_that_is_cancelled_does_not_throw_away_a_new_pair() -> None:
    office = Office()
    await office.store.seed(oa_id=OA_ID, page=PAGE, app_id=APP_ID, refresh_token="configured")
    office.oauth.pause = asyncio.Event()
    sender = asyncio.create_task(office.keeper.access(OA_ID))
    await eventually(lambda: office.oauth.calls == 1)

    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    office.oauth.pause.set()
    await eventually(lambda: office.store.tokens[OA_ID].state == "ok")

    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)


async def test_an_unreachable_oauth_is_asked_again_after_a_pause() -> None:
    office = Office()
    office.oauth.answers = [NotSent("refused")]
    await office.started()
    with pytest.raises(TokenUnavailable, match=r"token\.oauth_unreachable"):
        await office.keeper.access(OA_ID)

    office.clock.advance(3)

    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)


async def test_a_used_up_refresh_token_needs_a_person_and_is_not_tried_again() -> None:
    office = Office()
    office.oauth.answers = [RefreshRefused(-14014, is_final=True)]
    await office.started()
    office.clock.advance(30 * HOUR)
    await office.keeper.look_after_all()

    with pytest.raises(TokenUnavailable, match=r"token\.refresh_token_refused"):
        await office.keeper.access(OA_ID)
    assert office.oauth.calls == 1
    fact = await office.fact()
    assert (fact["is_degraded"], fact["alarm"]) == (True, "token.refresh_token_refused")


async def test_a_refusal_that_is_not_about_the_token_is_tried_again_later() -> None:
    office = Office()
    office.oauth.answers = [RefreshRefused(-14002, is_final=False)]
    await office.started()
    office.clock.advance(60)

    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)


async def test_a_new_configured_token_repairs_a_broken_page() -> None:
    office = Office()
    office.oauth.answers = [RefreshRefused(-14014, is_final=True)]
    await office.started()
    office.oauth.valid = "linked-again"

    linked = office.a_keeper("linked-again")
    await linked.look_after_all()
    await linked.look_after_all()

    assert (await linked.access(OA_ID)).value == "access-1"


async def test_a_new_configured_token_leaves_a_working_page_alone() -> None:
    office = await Office().started()

    linked = office.a_keeper("linked-again")
    await linked.look_after_all()

    assert await linked.access(OA_ID) == AccessToken("access-1", 1)
    assert office.oauth.calls == 1


async def test_a_page_without_a_configured_token_says_so() -> None:
    office = Office()
    office.keeper = office.a_keeper(None)
    await office.started()

    with pytest.raises(TokenUnavailable, match=r"token\.not_configured"):
        await office.keeper.access(OA_ID)


async def in_unknown_state(answer: RefreshOutcome | Callable[[FakeOAuth], RefreshOutcome]) -> Office:
    """A page whose early refresh at 20 hours ended unknown, while the access token has five hours left."""
    office = await Office().started()
    office.clock.advance(20 * HOUR)
    office.oauth.answers = [answer]
    await office.keeper.look_after_all()
    assert office.store.tokens[OA_ID].state == "refresh_unknown"
    return office


async def test_an_unknown_refresh_is_not_repeated_while_the_old_token_may_live() -> None:
    office = await in_unknown_state(UNKNOWN)

    for _ in range(4):
        office.clock.advance(HOUR)
        await office.keeper.look_after_all()
        assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)

    assert office.oauth.calls == 2
    assert (await office.fact())["alarm"] == "token.refresh_unknown"


async def test_a_call_that_the_old_token_survives_proves_that_no_pair_was_issued() -> None:
    office = await in_unknown_state(UNKNOWN)
    office.clock.advance(31)

    await office.keeper.worked(OA_ID, 1, started_at=office.clock.now())

    assert office.store.tokens[OA_ID].state == "ok"
    office.clock.advance(60)
    await office.keeper.look_after_all()
    assert await office.keeper.access(OA_ID) == AccessToken("access-2", 2)


async def test_a_call_that_began_while_the_refresh_could_still_arrive_proves_nothing() -> None:
    office = await in_unknown_state(UNKNOWN)

    await office.keeper.worked(OA_ID, 1, started_at=office.clock.now())

    assert office.store.tokens[OA_ID].state == "refresh_unknown"


async def test_a_lost_pair_is_found_out_when_the_old_token_is_dead_and_named() -> None:
    office = await in_unknown_state(lost)

    with pytest.raises(TokenUnavailable, match=r"token\.refresh_unknown"):
        await office.keeper.replace(OA_ID, 1)  # Zalo refused the old token: it is dead
    assert office.oauth.calls == 2, "a second refresh at once would be blind"
    office.clock.advance(60)
    with pytest.raises(TokenUnavailable, match=r"token\.pair_lost"):
        await office.keeper.access(OA_ID)

    assert office.oauth.calls == 3
    assert (await office.fact())["alarm"] == "token.pair_lost"


async def test_a_refresh_that_never_arrived_is_made_good_when_the_old_token_has_ended() -> None:
    office = await in_unknown_state(UNKNOWN)
    office.clock.advance(6 * HOUR)

    assert await office.keeper.access(OA_ID) == AccessToken("access-2", 2)


async def test_a_refresh_whose_replica_died_is_unknown_when_its_lease_ends() -> None:
    office = await Office().started()
    office.clock.advance(20 * HOUR)
    token = office.store.tokens[OA_ID]
    assert await office.store.lease(token, owner="dead", seconds=30.0)

    await office.keeper.look_after_all()
    assert office.store.tokens[OA_ID].is_leased
    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)
    office.clock.advance(31)
    await office.keeper.look_after_all()

    assert office.store.tokens[OA_ID].reason == "token.refresh_interrupted"
    assert office.oauth.calls == 1


async def test_a_late_pair_is_stored_even_if_its_lease_was_called_over() -> None:
    office = await Office().started()
    office.clock.advance(20 * HOUR)
    office.oauth.pause = asyncio.Event()
    refreshing = asyncio.create_task(office.keeper.look_after_all())
    await eventually(lambda: office.oauth.calls == 2)
    office.clock.advance(31)
    await office.a_keeper().look_after_all()
    assert office.store.tokens[OA_ID].state == "refresh_unknown"

    office.oauth.pause.set()
    await refreshing

    assert await office.keeper.access(OA_ID) == AccessToken("access-2", 2)


async def test_an_alarm_tells_before_a_refresh_token_ends() -> None:
    office = await Office().started()
    office.clock.advance(76 * 24 * HOUR - 1)
    assert (await office.fact())["alarm"] is None

    office.clock.advance(2)

    assert (await office.fact())["alarm"] == "token.refresh_ends_soon"


async def test_facts_show_no_token() -> None:
    office = await Office().started()

    assert not any("access-1" in str(value) or "refresh-1" in str(value) for value in (await office.fact()).values())
