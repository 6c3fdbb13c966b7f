"""Signing in and out, one's own account, and how one likes to read."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from services.console.access import Access, access
from services.console.endpoints.frame import frame
from services.console.errors import PasswordRefused, SignInRefused, TooManyAttempts
from services.console.handlers import change_password, sign_in
from services.console.web import Visit, visit_of
from shared.events import Language

router = APIRouter(include_in_schema=False)
Visiting = Annotated[Visit, Depends(visit_of)]

YEAR_SECONDS = 365 * 86_400


def local_path(wanted: str | None) -> str:
    """Where to go next; only ever a place of ours."""
    parts = urlsplit(wanted or "")
    if parts.scheme or parts.netloc or not parts.path.startswith("/") or parts.path.startswith(("//", "/\\")):
        return "/queue"
    return parts.path + (f"?{parts.query}" if parts.query else "")


@router.get("/")
@access(Access.PUBLIC)
async def home() -> Response:
    """The queue is the home page."""
    return RedirectResponse("/queue", 303)


@router.get("/sign-in")
@access(Access.PUBLIC)
async def sign_in_page(visit: Visiting, next: str = "", over: str = "") -> Response:
    """The page to sign in on."""
    if visit.is_signed_in:
        return RedirectResponse(local_path(next), 303)
    return visit.render("sign_in.html", account="", fault=None, wait_minutes=0, goes_to=next, is_over=bool(over))


@router.post("/sign-in")
@access(Access.PUBLIC)
async def sign_in_with_password(
    visit: Visiting,
    account: Annotated[str, Form(max_length=64)] = "",
    password: Annotated[str, Form(max_length=1_024)] = "",
    goes_to: Annotated[str, Form(max_length=256)] = "",
) -> Response:
    """Sign in; the answer to a wrong name and a wrong password is the same."""
    request = visit.request
    try:
        token, session = await sign_in(
            account,
            password,
            kind="browser",
            address=visit.address,
            user_agent=request.headers.get("user-agent", ""),
            deps=visit.deps.sign_in,
        )
    except (SignInRefused, TooManyAttempts) as error:
        wait_minutes = (error.retry_after_seconds + 59) // 60 if isinstance(error, TooManyAttempts) else 0
        page = visit.render(
            "sign_in.html",
            status=error.status,
            account=account[:64],
            fault=error.code,
            wait_minutes=wait_minutes,
            goes_to=goes_to,
            is_over=False,
        )
        if wait_minutes:
            page.headers["retry-after"] = str(wait_minutes * 60)
        return page
    answer = RedirectResponse(local_path(goes_to), 303)
    answer.set_cookie(
        visit.deps.cookie,
        token,
        max_age=int((session.expires_at - datetime.now(UTC)).total_seconds()),
        path="/",
        secure=visit.deps.is_secure,
        httponly=True,
        samesite="strict",
    )
    return answer


def _signed_out(visit: Visit) -> Response:
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(visit.deps.cookie, path="/", secure=visit.deps.is_secure, httponly=True, samesite="strict")
    answer.headers["clear-site-data"] = '"cache", "storage"'  # the next person at this PC finds nothing
    return answer


@router.post("/sign-out")
@access(Access.SIGNED_IN)
async def sign_out(visit: Visiting) -> Response:
    """End this session."""
    await visit.deps.sessions.close(visit.session.session_id)
    return _signed_out(visit)


@router.post("/sign-out-everywhere")
@access(Access.SIGNED_IN)
async def sign_out_everywhere(visit: Visiting) -> Response:
    """End every session of this account, this one too."""
    await visit.deps.sessions.close_all(visit.officer.account)
    return _signed_out(visit)


async def _account_page(
    visit: Visit, *, fault: str | None = None, done: str | None = None, status: int = 200
) -> Response:
    sessions = await visit.deps.sessions.of_account(visit.officer)
    return visit.render("account.html", status=status, sessions=sessions, fault=fault, done=done, **await frame(visit))


@router.get("/account")
@access(Access.SIGNED_IN)
async def account_page(visit: Visiting) -> Response:
    """Where one is signed in, the password, keys and sound."""
    return await _account_page(visit)


@router.post("/account/sessions/{session_id}/end")
@access(Access.SIGNED_IN)
async def end_session(visit: Visiting, session_id: str) -> Response:
    """End one of one's own sessions."""
    await visit.deps.sessions.close(session_id, account=visit.officer.account)
    return RedirectResponse("/account", 303)


@router.post("/account/password")
@access(Access.SIGNED_IN)
async def new_password(
    visit: Visiting,
    old: Annotated[str, Form(max_length=1_024)] = "",
    new: Annotated[str, Form(max_length=1_024)] = "",
) -> Response:
    """Change one's own password; every other session ends."""
    try:
        await change_password(visit.session, old=old, new=new, deps=visit.deps.sign_in)
    except PasswordRefused as error:
        return await _account_page(visit, fault=error.reason, status=error.status)
    except TooManyAttempts as error:
        return await _account_page(visit, fault=error.code, status=error.status)
    return await _account_page(visit, done="password.changed")


@router.get("/help")
@access(Access.SIGNED_IN)
async def help_page(visit: Visiting) -> Response:
    """Keys and how the page is meant."""
    return visit.render("help.html", **await frame(visit))


@router.post("/preferences")
@access(Access.PUBLIC)
async def preferences(
    visit: Visiting,
    language: Annotated[Language | None, Form()] = None,
    theme: Annotated[Literal["auto", "light", "dark"] | None, Form()] = None,
    keys: Annotated[Literal["on", "off"] | None, Form()] = None,
    sound: Annotated[Literal["on", "off"] | None, Form()] = None,
    back: Annotated[str, Form(max_length=256)] = "",
) -> Response:
    """Language, light or dark, single keys, sound: kept in this browser."""
    answer = RedirectResponse(local_path(back), 303)
    for name, value in (("language", language), ("theme", theme), ("keys", keys), ("sound", sound)):
        if value is not None:
            answer.set_cookie(
                f"console_{name}",
                value,
                max_age=YEAR_SECONDS,
                path="/",
                secure=visit.deps.is_secure,
                httponly=True,
                samesite="lax",
            )
    return answer


@router.get("/static/{version}/{name}")
@access(Access.PUBLIC)
async def static_file(request: Request, visit: Visiting, version: str, name: str) -> Response:
    """Scripts and styles of this version; kept by browsers for a year."""
    static = visit.deps.static
    file = static.files.get(name)
    if file is None or version != static.version:
        return Response(status_code=404)
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(file.compressed, headers=headers, media_type=file.content_type)
    return Response(file.content, headers=headers, media_type=file.content_type)
