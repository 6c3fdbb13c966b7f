"""Who sees what, asked of every route of the real console over a real socket and a real database."""

from collections.abc import AsyncIterator

import pytest
from fastapi.routing import APIRoute

from services.console.access import Access, every_route, rule_of
from services.console.adapters.case_store import CaseRepository
from services.console.app import build_web
from services.console.domain import Scope
from services.console.errors import CaseNotFound
from shared.case_codes import CodeSearch
from shared.mongo import Document
from tests.unit.console.house import House, open_house, scratch_name, settings_for
from tests.unit.console.visitor import Visitor, a_program, a_visitor
from tests.unit.console.world import (
    OTHER_UNIT,
    PAGE,
    a_busy_night,
    a_case,
    a_code,
    a_message,
    a_picture,
    minutes_ago,
    put,
)

SECRET = "chuyện riêng của phường khác"
"""Text of a case of another unit: it may appear in no answer."""


@pytest.fixture(scope="module")
async def house(mongo_uri: str) -> AsyncIterator[House]:
    async with open_house(settings_for(mongo_uri, scratch_name())) as house:
        await a_busy_night(house.store)
        foreign = a_case(900, unit=OTHER_UNIT, page=OTHER_UNIT, category="emergency")
        message = a_message(foreign, SECRET, kind="image", attachments=[{"index": 0}])
        await put(house.store, cases=[foreign], messages=[message])
        await a_picture(house.store, message)
        yield house


def all_routes(house: House) -> list[tuple[str, APIRoute]]:
    routes = [route for route in every_route(build_web(house.deps).routes) if isinstance(route, APIRoute)]
    return [(method, route) for route in routes for method in sorted(route.methods or ()) if method != "HEAD"]


async def foreign_values(house: House) -> dict[str, str]:
    """What to put into the placeholders of a path: everything belongs to the other unit."""
    message = await house.store["messages"].find_one({"case_code": a_code(900)})
    assert message is not None
    attachment = await house.store["attachments"].find_one({"message_event_id": message["_id"]})
    assert attachment is not None
    action: Document = {
        "_id": "f" * 32,
        "state": "waiting",
        "action": "reply",
        "officer": OTHER_UNIT,
        "case_code": a_code(900),
        "text": SECRET,
        "officer_name": "Trực ban",
        "decided_at": minutes_ago(0),
        "due_at": minutes_ago(-60),
    }
    await house.store["pending_actions"].replace_one({"_id": action["_id"]}, action, upsert=True)
    return {
        "code": a_code(900),
        "attachment_id": str(attachment["_id"]),
        "action_id": "f" * 32,
        "session_id": "0" * 64,
        "version": "x",
        "name": "x",
    }


async def ask(visitor: Visitor, method: str, path: str, house: House) -> tuple[int, str]:
    """Call a route with everything of the other unit, and read at most the first bytes of a stream."""
    values = await foreign_values(house)
    address = house.url + path.format(**values)
    query = {"code": values["code"], "unit": OTHER_UNIT, "q": values["code"], "draft": values["action_id"]}
    headers = {"x-csrf-token": visitor.csrf, "idempotency-key": "0123456789"}
    body = {"text": "x", "to_unit": PAGE, "action": "close"}
    is_api = path.startswith("/api/")
    async with visitor.session.request(
        method,
        address,
        params=query if method == "GET" else None,
        headers=headers,
        json=body if is_api and method == "POST" else None,
        data=body if not is_api and method == "POST" else None,
        allow_redirects=False,
    ) as answer:
        return answer.status, (await answer.content.read(200_000)).decode("utf-8", "replace")


async def test_nobody_who_is_not_signed_in_gets_anything_from_any_route(house: House) -> None:
    async with a_visitor(house.url) as stranger:
        for method, route in all_routes(house):
            status, text = await ask(stranger, method, route.path, house)
            assert SECRET not in text, route.path
            if rule_of(route.endpoint) is not Access.PUBLIC:
                assert status in {303, 401}, f"{method} {route.path}: {status}"


async def test_no_route_shows_or_changes_a_case_of_another_unit(house: House) -> None:
    asked = 0
    for method, route in all_routes(house):
        if "sign-out" in route.path or route.path.endswith("/current"):
            continue  # would end the visit itself
        async with a_visitor(house.url, PAGE) as officer:
            status, text = await ask(officer, method, route.path, house)
            assert SECRET not in text, f"{method} {route.path}"
            if rule_of(route.endpoint) is Access.UNIT and "{" in route.path:
                assert status == 404, f"{method} {route.path}: {status}"
                asked += 1
    assert asked >= 12
    assert (
        await house.store["pending_actions"].find_one({"case_code": a_code(900), "state": {"$ne": "waiting"}}) is None
    )


async def test_the_live_stream_refuses_a_case_of_another_unit(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        status, _ = await officer.get(f"/live?code={a_code(900)}", Accept="text/event-stream")
        assert status == 404


async def test_the_other_unit_and_the_district_lead_do_see_the_case(house: House) -> None:
    for account in (OTHER_UNIT, "lanh-dao"):
        async with a_visitor(house.url, account) as officer:
            status, text = await officer.get(f"/cases/{a_code(900)}")
            assert status == 200
            assert SECRET in text


async def test_a_case_of_another_unit_looks_exactly_like_one_that_does_not_exist(house: House) -> None:
    foreign, missing = a_code(900), a_code(999)
    asked = 0
    async with a_program(house.url, PAGE) as program:
        assert await program.call("GET", f"/api/cases/{foreign}") == await program.call("GET", f"/api/cases/{missing}")
    async with a_visitor(house.url, PAGE) as officer:
        for method, route in all_routes(house):
            if "{code}" not in route.path:
                continue
            for more in ({}, {"hx-request": "true"}, {"accept": "text/event-stream"}):
                seen = []
                for code in (foreign, missing):
                    async with officer.session.request(
                        method,
                        house.url + route.path.format(code=code),
                        headers={"x-csrf-token": officer.csrf, "idempotency-key": "0123456789", **more},
                        json={"action": "close"} if route.path.startswith("/api/") and method == "POST" else None,
                        allow_redirects=False,
                    ) as answer:
                        headers = {name: value for name, value in answer.headers.items() if name != "date"}
                        seen.append((answer.status, headers, (await answer.text()).replace(code, "CODE")))
                assert seen[0] == seen[1], f"{method} {route.path} with {more}"
                asked += 1
    assert asked >= 30


async def test_who_opens_a_case_that_is_not_theirs_reads_in_both_languages_what_to_do(house: House) -> None:
    vietnamese = "Vụ này không tồn tại hoặc không thuộc đơn vị của anh/chị."
    english = "This case does not exist or is not one of your unit’s."
    async with a_visitor(house.url, PAGE) as officer:
        for language in ("vi", "en"):
            await officer.post("/preferences", {"language": language, "back": "/queue"})
            status, page = await officer.get(f"/cases/{a_code(900)}")
            assert status == 404
            assert page.index(vietnamese) < page.index(english)
            assert "hỏi trực ban Công an Quận 12." in page
            assert "ask the duty officer of District 12 Police." in page
            assert 'href="/queue" autofocus' in page
            assert 'action="/queue" role="search"' in page


async def test_every_changing_route_refuses_a_request_without_the_csrf_token_or_from_elsewhere(house: House) -> None:
    tried = 0
    async with a_visitor(house.url, PAGE) as officer:
        values = await foreign_values(house)
        for method, route in all_routes(house):
            if method == "GET":
                continue
            address = house.url + route.path.format(**values | {"code": a_code(40)})
            for headers in ({"x-csrf-token": "wrong"}, {"x-csrf-token": officer.csrf, "origin": "https://elsewhere.example"},
                            {"x-csrf-token": officer.csrf, "sec-fetch-site": "cross-site"}):  # fmt: skip
                async with officer.session.request(method, address, headers=headers, allow_redirects=False) as answer:
                    assert answer.status == 403, f"{method} {route.path}: {answer.status} with {headers}"
                    tried += 1
        status, _ = await officer.get("/account")
        assert status == 200
    assert tried > 40


async def test_a_session_cookie_is_no_api_token_and_an_api_token_no_cookie(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        cookie = next(iter(officer.session.cookie_jar)).value
        async with a_visitor(house.url) as stranger:
            status, _ = await stranger.get("/api/me", Authorization=f"Bearer {cookie}")
            assert status == 401
        async with officer.session.post(
            f"{house.url}/api/sessions", json={"account": PAGE, "password": "mot-mat-khau-dai"},
            headers={"x-csrf-token": officer.csrf},
        ) as answer:  # fmt: skip
            token = (await answer.json())["token"]
    async with a_visitor(house.url) as stranger:
        status, _ = await stranger.get("/queue", Cookie=f"console_session={token}")
        assert status == 303


async def test_the_repository_puts_the_scope_into_every_query(house: House) -> None:
    repository = CaseRepository(house.store, Scope(frozenset({PAGE})))
    for view in ("open", "waiting", "closed"):
        assert {case.unit for case in await repository.queue(view)} == {PAGE}
    assert await repository.search(CodeSearch((a_code(900),))) == []
    assert a_code(900) not in {case.code for case in await repository.search(CodeSearch(prefix="Q12"))}
    with pytest.raises(CaseNotFound):
        await repository.case(a_code(900))
    foreign = await CaseRepository(house.store, Scope(None)).case(a_code(900))
    for read in (repository.conversation, repository.history, repository.contact):
        with pytest.raises(CaseNotFound):
            await read(foreign)
    assert (await repository.fingerprints([a_code(900)]))[a_code(900)].count("emergency") == 0
    assert await CaseRepository(house.store, Scope(frozenset())).queue("open") == []
