"""What the token keeper relies on in its store: one suite for the stand-in of the unit tests and for the real one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from cryptography.fernet import Fernet

from services.notifier.adapters.clock import ServerClock
from services.notifier.adapters.token_store import PageToken, TokenStore
from services.notifier.domain.outcomes import TokensGranted
from services.notifier.handlers.keep_tokens import Tokens
from services.notifier.handlers.ports import Clock
from shared.mongo import Store
from tests.factories import OA_ID, PAGE
from tests.unit.notifier.fake_tokens import FakeTokenStore
from tests.unit.notifier.fakes import ManualClock
from tests.unit.notifier.samples import APP_ID, eventually
from tests.unit.notifier.stores import fresh_store

KEY = Fernet.generate_key().decode()
PAIR = TokensGranted("access-1", "refresh-1", 90_000)
MOMENT = 0.15


@dataclass
class Office:
    """A token store and its clock."""

    tokens: Tokens
    clock: Clock
    store: Store | None = None

    async def seed(self, configured: str = "configured") -> PageToken:
        await self.tokens.seed(oa_id=OA_ID, page=PAGE, app_id=APP_ID, refresh_token=configured)
        return await self.token()

    async def token(self) -> PageToken:
        token = await self.tokens.read(OA_ID)
        assert token is not None
        return token

    async def with_pair(self) -> PageToken:
        token = await self.seed()
        assert await self.tokens.lease(token, owner="me", seconds=30)
        assert await self.tokens.store_pair(token, PAIR)
        return await self.token()

    async def pass_moment(self) -> None:
        if isinstance(self.clock, ManualClock):
            self.clock.advance(MOMENT + 0.05)
            return
        start = self.clock.now()
        await eventually(lambda: (self.clock.now() - start).total_seconds() > MOMENT + 0.05)


@pytest.fixture(params=["fake", "motor", "pymongo"])
async def office(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Office]:
    if request.param == "fake":
        clock = ManualClock()
        yield Office(FakeTokenStore(clock), clock)
        return
    async with fresh_store(mongo_uri, request.param) as store:
        server_clock = ServerClock(store)
        await server_clock.measure()
        yield Office(TokenStore(store, keys=[KEY]), server_clock, store)


async def test_a_seeded_page_is_new_and_seeding_again_changes_nothing(office: Office) -> None:
    first = await office.seed()
    second = await office.seed("another")

    assert (first.state, first.generation, first.access_token, first.refresh_token) == ("new", 0, None, "configured")
    assert second == first


async def test_one_of_two_gets_the_lease(office: Office) -> None:
    token = await office.seed()

    assert await office.tokens.lease(token, owner="one", seconds=30)
    assert not await office.tokens.lease(token, owner="other", seconds=30)
    assert (await office.token()).is_leased


async def test_a_pair_is_stored_once_for_its_generation(office: Office) -> None:
    before = await office.seed()
    await office.with_pair()

    assert not await office.tokens.store_pair(before, TokensGranted("x", "y", 1))

    token = await office.token()
    assert (token.state, token.generation, token.access_token, token.refresh_token) == (
        "ok",
        1,
        "access-1",
        "refresh-1",
    )
    assert 89_990 <= (token.expires_at - office.clock.now()).total_seconds() <= 90_001
    assert not token.is_leased


async def test_nobody_leases_an_old_generation(office: Office) -> None:
    before = await office.seed()
    await office.with_pair()

    assert not await office.tokens.lease(before, owner="late", seconds=30)


async def test_a_refresh_without_a_pair_ends_with_its_state_and_a_pause(office: Office) -> None:
    token = await office.seed()
    await office.tokens.lease(token, owner="me", seconds=30)
    await office.tokens.end_refresh(token, owner="me", state="new", reason="token.x", pause_seconds=30)

    ended = await office.token()
    assert (ended.state, ended.reason, ended.is_leased) == ("new", "token.x", False)
    assert not await office.tokens.lease(ended, owner="me", seconds=30)


async def test_after_its_pause_a_refresh_may_be_tried_again(office: Office) -> None:
    token = await office.seed()
    await office.tokens.lease(token, owner="me", seconds=30)
    await office.tokens.end_refresh(token, owner="me", state="new", reason="token.x", pause_seconds=MOMENT)

    await office.pass_moment()

    assert await office.tokens.lease(token, owner="me", seconds=30)


async def test_a_person_may_link_a_page_whatever_its_state_and_pause_but_not_beside_a_refresh(office: Office) -> None:
    token = await office.seed()
    assert await office.tokens.lease(token, owner="me", seconds=30)
    assert not await office.tokens.lease(token, owner="person", seconds=30, is_by_hand=True)
    await office.tokens.end_refresh(token, owner="me", state="refused", reason="token.refused", pause_seconds=600)

    assert not await office.tokens.lease(await office.token(), owner="me", seconds=30)
    assert await office.tokens.lease(token, owner="person", seconds=30, is_by_hand=True)
    assert await office.tokens.store_pair(token, PAIR)
    assert ((await office.token()).state, (await office.token()).access_token) == ("ok", "access-1")


async def test_a_lease_that_is_given_back_leaves_the_page_as_it_was(office: Office) -> None:
    token = await office.with_pair()
    assert await office.tokens.lease(token, owner="person", seconds=30, is_by_hand=True)

    await office.tokens.give_back(token, owner="other")
    assert (await office.token()).is_leased
    await office.tokens.give_back(token, owner="person")

    now = await office.token()
    assert (now.state, now.reason, now.generation, now.is_leased) == ("ok", None, 1, False)


async def test_only_the_owner_ends_a_refresh(office: Office) -> None:
    token = await office.seed()
    await office.tokens.lease(token, owner="me", seconds=30)

    await office.tokens.end_refresh(token, owner="other", state="refused", reason="x.y", pause_seconds=0)

    assert (await office.token()).is_leased


async def test_a_lease_that_goes_on_is_not_called_over(office: Office) -> None:
    token = await office.seed()
    await office.tokens.lease(token, owner="me", seconds=30)

    assert not await office.tokens.expire_lease(OA_ID, pause_seconds=0)
    assert (await office.token()).is_leased


async def test_a_lease_whose_time_is_over_is_called_over(office: Office) -> None:
    token = await office.seed()
    await office.tokens.lease(token, owner="me", seconds=MOMENT)

    await office.pass_moment()

    assert await office.tokens.expire_lease(OA_ID, pause_seconds=0)
    over = await office.token()
    assert (over.state, over.reason, over.is_leased) == ("refresh_unknown", "token.refresh_interrupted", False)


async def test_the_late_pair_of_a_lease_that_was_called_over_is_stored(office: Office) -> None:
    token = await office.seed()
    await office.tokens.lease(token, owner="me", seconds=MOMENT)
    await office.pass_moment()
    await office.tokens.expire_lease(OA_ID, pause_seconds=0)

    assert await office.tokens.store_pair(token, PAIR)

    assert (await office.token()).state == "ok"


async def test_what_a_call_proves_is_noted_for_its_generation_only(office: Office) -> None:
    await office.with_pair()

    await office.tokens.access_proven(OA_ID, 0, is_alive=False)
    assert not (await office.token()).is_access_dead
    await office.tokens.access_proven(OA_ID, 1, is_alive=False)
    assert (await office.token()).is_access_dead


async def test_a_living_access_token_makes_an_unknown_refresh_good(office: Office) -> None:
    token = await office.with_pair()
    await office.tokens.lease(token, owner="me", seconds=30)
    await office.tokens.end_refresh(token, owner="me", state="refresh_unknown", reason="x.y", pause_seconds=0)

    await office.tokens.access_proven(OA_ID, 1, is_alive=True)

    assert (await office.token()).state == "ok"


async def test_a_broken_page_starts_afresh_with_a_newly_configured_token_only(office: Office) -> None:
    token = await office.with_pair()
    await office.tokens.lease(token, owner="me", seconds=30)
    await office.tokens.end_refresh(token, owner="me", state="refused", reason="x.y", pause_seconds=0)

    assert (await office.seed("configured")).state == "refused"
    linked = await office.seed("linked-again")

    assert (linked.state, linked.generation, linked.refresh_token) == ("new", 2, "linked-again")
    assert linked.access_token is None


async def test_all_pages_can_be_read(office: Office) -> None:
    await office.seed()
    await office.tokens.seed(oa_id="4001", page="thoi-an", app_id=APP_ID, refresh_token=None)

    pages = {token.page: token.state for token in await office.tokens.read_all()}

    assert pages == {PAGE: "new", "thoi-an": "refused"}


# What only the real one has: encryption


async def test_tokens_are_encrypted_at_rest(mongo_uri: str) -> None:
    async with fresh_store(mongo_uri, "motor") as store:
        office = Office(TokenStore(store, keys=[KEY]), ManualClock(), store)
        await office.with_pair()

        stored = repr(await store["page_tokens"].find_one({"_id": OA_ID}))

    for secret in ("configured", "access-1", "refresh-1"):
        assert secret not in stored.replace("configured_hash", "")


async def test_a_rotated_key_reads_what_the_old_one_wrote(mongo_uri: str) -> None:
    async with fresh_store(mongo_uri, "motor") as store:
        await Office(TokenStore(store, keys=[KEY]), ManualClock(), store).with_pair()
        rotated = TokenStore(store, keys=[Fernet.generate_key().decode(), KEY])

        token = await rotated.read(OA_ID)

    assert token is not None
    assert token.access_token == "access-1"


async def test_tokens_of_a_lost_key_are_broken_until_the_page_is_linked_again(mongo_uri: str) -> None:
    async with fresh_store(mongo_uri, "motor") as store:
        await Office(TokenStore(store, keys=[KEY]), ManualClock(), store).with_pair()
        office = Office(TokenStore(store, keys=[Fernet.generate_key().decode()]), ManualClock(), store)

        assert (await office.token()).state == "undecryptable"
        assert (await office.seed("configured")).state == "undecryptable"
        assert (await office.seed("linked-again")).state == "new"
