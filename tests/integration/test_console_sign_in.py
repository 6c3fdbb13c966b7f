"""Signing in and out against a real database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.console.adapters.account_store import AccountStore, Passwords
from services.console.adapters.attempt_store import AttemptStore
from services.console.adapters.demo_accounts import demo_officers, seed_demo_accounts
from services.console.adapters.session_store import token_digest
from services.console.app import build_deps
from services.console.errors import SignInRefused
from services.console.handlers import sign_in
from tests.unit.console.house import CHEAP, LEAD, PASSWORD, House, open_house, scratch_name, settings_for, until
from tests.unit.console.visitor import a_program, a_visitor
from tests.unit.console.world import PAGE


@pytest.fixture
async def house(mongo_uri: str) -> AsyncIterator[House]:
    async with open_house(settings_for(mongo_uri, scratch_name(), console_attempts_per_account=3)) as house:
        yield house


async def test_a_guesser_is_stopped_before_the_password_is_even_looked_at(house: House) -> None:
    async with a_visitor(house.url) as guesser:
        for _ in range(3):
            assert await guesser.sign_in(PAGE, "sai") == 401
        assert await guesser.sign_in(PAGE) == 429
        status, page = await guesser.post("/sign-in", {"account": PAGE, "password": "sai"})
        assert status == 429
        assert "15 phút" in page
        assert await guesser.sign_in("thoi-an") == 303  # another account is not locked


async def test_guesses_side_by_side_are_all_counted(house: House) -> None:
    attempts = AttemptStore(house.store, window_seconds=60)
    counts = await asyncio.gather(*(attempts.count("both:x:y") for _ in range(20)))
    assert max(count for count, _ in counts) == 20
    assert (await attempts.count("both:x:y"))[0] == 21


async def test_a_window_that_has_ended_counts_from_one_again(house: House) -> None:
    attempts = AttemptStore(house.store, window_seconds=60)
    await attempts.count("key")
    await house.store["sign_in_attempts"].update_one(
        {"_id": "key"}, {"$set": {"window_ends_at": datetime.now(UTC) - timedelta(seconds=1)}}
    )
    assert (await attempts.count("key"))[0] == 1


async def test_only_the_digest_of_a_token_is_stored_and_the_cookie_is_out_of_reach_of_scripts(house: House) -> None:
    async with a_visitor(house.url) as officer:
        async with officer.session.post(
            f"{house.url}/sign-in", data={"account": PAGE, "password": "mot-mat-khau-dai"}, allow_redirects=False
        ) as answer:
            cookie = answer.headers["set-cookie"]
        token = cookie.split("=", 1)[1].split(";")[0]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        sessions = await house.store["sessions"].find({}).to_list(None)
        assert [session["_id"] for session in sessions] == [token_digest(token)]
        assert token not in repr(sessions)


async def test_behind_https_the_cookie_is_secure_and_bound_to_the_host(mongo_uri: str) -> None:
    settings = settings_for(mongo_uri, scratch_name(), console_public_url="https://console.example")
    async with open_house(settings) as house, a_visitor(house.url) as officer, officer.session.post(
        f"{house.url}/sign-in", data={"account": PAGE, "password": "mot-mat-khau-dai"}, allow_redirects=False,
        headers={"origin": "https://console.example"},
    ) as answer:  # fmt: skip
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-console_session=")
        assert "Secure" in cookie
        assert "strict-transport-security" in answer.headers


async def test_signing_out_ends_the_session_on_the_server(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        cookie = next(iter(officer.session.cookie_jar)).value
        assert (await officer.post("/sign-out"))[0] == 303
        async with a_visitor(house.url) as thief:
            assert (await thief.get("/queue", Cookie=f"console_session={cookie}"))[0] == 303


async def test_signing_out_everywhere_ends_browsers_and_programs_at_once(house: House) -> None:
    async with (
        a_visitor(house.url, PAGE) as here,
        a_visitor(house.url, PAGE) as there,
        a_visitor(house.url, LEAD) as lead,
    ):
        async with a_program(house.url, PAGE) as program:
            assert (await here.post("/sign-out-everywhere"))[0] == 303
            assert (await there.get("/queue"))[0] == 303
            assert (await program.call("GET", "/api/me"))[0] == 401
        assert (await lead.get("/queue"))[0] == 200


async def test_one_of_my_sessions_can_be_ended_and_nobody_elses(house: House) -> None:
    async with (
        a_visitor(house.url, PAGE) as here,
        a_visitor(house.url, PAGE) as there,
        a_visitor(house.url, LEAD) as lead,
    ):
        other = token_digest(next(iter(there.session.cookie_jar)).value)
        assert (await lead.post(f"/account/sessions/{other}/end"))[0] == 303
        assert (await there.get("/queue"))[0] == 200
        await here.post(f"/account/sessions/{other}/end")
        assert (await there.get("/queue"))[0] == 303


async def test_a_closed_account_is_out_at_its_next_request(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        await house.deps.accounts.disable(PAGE)
        assert (await officer.get("/queue"))[0] == 303
        assert await officer.sign_in(PAGE) == 401


async def test_a_new_unit_or_role_holds_from_the_next_request(house: House) -> None:
    async with a_program(house.url, PAGE) as program:
        await house.store["accounts"].update_one({"_id": PAGE}, {"$set": {"unit": "thoi-an"}})
        assert (await program.call("GET", "/api/me"))[1]["unit"] == "thoi-an"


async def test_what_the_page_fetches_by_itself_keeps_nobody_signed_in(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        session_id = token_digest(next(iter(officer.session.cookie_jar)).value)

        async def set_last_seen(minutes: float) -> None:
            at = datetime.now(UTC) - timedelta(minutes=minutes)
            await house.store["sessions"].update_one({"_id": session_id}, {"$set": {"last_seen_at": at}})

        async def last_seen() -> datetime:
            session = await house.store["sessions"].find_one({"_id": session_id})
            assert session is not None
            seen: datetime = session["last_seen_at"]
            return seen

        await set_last_seen(30)
        assert (await officer.get("/queue/list", **{"X-Live": "1", "HX-Request": "true"}))[0] == 200
        assert (datetime.now(UTC) - await last_seen()) > timedelta(minutes=29)
        assert (await officer.get("/queue"))[0] == 200
        assert (datetime.now(UTC) - await last_seen()) < timedelta(minutes=1)
        await set_last_seen(61)
        assert (await officer.get("/queue"))[0] == 303


async def test_a_link_from_elsewhere_is_followed_again_from_our_own_page(house: House) -> None:
    async with a_visitor(house.url) as officer:
        status, page = await officer.get("/queue", **{"Sec-Fetch-Site": "cross-site"})
        assert status == 200
        assert 'http-equiv="refresh"' in page
        status, _ = await officer.get("/queue", **{"Sec-Fetch-Site": "same-origin"})
        assert status == 303


async def test_demo_accounts_are_written_once_and_open_nothing_in_production(house: House) -> None:
    officers = demo_officers([(PAGE, "Công an phường Tân Chánh Hiệp")], lead_unit="district")
    accounts, passwords = AccountStore(house.store), Passwords(CHEAP)
    assert await seed_demo_accounts(accounts, passwords, officers, password=PASSWORD) == 0
    assert await seed_demo_accounts(accounts, passwords, officers, password="another one") == 4
    production = build_deps(house.deps.settings.model_copy(update={"hub_environment": "production"}), house.store)
    with pytest.raises(SignInRefused):
        await sign_in(PAGE, "another one", kind="browser", address="x", user_agent="", deps=production.sign_in)


async def test_the_stream_of_a_revoked_session_says_so_and_ends(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        async with officer.session.get(f"{house.url}/live", headers={"accept": "text/event-stream"}) as stream:
            assert b"hello" in await stream.content.readuntil(b"\n\n")
            await house.deps.sessions.close_all(PAGE)
            rest = await asyncio.wait_for(stream.content.read(), 20)
            assert b"event: signed-out" in rest
        await until(lambda: house.deps.live.watchers == 0)
