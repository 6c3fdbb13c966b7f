"""Wiring of the console: the one place that builds its parts and connects them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from services.console.access import authorise, require_rules
from services.console.adapters.account_store import AccountStore, Passwords
from services.console.adapters.action_store import ActionStore
from services.console.adapters.attempt_store import AttemptStore
from services.console.adapters.console_data import load_quick_replies, load_windows
from services.console.adapters.demo_accounts import demo_officers, demo_password, seed_demo_accounts
from services.console.adapters.session_store import SessionStore
from services.console.adapters.thumbnails import Thumbnails
from services.console.endpoints import api, pages, sign_in
from services.console.errors import ConsoleError, NotSignedIn, TooManyAttempts
from services.console.handlers import AttemptLimits, SignInDeps, keep_publishing
from services.console.live import LiveHub
from services.console.settings import ConsoleSettings
from services.console.texts import load_texts
from services.console.web import ConsoleDeps, Protect, Receive, Scope, Send, StaticFiles, Visit, build_templates
from shared.case_codes import load_case_code_prefix
from shared.directory import load_directory
from shared.errors import StoreUnavailable
from shared.kafka import EventPublisher, build_broker
from shared.mongo import Store, open_store
from shared.service import ServiceApp, build_service
from shared.telemetry import get_logger

log = get_logger()
SERVICE = "console"
OWN_PATHS = frozenset({"/health/live", "/health/ready", "/metrics", "/asyncapi.json"})
"""What every service answers; for operators, so a proxy in front of the console does not pass these on."""


@dataclass(frozen=True)
class Console:
    """The console: an ASGI application made of the pages and of what every service has."""

    service: ServiceApp
    web: FastAPI
    deps: ConsoleDeps
    protected: Protect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lifespan and health belong to the service, everything else to the pages."""
        if scope["type"] != "http" or scope["path"] in OWN_PATHS:
            await self.service(scope, receive, send)
        else:
            await self.protected(scope, receive, send)


def build_deps(settings: ConsoleSettings, store: Store) -> ConsoleDeps:
    """Build what the endpoints need."""
    accounts, passwords = AccountStore(store), Passwords()
    sessions = SessionStore(
        store, idle_seconds=settings.console_idle_seconds, session_seconds=settings.console_session_seconds
    )
    actions = ActionStore(store)
    limits = AttemptLimits(
        per_account_and_address=settings.console_attempts_per_account,
        per_account=settings.console_attempts_per_account_anywhere,
        per_address=settings.console_attempts_per_address,
    )
    return ConsoleDeps(
        settings=settings,
        store=store,
        accounts=accounts,
        sessions=sessions,
        actions=actions,
        live=LiveHub(store, actions, poll_seconds=settings.console_poll_seconds),
        thumbnails=Thumbnails(),
        sign_in=SignInDeps(
            accounts=accounts,
            hashes=passwords,
            sessions=sessions,
            attempts=AttemptStore(store, window_seconds=settings.console_attempt_window_seconds),
            limits=limits,
            allow_demo=settings.hub_environment == "demo",
        ),
        texts=load_texts(),
        directory=load_directory(settings.data_dir),
        case_code_prefix=load_case_code_prefix(settings.data_dir),
        windows=load_windows(settings.data_dir),
        quick_replies=load_quick_replies(),
        static=StaticFiles(),
        templates=build_templates(),
    )


def build_web(deps: ConsoleDeps) -> FastAPI:
    """The pages and the API, behind one access check.

    Raises:
        ConfigurationError: a route declares no access rule.
    """
    public_host = urlsplit(deps.settings.console_public_url).netloc

    async def enter(request: Request) -> None:
        request.state.visit = Visit(request, deps, None)
        session = await authorise(request, deps.sessions, public_host=public_host)
        request.state.visit = Visit(request, deps, session)

    web = FastAPI(
        title="Bình Yên console",
        version="1.0.0",
        description=api.__doc__ or "",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "this console"}],
        # The bearer only describes how programs sign in; `enter` does the judging.
        dependencies=[Security(HTTPBearer(auto_error=False)), Depends(enter)],
    )
    web.include_router(sign_in.router)
    web.include_router(pages.router)
    web.include_router(api.router)
    require_rules(web.routes)
    web.add_exception_handler(ConsoleError, partial(_told, deps=deps))
    web.add_exception_handler(StoreUnavailable, partial(_told, deps=deps))
    web.add_exception_handler(RequestValidationError, partial(_told, deps=deps))
    web.add_exception_handler(HTTPException, partial(_told, deps=deps))
    web.add_exception_handler(Exception, partial(_told, deps=deps))
    return web


def openapi_document(settings: ConsoleSettings) -> dict[str, Any]:
    """The HTTP API's contract; committed as docs/openapi/console.json."""
    return build_web(build_deps(settings, open_store(settings))).openapi()


async def _told(request: Request, error: Exception, *, deps: ConsoleDeps) -> Response:
    """Say what went wrong, in the form of who asked: a program, a part of a page, a person."""
    status, code = _status_and_code(error)
    if status >= 500:
        log.warning("request.failed", path=request.scope["path"][:80], code=code, error=type(error).__name__)
    headers: dict[str, str] = {}
    if isinstance(error, TooManyAttempts):
        headers["retry-after"] = str(error.retry_after_seconds)
    if isinstance(error, HTTPException) and error.headers:
        headers |= error.headers
    visit: Visit = getattr(request.state, "visit", None) or Visit(request, deps, None)
    if request.url.path.startswith("/api/"):
        reason = getattr(error, "reason", None)
        content = {"code": reason or code, "message": visit.texts.words(f"error.{reason or code}", code)}
        return JSONResponse(content, status, headers)
    if isinstance(error, NotSignedIn):
        return _to_sign_in(request, visit)
    if visit.is_fragment:
        if code == "case.not_found":
            headers["hx-redirect"] = "/queue"  # handed over while its page was open
        return Response(status_code=status, headers=headers)
    template = "no_case.html" if code == "case.not_found" else "error.html"
    page = visit.render(template, status=status, code=code, is_passing=status == 503)
    page.headers.update(headers)
    return page


def _to_sign_in(request: Request, visit: Visit) -> Response:
    had_cookie = visit.deps.cookie in request.cookies
    if visit.is_fragment:
        return Response(status_code=401, headers={"hx-redirect": "/sign-in?over=1"})
    if request.method != "GET" or "text/event-stream" in request.headers.get("accept", ""):
        return RedirectResponse("/sign-in?over=1", 303) if request.method == "POST" else Response(status_code=401)
    if not had_cookie and request.headers.get("sec-fetch-site") == "cross-site":
        # A link from elsewhere: browsers hold a Strict cookie back. Coming from this page they send it.
        return HTMLResponse(
            f'<!doctype html><meta http-equiv="refresh" content="0"><title>{visit.texts("product")}</title>'
        )
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    over = "&over=1" if had_cookie else ""
    return RedirectResponse(f"/sign-in?next={quote(target)}{over}", 303)


def _status_and_code(error: Exception) -> tuple[int, str]:
    match error:
        case ConsoleError():
            return error.status, error.code
        case StoreUnavailable():
            return 503, error.code
        case RequestValidationError():
            return 422, "request.invalid"
        case HTTPException():
            return error.status_code, "page.not_found" if error.status_code == 404 else "request.invalid"
    return 500, "console.failed"


def build_app(settings: ConsoleSettings) -> Console:
    """Build the console; nothing is opened before its lifespan starts."""
    store = open_store(settings)
    broker = build_broker(settings, service=SERVICE)
    publisher = EventPublisher(broker, service=SERVICE, timeout_seconds=settings.console_publish_seconds)
    deps = build_deps(settings, store)
    web = build_web(deps)
    workers: list[Callable[[], Awaitable[None]]] = [
        deps.live.run,
        partial(keep_publishing, deps.actions, publisher),
    ]
    service = build_service(
        SERVICE,
        settings,
        broker=broker,
        store=store,
        progress={},
        workers=workers,
        resources=[_demo_accounts(deps)] if settings.hub_environment == "demo" else [],
    )
    return Console(service, web, deps, Protect(web, is_secure=deps.is_secure))


@asynccontextmanager
async def _demo_accounts(deps: ConsoleDeps) -> AsyncIterator[None]:
    given = deps.settings.console_demo_password
    password = demo_password(deps.settings.hub_home, given.get_secret_value() if given else None)
    view = deps.units()
    officers = demo_officers([(unit.slug, unit.name) for unit in view.units.values()], lead_unit=view.district().slug)
    await seed_demo_accounts(deps.accounts, Passwords(), officers, password=password)
    yield
