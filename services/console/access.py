"""Who may call which route: every route declares a rule, and one place enforces it before any endpoint runs.

A route without a rule stops the start, so that forgetting it can never mean "open to all".
"""

import hmac
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute

from services.console.adapters.session_store import SessionStore
from services.console.domain import Session
from services.console.errors import NotAllowed, NotSignedIn
from shared.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
COOKIE = "console_session"
SECURE_COOKIE = "__Host-console_session"
LIVE_HEADER = "x-live"
"""Set by what the page fetches by itself; such a request does not count as use of the session."""


class Access(Enum):
    """The rule of a route."""

    PUBLIC = "anybody; shows nothing of any case"
    SIGNED_IN = "an officer; about themselves and the hub, not about a case"
    UNIT = "an officer; only cases of the units in their scope, every other one is not found"


def access(rule: Access) -> Callable[[F], F]:
    """Declare the rule of an endpoint."""

    def mark(endpoint: F) -> F:
        endpoint.access_rule = rule  # type: ignore[attr-defined]  # a mark on the function, read by `rule_of`
        return endpoint

    return mark


def rule_of(endpoint: Any) -> Access | None:
    """The declared rule of an endpoint."""
    rule = getattr(endpoint, "access_rule", None)
    return rule if isinstance(rule, Access) else None


def every_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """All routes, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from every_route(included.routes)


def require_rules(routes: Iterable[BaseRoute]) -> None:
    """Refuse to start with a route that declares no rule.

    Raises:
        ConfigurationError: names the routes.
    """
    without = [
        getattr(route, "path", repr(route))
        for route in every_route(routes)
        if not isinstance(route, APIRoute) or rule_of(route.endpoint) is None
    ]
    if without:
        raise ConfigurationError(f"routes without an access rule: {', '.join(without)}")


async def authorise(request: Request, sessions: SessionStore, *, public_host: str = "") -> Session | None:
    """Enforce the rule of the route that was matched.

    Args:
        request: the request.
        sessions: where sessions are.
        public_host: host and port under which officers know us, if a proxy in front changes them.

    Returns:
        The session, which a public route may have too.

    Raises:
        NotSignedIn: the route needs a session and there is none.
        NotAllowed: a changing request that does not come from our own page.
        StoreUnavailable: cannot tell, so nobody enters.
    """
    rule = rule_of(request.scope.get("endpoint"))
    if rule is None:
        raise NotAllowed("no rule")
    bearer = _bearer(request)
    token = bearer or request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE)
    is_use = LIVE_HEADER not in request.headers and "text/event-stream" not in request.headers.get("accept", "")
    session = await sessions.find(token, is_use=is_use) if token else None
    if session is not None and session.kind != ("api" if bearer else "browser"):
        session = None  # a token taken from a cookie is no API token, nor the other way round
    if request.method not in SAFE_METHODS and not bearer:
        _same_origin(request, public_host)
        if session is not None:
            await _csrf(request, session.csrf)
    if session is None and rule is not Access.PUBLIC:
        raise NotSignedIn("no session")
    return session


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def _same_origin(request: Request, public_host: str) -> None:
    """A browser says where a changing request comes from; another site's page may not make one in our name."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise NotAllowed("cross-site")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in {request.headers.get("host", ""), public_host}:
        raise NotAllowed("origin")


async def _csrf(request: Request, expected: str) -> None:
    given = request.headers.get("x-csrf-token")
    if given is None and "form" in request.headers.get("content-type", ""):
        field = (await request.form()).get("csrf")
        given = field if isinstance(field, str) else None
    if given is None or not hmac.compare_digest(given.encode(), expected.encode()):
        raise NotAllowed("csrf")
