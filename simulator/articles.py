"""Articles: made in two steps, as Zalo does it: a call answers a token, and the token becomes an article later."""

from __future__ import annotations

import html
import secrets
from typing import Any

from simulator.answers import Answer, as_object, number, success, words
from simulator.core import Simulator
from simulator.errors import ZaloRefusal
from simulator.limits import local_day
from simulator.messages import text_length
from simulator.uploads import MEGABYTE, sniff_extension
from simulator.world import Article, Page, PendingArticle, Video

TITLE_CHARACTERS = 150  # observed on live pages: a text of exactly this length is refused
DESCRIPTION_CHARACTERS = 300  # likewise
AUTHOR_MAX_CHARACTERS = 50
SLICE_MAX_LIMIT = 10
VIDEO_MAX_BYTES = 50 * MEGABYTE
_BODY_TYPES = frozenset({"text", "image", "video", "product"})


def create(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v2.0/article/create: a token that `verify` exchanges for an id after some seconds.

    Raises:
        ZaloRefusal: -223 when the package's articles of this month are used up; -201 and -210 for what is wrong.
    """
    fields, today = _read(page, body), local_day(simulator.clock.now())
    allowed = page.package.articles_a_month
    if allowed and page.articles_made.read(today)[1] >= allowed:
        raise ZaloRefusal(-223, text="Official Account has reached article quota")
    page.articles_made.count(today)
    return _accept(simulator, page, fields, article_id="")


def update(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v2.0/article/update: the whole article again; the old one is shown until the token is verified."""
    fields = _read(page, body)
    return _accept(simulator, page, fields, article_id=_existing(page, as_object(body).get("id")).article_id)


def verify(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v2.0/article/verify.

    Raises:
        ZaloRefusal: -214 while Zalo works on it, -200 when its cover cannot be used.
    """
    token = words(as_object(body), "token")
    pending = page.pending_articles.get(token)
    if pending is None:
        raise ZaloRefusal(-201, field="token")
    now = simulator.clock.now_ms()
    if now < pending.ready_ms:
        raise ZaloRefusal(-214)
    if pending.article_id in page.articles or pending.done:
        return _verified(page, pending, now)
    if _cover_is_too_large(simulator, pending.fields):
        raise ZaloRefusal(-200, text="Upload media failed")
    return _verified(page, pending, now)


def detail(page: Page, query: dict[str, str]) -> Answer:
    """GET /v2.0/article/getdetail?id=."""
    article = _existing(page, query.get("id"))
    return success({"id": article.article_id, **article.fields})


def slice_of(simulator: Simulator, page: Page, query: dict[str, str]) -> Answer:
    """GET /v2.0/article/getslice?offset=&limit=&type=, newest first."""
    kind = query.get("type")
    if kind not in {"normal", "video"}:
        raise ZaloRefusal(-201, text="type accept only 2 value normal and video.")
    limit = number(dict(query), "limit", SLICE_MAX_LIMIT, 1_000_000)
    if limit > SLICE_MAX_LIMIT:
        raise ZaloRefusal(-201, text="maximum limit is 10")
    offset = number(dict(query), "offset", 0, 1_000_000)
    found = [article for article in reversed(page.articles.values()) if article.fields["type"] == kind]
    return success(
        {
            "medias": [_summary(simulator, article) for article in found[offset : offset + limit]],
            "total": len(found),
        }
    )


def remove(page: Page, body: Any) -> Answer:
    """POST /v2.0/article/remove {id}."""
    article = _existing(page, as_object(body).get("id"))
    del page.articles[article.article_id]
    return success()


def prepare_video(simulator: Simulator, page: Page, file: tuple[str, bytes] | None) -> Answer:
    """POST /v2.0/article/upload_video/preparevideo: avi or mp4, converted after some seconds."""
    if file is None:
        raise ZaloRefusal(-201, field="file")
    _name, content = file
    is_avi = content[:4] == b"RIFF" and content[8:12] == b"AVI "
    if not is_avi and sniff_extension(content) != "mp4":
        raise ZaloRefusal(-201, field="file")
    if len(content) > VIDEO_MAX_BYTES:
        raise ZaloRefusal(-210)
    token = secrets.token_urlsafe(24)
    page.videos[token] = Video(secrets.token_hex(10), _ready_ms(simulator))
    return success({"token": token})


def verify_video(simulator: Simulator, page: Page, token: str) -> Answer:
    """GET /v2.0/article/upload_video/verify?token=: status 3 while it converts, 1 when it can be used."""
    video = page.videos.get(token)
    if video is None:
        raise ZaloRefusal(-201, field="token")
    ready = simulator.clock.now_ms() >= video.ready_ms
    return success(
        {
            "status": 1 if ready else 3,
            "status_message": "ready" if ready else "converting",
            "convert_percent": 100 if ready else 50,
            "convert_error_code": 0,
            "video_id": video.video_id if ready else "",
            "video_name": "",
            "video_size": 0,
        }
    )


def link_to(simulator: Simulator, article: Article) -> str:
    """Where people read an article."""
    return f"{simulator.public_url}/articles/{article.article_id}"


def thumbnail_of(article: Article) -> str:
    """The picture beside an article in a list."""
    fields = article.fields
    return str(fields.get("avatar") or (fields.get("cover") or {}).get("photo_url") or "")


def render(article: Article) -> str:
    """The article as a page for people: texts and pictures in their order."""
    title = html.escape(article.fields["title"])
    parts = [f"<h1>{title}</h1>", f"<p><b>{html.escape(article.fields['description'])}</b></p>"]
    for part in article.fields.get("body", []):
        if part["type"] == "text":
            parts.append(f"<p>{html.escape(str(part.get('content', '')))}</p>")
        elif part["type"] == "image":
            parts.append(f'<img alt="" style="max-width:100%" src="{html.escape(str(part.get("url", "")))}">')
    viewport = '<meta name="viewport" content="width=device-width">'
    return (
        f'<!doctype html><html lang="vi"><head><meta charset="utf-8">{viewport}<title>{title}</title></head>'
        f"<body>{''.join(parts)}</body></html>"
    )


def _accept(simulator: Simulator, page: Page, fields: dict[str, Any], *, article_id: str) -> Answer:
    token = secrets.token_urlsafe(24)
    page.pending_articles[token] = PendingArticle(article_id, _ready_ms(simulator), fields)
    return success({"token": token})


def _ready_ms(simulator: Simulator) -> int:
    return simulator.clock.now_ms() + int(simulator.settings.article_seconds * 1000)


def _verified(page: Page, pending: PendingArticle, now_ms: int) -> Answer:
    """Publish what a token stands for, once; asking again answers the same id."""
    if not pending.done:
        pending.done = True
        pending.article_id = pending.article_id or secrets.token_hex(10)
        article = page.articles.get(pending.article_id)
        if article is None:
            page.articles[pending.article_id] = Article(pending.article_id, pending.fields, now_ms, now_ms)
        else:
            article.fields, article.updated_ms = pending.fields, now_ms
    return success({"id": pending.article_id})


def _existing(page: Page, article_id: Any) -> Article:
    article = page.articles.get(article_id) if isinstance(article_id, str) else None
    if article is None:
        raise ZaloRefusal(-201, field="id")
    return article


def _read(page: Page, body: Any) -> dict[str, Any]:
    """The checked members of a request to create or update."""
    body = as_object(body)
    kind = body.get("type")
    if kind not in {"normal", "video"}:
        raise ZaloRefusal(-201, field="type")
    fields: dict[str, Any] = {
        "type": kind,
        "title": _bounded(body, "title", TITLE_CHARACTERS - 1),
        "description": _bounded(body, "description", DESCRIPTION_CHARACTERS - 1),
        "status": _switch(body, "status", "hide"),
        "comment": _switch(body, "comment", "show"),
    }
    if kind == "video":
        return fields | _video(page, body)
    return fields | {
        "author": _bounded(body, "author", AUTHOR_MAX_CHARACTERS),
        "cover": _cover(body),
        "body": _parts(body),
    }


def _bounded(body: dict[str, Any], name: str, maximum: int) -> str:
    text = words(body, name)
    if text_length(text) > maximum:
        raise ZaloRefusal(-210)
    return text


def _switch(body: dict[str, Any], name: str, default: str) -> str:
    value = body.get(name, default)
    if value not in {"show", "hide"}:
        raise ZaloRefusal(-201, field=name)
    return str(value)


def _video(page: Page, body: dict[str, Any]) -> dict[str, Any]:
    video_id = words(body, "video_id")
    if all(video.video_id != video_id for video in page.videos.values()):
        raise ZaloRefusal(-201, field="video_id")
    return {"video_id": video_id, "avatar": _picture(body, "avatar")}


def _cover(body: dict[str, Any]) -> dict[str, Any]:
    cover = body.get("cover")
    if not isinstance(cover, dict):
        raise ZaloRefusal(-201, field="cover")
    status = _switch(cover, "status", "show")
    match cover.get("cover_type"):
        case "photo":
            return {"cover_type": "photo", "photo_url": _picture(cover, "photo_url"), "status": status}
        case "video":
            return {"cover_type": "video", "video_id": words(cover, "video_id"), "status": status}
        case _:
            raise ZaloRefusal(-201, field="cover_type")


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    parts = body.get("body")
    if not isinstance(parts, list) or not parts:
        raise ZaloRefusal(-201, field="body")
    for part in parts:
        if not isinstance(part, dict) or part.get("type") not in _BODY_TYPES:
            raise ZaloRefusal(-201, field="body.type")
        if part["type"] == "text":
            words(part, "content")
        elif part["type"] == "image":
            _picture(part, "url")
    return [dict(part) for part in parts]


def _picture(holder: dict[str, Any], name: str) -> str:
    """An address that Zalo can fetch: spaces and Vietnamese letters must be percent-encoded."""
    url = words(holder, name)
    if not url.startswith(("https://", "http://")) or not url.isascii() or " " in url:
        raise ZaloRefusal(-201, field=name)
    return url


def _cover_is_too_large(simulator: Simulator, fields: dict[str, Any]) -> bool:
    """Only pictures that lie here can be weighed; others are taken as they are."""
    url = (fields.get("cover") or {}).get("photo_url", "")
    path = simulator.media.path_of(url.removeprefix(simulator.media_url)) if url else None
    return path is not None and path.stat().st_size >= MEGABYTE


def _summary(simulator: Simulator, article: Article) -> dict[str, Any]:
    return {
        "id": article.article_id,
        "type": article.fields["type"],
        "title": article.fields["title"],
        "status": article.fields["status"],
        "total_view": article.views,
        "total_share": 0,
        "create_date": article.created_ms,
        "update_date": article.updated_ms,
        "thumb": thumbnail_of(article),
        "link_view": link_to(simulator, article),
    }
