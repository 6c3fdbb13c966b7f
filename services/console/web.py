"""What every page has: templates, static files, security headers, limits, and the visit of one request."""

import gzip
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from unicodedata import combining, normalize

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from services.console.access import COOKIE, SECURE_COOKIE
from services.console.adapters.account_store import AccountStore
from services.console.adapters.action_store import ActionStore
from services.console.adapters.case_store import CaseRepository
from services.console.adapters.console_data import QuickReply
from services.console.adapters.session_store import SessionStore
from services.console.adapters.thumbnails import Thumbnails
from services.console.domain import (
    LOCAL_TIME,
    Officer,
    Session,
    WindowRule,
    scope_of,
    time_left,
    window_rule_on,
)
from services.console.errors import NotSignedIn
from services.console.handlers import SignInDeps
from services.console.live import LiveHub
from services.console.settings import ConsoleSettings
from services.console.texts import Texts
from shared.case_codes import CodeSearch, code_search
from shared.directory import Directory, DirectoryView
from shared.events import LANGUAGES, Language
from shared.mongo import Store

HERE = Path(__file__).parent
MAX_BODY_BYTES = 65_536
"""The longest form is a reply of 2,000 characters: at most 24 kB, percent-encoded."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
ROOMS = (("queue", "/queue"), ("account", "/account"), ("help", "/help"))
"""The rooms of the console in the order of the menu; approval, broadcasts and reports become further entries."""


@dataclass(frozen=True)
class StaticFile:
    """One file of ours, in memory."""

    content: bytes
    compressed: bytes
    content_type: str


class StaticFiles:
    """Scripts, styles and icons; their address changes with their content, so browsers keep them for a year."""

    _TYPES = {  # noqa: RUF012 - a constant table
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
    }

    def __init__(self, folder: Path = HERE / "static") -> None:
        self.files = {
            file.name: StaticFile(
                file.read_bytes(), gzip.compress(file.read_bytes(), 9, mtime=0), self._TYPES[file.suffix]
            )
            for file in sorted(folder.iterdir())
            if file.suffix in self._TYPES
        }
        together = hashlib.sha256(b"".join(file.content for file in self.files.values()))
        self.version = together.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a file is; a name that does not exist is a mistake of ours.

        Raises:
            KeyError: no such file.
        """
        return f"/static/{self.version}/{name}" if self.files[name] else ""


@dataclass(frozen=True)
class ConsoleDeps:
    """Everything the endpoints need."""

    settings: ConsoleSettings
    store: Store
    accounts: AccountStore
    sessions: SessionStore
    actions: ActionStore
    live: LiveHub
    thumbnails: Thumbnails
    sign_in: SignInDeps
    texts: dict[Language, Texts]
    directory: Directory
    case_code_prefix: str
    windows: tuple[WindowRule, ...]
    quick_replies: tuple[QuickReply, ...]
    static: StaticFiles
    templates: Environment

    @property
    def is_secure(self) -> bool:
        """Whether officers reach us by https."""
        return self.settings.console_public_url.startswith("https://")

    @property
    def cookie(self) -> str:
        """Name of the session cookie; the prefix makes browsers refuse it from anybody but us."""
        return SECURE_COOKIE if self.is_secure else COOKIE

    def today(self) -> date:
        """The day in the officers' time zone."""
        return datetime.now(LOCAL_TIME).date()

    def code_search(self, typed: str) -> CodeSearch | None:
        """Which cases somebody means who typed this today."""
        return code_search(typed, today=self.today(), prefix=self.case_code_prefix)

    def units(self) -> DirectoryView:
        """The directory of today."""
        return self.directory.as_of(self.today())

    def window_rule(self) -> WindowRule:
        """The consultation window of today."""
        return window_rule_on(self.today(), self.windows)

    def unit_name(self, slug: str, language: Language) -> str:
        """A unit's name; also of one that exists no more, or that we never heard of."""
        unit = next((unit for unit in self.directory.units if unit.slug == slug), None)
        if unit is None:
            return slug
        return unit.name if language == "vi" else unit.name_en


def build_templates() -> Environment:
    """Jinja with escaping everywhere and no forgiven typos."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["local"] = local_moment
    environment.globals["script_texts"] = script_texts
    return environment


def script_texts(texts: Texts) -> dict[str, str]:
    """The few texts that the page's own script needs."""
    areas = ("deadline.left.", "deadline.over.", "live.", "pending.seconds", "reply.language_now.")
    return {key: text for area in areas for key, text in texts.starting_with(area).items()}


def local_moment(moment: datetime, now: datetime | None = None) -> str:
    """A moment as people say it: the time today, else with the day."""
    local = moment.astimezone(LOCAL_TIME)
    today = (now or datetime.now(UTC)).astimezone(LOCAL_TIME).date()
    if local.date() == today:
        return f"{local:%H:%M}"
    return f"{local:%H:%M %d/%m}" if local.year == today.year else f"{local:%H:%M %d/%m/%Y}"


class Visit:
    """One request of somebody, with who they are and how they like to read."""

    def __init__(self, request: Request, deps: ConsoleDeps, session: Session | None) -> None:
        self.request = request
        self.deps = deps
        self._session = session
        wanted = request.cookies.get("console_language", "vi")
        self.language: Language = next((known for known in LANGUAGES if known == wanted), "vi")
        self.texts = deps.texts[self.language]
        theme = request.cookies.get("console_theme", "auto")
        self.theme = theme if theme in {"light", "dark"} else "auto"
        self.has_keys = request.cookies.get("console_keys") != "off"
        self.has_sound = request.cookies.get("console_sound") == "on"
        self.is_asked_for_sound = "console_sound" not in request.cookies

    @property
    def session(self) -> Session:
        """The session; the access rule of the route made sure there is one.

        Raises:
            NotSignedIn: a public route asked for it.
        """
        if self._session is None:
            raise NotSignedIn("public route")
        return self._session

    @property
    def is_signed_in(self) -> bool:
        """Whether there is a session."""
        return self._session is not None

    @property
    def officer(self) -> Officer:
        """Who visits."""
        return self.session.officer

    @property
    def cases(self) -> CaseRepository:
        """The cases this officer may see."""
        return CaseRepository(self.deps.store, scope_of(self.officer))

    @property
    def address(self) -> str:
        """Where the request comes from; behind a proxy uvicorn puts the real one here."""
        return self.request.client.host if self.request.client else "unknown"

    @property
    def here(self) -> str:
        """The page's own address, to come back to."""
        url = self.request.url
        return url.path + (f"?{url.query}" if url.query else "")

    @property
    def is_one_unit(self) -> bool:
        """Whether all this officer sees is of one unit, which then need not be named on every line."""
        return scope_of(self.officer).units is not None

    @property
    def is_fragment(self) -> bool:
        """Whether the page's script asks for a part of a page."""
        return "hx-request" in self.request.headers

    def unit_name(self, slug: str) -> str:
        """A unit's name in the language of the visit."""
        return self.deps.unit_name(slug, self.language)

    def reason(self, code: str) -> str:
        """A reason in words; for a code that has none yet the words of its area, with the code."""
        key = code.removeprefix("rule.")  # the router marks the rules of its rule book so
        if self.texts.has(f"reason.{key}"):
            return self.texts(f"reason.{key}")
        area = self.texts.words(f"reason.{key.partition('.')[0]}.other", "")
        return f"{area} ({code})" if area else code

    def all_found(self, evidence: Sequence[str]) -> list[str]:
        """What was found, each once: "mat xe" says no more than "mất xe", nor does a part of a longer phrase."""
        by_letters: dict[str, str] = {}
        for words in map(self.found, evidence):
            letters = "".join(c for c in normalize("NFD", words.casefold().replace("đ", "d")) if not combining(c))
            by_letters[letters] = max(by_letters.get(letters, words), words, key=lambda one: len(normalize("NFD", one)))
        return [
            words
            for letters, words in by_letters.items()
            if not any(f" {letters} " in f" {other} " for other in by_letters if other != letters)
        ]

    def found(self, evidence: str) -> str:
        """What was found in a text: a word of our lists, a street, a unit by its name."""
        kind, _, key = evidence.rpartition(":")
        if not kind:
            return evidence.removeprefix("=")  # the rules' own sign: only as written
        ward = next((unit for unit in self.deps.directory.units if f"{key}-".startswith(f"{unit.slug}-")), None)
        if ward is None:
            return key.replace("-", " ")
        return f"{self.unit_name(ward.slug)} {key.removeprefix(ward.slug).strip('-')}".strip()

    def changed(self, field: str, value: str | None) -> str:
        """A value in the history in words: a unit, a category, a moment."""
        if value is None:
            return "–"
        if field == "unit":
            return self.unit_name(value)
        if field.endswith("_at"):
            return local_moment(datetime.fromisoformat(value))
        return self.texts.words(f"{field}.{value}", value)

    def render(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page or a part of one."""
        content = self.deps.templates.get_template(template).render(
            t=self.texts,
            visit=self,
            language=self.language,
            theme=self.theme,
            session=self._session,
            static=self.deps.static.url,
            unit_name=self.unit_name,
            time_left=time_left,
            now=datetime.now(UTC),
            rooms=ROOMS,
            path=self.request.url.path,
            is_demo=self.deps.settings.hub_environment == "demo",
            **values,
        )
        return HTMLResponse(content, status)


def visit_of(request: Request) -> Visit:
    """The visit that the access check prepared."""
    visit: Visit = request.state.visit
    return visit


class Protect:
    """Security headers on every answer, and a limit on every body; plain ASGI, so that streams stay streams."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], *, is_secure: bool) -> None:
        self._app = app
        self._headers = dict(SECURITY_HEADERS)
        if is_secure:
            self._headers["strict-transport-security"] = "max-age=31536000; includeSubDomains"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
                message["headers"] = headers.raw
            await send(message)

        if (refusal := _body_fault(scope)) is not None:
            await refusal(scope, receive, send_protected)
            return
        await self._app(scope, receive, send_protected)


def _body_fault(scope: Scope) -> Response | None:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length")
    if length is None:
        if b"transfer-encoding" in headers:
            return JSONResponse({"code": "request.length_required"}, 411)
        return None
    if not length.isdigit() or int(length) > MAX_BODY_BYTES:
        return JSONResponse({"code": "request.too_large"}, 413)
    return None
