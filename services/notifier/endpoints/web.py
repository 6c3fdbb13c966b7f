"""Around every request of the HTTP API: who asks, how much they may send, and how a refusal is told."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from services.notifier.adapters.api_tokens import ApiTokens
from services.notifier.domain.access import Person
from services.notifier.errors import Rejected
from services.notifier.handlers.broadcasts import Desk
from shared.errors import StoreUnavailable
from shared.telemetry import get_logger

log = get_logger()

MAX_BODY_BYTES = 524_288
"""The longest article is some 100,000 characters of Vietnamese: under 300 kB."""
MAX_DEPTH = 24
"""The deepest draft is nine levels deep."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{\]}]")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
M = TypeVar("M", bound=BaseModel)

bearer = HTTPBearer(auto_error=False, description="the token of one person, from the secret file of the notifier")


def desk_of(request: Request) -> Desk:
    """The desk that the application was built with."""
    desk: Desk = request.app.state.desk
    return desk


def person_of(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> Person:
    """Who asks.

    Raises:
        Rejected: 401, without a token or with one that nobody has.
    """
    if credentials is None:
        raise Rejected("access.no_token", status=401, detail="Send your token as `Authorization: Bearer …`.")
    tokens: ApiTokens = request.app.state.tokens
    person = tokens.person_of(credentials.credentials)
    if person is None:
        raise Rejected("access.unknown_token", status=401, detail="Nobody has this token.")
    return person


def strictly(model: type[M]) -> Any:
    """Take a body by JSON's own types alone: "1" is no number and 1 is no text, which FastAPI would let pass."""

    async def validate(request: Request) -> None:
        try:
            model.model_validate_json(await request.body(), strict=True)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error

    return Depends(validate)


class Bounded:
    """Reads every body whole before anybody parses it, and turns away what is too long or too deep."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length and (not length.isdigit() or int(length) > MAX_BODY_BYTES):
            await _refusal(413, "request.too_large")(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                await _refusal(413, "request.too_large")(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        if depth_of(body) > MAX_DEPTH:
            await _refusal(422, "request.too_deep")(scope, receive, send)
            return
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self._app(scope, replay, send_guarded)


def depth_of(body: bytes) -> int:
    """How deep the brackets of a JSON text go, without parsing it."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _refusal(status: int, code: str, message: str = "", problems: list[dict[str, str]] | None = None) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"code": code, "message": message or code, "problems": problems or []}, status, headers)


async def told(request: Request, error: Exception) -> Response:
    """Say what went wrong as `Problem`; never what a person wrote, never a trace."""
    match error:
        case Rejected():
            if error.status in {401, 403}:
                log.warning("api.refused", path=request.scope["path"][:80], reason=error.reason)
            return _refusal(error.status, error.reason, error.detail)
        case RequestValidationError():
            problems = [
                {"where": ".".join(str(part) for part in one["loc"] if part != "body"), "what": str(one["msg"])}
                for one in error.errors()
            ]
            first = problems[0] if problems else {"where": "", "what": ""}
            message = f"{first['where']}: {first['what']}" if first["where"] else first["what"]
            return _refusal(422, "request.invalid", message, problems)
        case StoreUnavailable():
            return _refusal(503, error.code, "The database does not answer; ask again.")
        case HTTPException():
            code = {404: "page.not_found", 405: "request.method"}.get(error.status_code, "request.invalid")
            return _refusal(error.status_code, code, str(error.detail))
        case _:
            log.error("api.failed", path=request.scope["path"][:80], error=type(error).__name__, exc_info=error)
            return _refusal(500, "api.failed", "A fault of the program; its log tells more.")


def build_web(desk: Desk | None, tokens: ApiTokens, router: Any, *, about: str) -> FastAPI:
    """The API; without a desk only its description can be asked for."""
    web = FastAPI(
        title="Bình Yên notifier",
        version="1.0.0",
        description=about,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "this notifier"}],
    )
    web.state.desk, web.state.tokens = desk, tokens
    web.include_router(router)
    for kind in (Rejected, StoreUnavailable, RequestValidationError, HTTPException, Exception):
        web.add_exception_handler(kind, told)
    return web
