"""Every route declares who may call it; a route that forgets to is refused at start."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from services.console.access import Access, access, every_route, require_rules, rule_of
from services.console.app import build_deps, build_web
from services.console.settings import ConsoleSettings
from shared.errors import ConfigurationError
from shared.mongo import open_store

SETTINGS = ConsoleSettings(mongo_uri="mongodb://127.0.0.1:1/", hub_environment="demo")


def routes() -> list[APIRoute]:
    web = build_web(build_deps(SETTINGS, open_store(SETTINGS)))
    return [route for route in every_route(web.routes) if isinstance(route, APIRoute)]


def test_every_route_declares_a_rule() -> None:
    found = routes()
    assert len(found) > 35
    assert all(rule_of(route.endpoint) is not None for route in found)


def test_what_anybody_may_call_is_a_short_list() -> None:
    public = {
        f"{method} {route.path}"
        for route in routes()
        if rule_of(route.endpoint) is Access.PUBLIC
        for method in route.methods or ()
    }
    assert public == {
        "GET /",
        "GET /sign-in",
        "POST /sign-in",
        "POST /preferences",
        "GET /static/{version}/{name}",
        "GET /api/openapi.json",
        "POST /api/sessions",
    }


def test_every_route_about_a_case_or_its_pictures_is_bound_to_a_unit() -> None:
    for route in routes():
        if any(name in route.path for name in ("/cases", "/queue", "/attachments", "/live")):
            assert rule_of(route.endpoint) is Access.UNIT, route.path


async def _endpoint() -> None: ...


@pytest.mark.parametrize("route", [APIRoute("/new", _endpoint), Route("/plain", _endpoint), Mount("/files", routes=[])])
def test_a_route_without_a_rule_stops_the_start(route: Any) -> None:
    with pytest.raises(ConfigurationError, match="without an access rule"):
        require_rules([route])


def test_a_plain_route_is_refused_even_with_a_rule_for_the_check_would_not_run() -> None:
    async def marked() -> None: ...

    with pytest.raises(ConfigurationError):
        require_rules([Route("/plain", access(Access.PUBLIC)(marked))])


def test_a_route_added_to_the_real_application_is_seen() -> None:
    web = build_web(build_deps(SETTINGS, open_store(SETTINGS)))

    @web.get("/new")
    async def new() -> None: ...

    with pytest.raises(ConfigurationError, match="/new"):
        require_rules(web.routes)


def test_pages_have_no_inline_script_or_style() -> None:
    for file in Path("services/console/templates").glob("*.html"):
        text = file.read_text("utf-8")
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|hx-on", text), file.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), file.name
