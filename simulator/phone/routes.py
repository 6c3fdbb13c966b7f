"""HTTP edge of the pages: the phone, several phones on one screen, the operator's panel, files, and the streams."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml
from fastapi import APIRouter, FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from simulator import articles
from simulator.control import page_of, simulator_of
from simulator.core import Simulator
from simulator.phone.texts import COOKIE, chosen, words_in
from simulator.uploads import CONTENT_TYPES, PHONE_KINDS, PHONE_MEDIA_MAX_BYTES, phone_file
from simulator.world import PAGE_STATES, Contact, Page

_HERE = Path(__file__).parent
_HEARTBEAT_SECONDS = 15.0
_SNAPSHOT_ITEMS = 300
_YEAR_SECONDS = 365 * 86_400

# The moods of the operator's panel in their order: what they act on, and what they need beside their name.
MOODS: dict[str, dict[str, dict[str, Any]]] = {
    "api": {
        "slow": {"seconds": 3},
        "reply_lost": {},
        "rate_limited": {},
        "http_429": {},
        "refuse": {},
        "token_revoked": {},
        "page_disabled": {},
    },
    "webhook": {
        "webhook_duplicate": {},
        "webhook_late": {"seconds": 5},
        "webhook_reordered": {"seconds": 5},
        "webhook_silent": {},
    },
}

router = APIRouter(include_in_schema=False)
templates = Jinja2Templates(_HERE / "templates")

# Pictures may come from wherever a page keeps them; everything else comes from here.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; manifest-src 'self'; "
        "img-src 'self' blob: https: http:; media-src 'self' https: http:; base-uri 'none'; form-action 'self'; "
        "frame-src 'self'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "geolocation=(self), camera=(), microphone=()",
    "Cache-Control": "no-store",
}
ARTICLE_HEADERS = PAGE_HEADERS | {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' https: http:; style-src 'unsafe-inline'",
}
MEDIA_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, max-age=86400",
}


def install(app: FastAPI) -> None:
    """Add the phone page to the application."""
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))


@cache
def _offers() -> dict[str, Any]:
    """Suggestions, emergency numbers and places of the page."""
    return dict(yaml.safe_load((_HERE.parent / "data" / "phone.yaml").read_text(encoding="utf-8")))


def _page(request: Request, template: str, lang: str | None, **values: Any) -> HTMLResponse:
    """A page in the language asked for, which the browser remembers."""
    language = chosen(lang, request.cookies.get(COOKIE))
    headers = PAGE_HEADERS | values.pop("headers", {})
    answer = templates.TemplateResponse(request, template, {"t": words_in(language)} | values, headers=headers)
    if lang is not None:
        answer.set_cookie(COOKIE, language, max_age=_YEAR_SECONDS, samesite="lax", httponly=True)
    return answer


@router.get("/")
async def phone(request: Request, lang: str | None = None) -> HTMLResponse:
    """The phone page."""
    return _page(request, "phone.html.j2", lang, phone=_offers())


@router.get("/phones")
async def phones(request: Request, lang: str | None = None) -> HTMLResponse:
    """Several phones on one screen, with the operator's panel beside them."""
    return _page(request, "phones.html.j2", lang)


@router.get("/operator")
async def operator(request: Request, lang: str | None = None) -> HTMLResponse:
    """The operator's panel: moods, states of pages, the clock, webhooks, the log."""
    pages = [
        (page.config.page, page.config.name or page.config.page) for page in simulator_of(request).world.pages.values()
    ]
    return _page(request, "operator.html.j2", lang, pages=pages, states=list(PAGE_STATES), moods=MOODS)


@router.get("/phone/pages")
async def list_pages(request: Request, citizen: str = "") -> list[dict[str, Any]]:
    """The pages a person can write to, with what was said last."""
    simulator = simulator_of(request)
    return [_row(page, simulator.world.known(page, citizen)) for page in simulator.world.pages.values()]


def _row(page: Page, contact: Contact | None) -> dict[str, Any]:
    items = [item for item in contact.conversation.items if not item.hidden] if contact else []
    return {
        "page": page.config.page,
        "oa_id": page.oa_id,
        "name": page.config.name or page.config.page,
        "follows": bool(contact and contact.follows),
        "last": items[-1].public() if items else None,
        "unread": sum(item.direction == "out" and item.state != "seen" for item in items),
    }


@router.post("/phone/media")
async def upload(request: Request, file: UploadFile) -> dict[str, Any]:
    """Keep a picture or a file that a person is about to send; answers the attachment it becomes."""
    simulator = simulator_of(request)
    content = await file.read(PHONE_MEDIA_MAX_BYTES + 1)
    if len(content) > PHONE_MEDIA_MAX_BYTES:
        raise HTTPException(413, "too large")
    extension = phone_file(file.filename or "", content)
    if extension not in PHONE_KINDS:
        raise HTTPException(415, "not a file that Zalo takes")
    url = f"{simulator.public_url}/media/{simulator.media.store_media(content, extension)}"
    match kind := PHONE_KINDS[extension]:
        case "file":
            payload = {
                "url": url,
                "size": str(len(content)),
                "name": (file.filename or f"tep.{extension}")[:200],
                "checksum": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                "type": extension,
            }
        case "audio":
            payload = {"url": url}
        case "video":
            payload = {"url": url, "thumbnail": "", "description": file.filename or ""}
        case _:
            payload = {"url": url, "thumbnail": url}
    return {"type": kind, "payload": payload}


@router.get("/articles/{article_id}")
async def read_article(article_id: str, request: Request) -> HTMLResponse:
    """An article as people read it; every reading counts."""
    for page in simulator_of(request).world.pages.values():
        if article := page.articles.get(article_id):
            article.views += 1
            return HTMLResponse(articles.render(article), headers=ARTICLE_HEADERS)
    raise HTTPException(404)


@router.get("/media/{name}")
async def media(name: str, request: Request) -> Response:
    """A stored file."""
    path = simulator_of(request).media.path_of(name)
    if path is None:
        raise HTTPException(404)
    return FileResponse(path, media_type=CONTENT_TYPES[path.suffix[1:]], headers=MEDIA_HEADERS)


@router.get("/phone/stream")
async def stream(request: Request, page: str, citizen: str) -> StreamingResponse:
    """Server-sent events of one conversation: a snapshot first, then every new or changed message."""
    simulator = simulator_of(request)
    contact = simulator.world.contact(page_of(simulator, page), citizen)
    conversation = contact.conversation

    async def feed() -> AsyncIterator[bytes]:
        with conversation.watch() as changes:
            items = [item.public() for item in conversation.items[-_SNAPSHOT_ITEMS:]]
            snapshot = {
                "items": items,
                "user_id": contact.user_id,
                "follows": contact.follows,
                "chatted": bool(contact.last_interaction_ms),
            }
            yield b"retry: 1500\nevent: snapshot\ndata: " + orjson.dumps(snapshot) + b"\n\n"
            async for change in _until_closing(simulator, changes):
                yield (
                    b": still here\n\n"
                    if change is None
                    else b"event: item\ndata: " + orjson.dumps(change.public()) + b"\n\n"
                )

    return StreamingResponse(feed(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _until_closing(simulator: Simulator, changes: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """Items of a queue, None as a heartbeat when it is quiet; ends when the process is asked to stop."""
    closing = asyncio.create_task(simulator.closing.wait())
    getting = asyncio.create_task(changes.get())
    try:
        while True:
            done, _ = await asyncio.wait(
                {getting, closing}, timeout=_HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if closing in done:
                return
            if getting in done:
                yield getting.result()
                getting = asyncio.create_task(changes.get())
            else:
                yield None
    finally:
        closing.cancel()
        getting.cancel()


@router.get("/v4/oa/permission")
async def permission(
    request: Request,
    app_id: str = "",
    redirect_uri: str = "",
    code_challenge: str = "",
    state: str = "",
    lang: str | None = None,
) -> HTMLResponse:
    """The consent page that an administrator of a page sees."""
    simulator = simulator_of(request)
    app = simulator.world.apps.get(app_id)
    problem = 0
    if app is None:
        problem = -14002
    elif not redirect_uri.startswith(("http://", "https://")):
        problem = -14003
    pages = [page for page in simulator.world.pages.values() if app is not None and page.app is app]
    return _page(
        request,
        "permission.html.j2",
        lang,
        problem=problem,
        pages=pages,
        app_id=app_id,
        redirect_uri=redirect_uri,
        code_challenge=code_challenge,
        state=state,
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
        },
    )


@router.post("/v4/oa/permission")
async def grant(request: Request) -> Response:
    """The administrator agreed: send the browser back with a code."""
    simulator = simulator_of(request)
    form = {key: str(value) for key, value in (await request.form()).items()}
    page = page_of(simulator, form.get("oa_id", ""))
    redirect_uri = form.get("redirect_uri", "")
    if page.app.app_id != form.get("app_id") or not redirect_uri.startswith(("http://", "https://")):
        raise HTTPException(400, "the request does not belong to this app")
    address = simulator.tokens.consent(page, redirect_uri, form.get("code_challenge", ""), form.get("state", ""))
    return RedirectResponse(address, 302)
