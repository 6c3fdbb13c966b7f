"""Zalo's own HTTP edge: one table of paths, plain ASGI for speed, errors with HTTP 200 as the real one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import orjson
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from simulator import articles, broadcasts, fields, messages, tags, templates, users
from simulator.clock import iso
from simulator.core import Simulator, conversation_id_of
from simulator.errors import OAuthRefusal, ZaloRefusal
from simulator.limits import local_day
from simulator.moods import Mood
from simulator.server import cut_connection
from simulator.uploads import UploadKind
from simulator.world import PAGE_STATES, Page

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_VIDEO_BODY_BYTES = articles.VIDEO_MAX_BYTES + 1024 * 1024

OAUTH_PATH = "/v4/oa/access_token"
BUSINESS_PATH = "/message/template"
VIDEO_PATH = "/v2.0/article/upload_video/preparevideo"
_ANONYMOUS_KINDS = frozenset({"oa_send_text", "oa_send_image", "oa_send_file", "oa_send_sticker"})
_NO_LIMITS: tuple[bytes, bytes] = (b"", b"")

Answer = dict[str, Any]


@dataclass(slots=True)
class Call:
    """One API call: what was asked, what struck it, and what the log will say about it."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    query: dict[str, str]
    body: bytes = b""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    caller: Page | None = None
    limits: tuple[bytes, bytes] = _NO_LIMITS
    moods: list[Mood] = field(default_factory=list)
    user_id: str = ""
    text: str = ""
    message_id: str = ""
    applied: bool = False

    @property
    def page(self) -> Page:
        """The page whose token came with the call.

        Raises:
            ZaloRefusal: -216 when there was none.
        """
        if self.caller is None:
            raise ZaloRefusal(-216)
        return self.caller

    def json(self) -> Any:
        """The JSON body.

        Raises:
            ZaloRefusal: -201 when it is none.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ZaloRefusal(-201, field="body") from error

    def data(self) -> dict[str, Any]:
        """The JSON object in the query parameter `data` of GET calls.

        Raises:
            ZaloRefusal: -201 when it is none.
        """
        try:
            value = orjson.loads(self.query.get("data") or "{}")
        except orjson.JSONDecodeError as error:
            raise ZaloRefusal(-201, field="data") from error
        if not isinstance(value, dict):
            raise ZaloRefusal(-201, field="data")
        return value


Endpoint = Callable[[Call], Answer]


class ZaloApi:
    """An ASGI callable for the paths of Zalo's hosts; `handles` says which those are."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._routes: dict[tuple[str, str], Endpoint] = {
            ("POST", "/v3.0/oa/message/cs"): self._consultation,
            ("POST", "/v2.0/oa/message"): self._message_v2,
            ("POST", "/v2.0/oa/upload/image"): lambda call: self._upload(call, "image"),
            ("POST", "/v2.0/oa/upload/gif"): lambda call: self._upload(call, "gif"),
            ("POST", "/v2.0/oa/upload/file"): lambda call: self._upload(call, "file"),
            ("GET", "/v3.0/oa/user/detail"): lambda call: users.detail(simulator, call.page, call.data()),
            ("GET", "/v3.0/oa/user/getlist"): lambda call: users.getlist(simulator, call.page, call.data()),
            ("GET", "/v2.0/oa/getoa"): lambda call: users.getoa(simulator, call.page),
            ("POST", "/v3.0/oa/quota/message"): lambda call: users.quota(simulator, call.page, call.json()),
            ("POST", "/v2.0/oa/quota/message"): lambda call: users.quota_v2(simulator, call.page, call.json()),
            ("GET", "/v2.0/oa/listrecentchat"): lambda call: users.recent_chats(simulator, call.page, call.data()),
            ("GET", "/v2.0/oa/conversation"): lambda call: users.conversation(simulator, call.page, call.data()),
            ("POST", "/v3.0/oa/message/template"): self._template,
            # Clients in the wild ask both ways.
            ("GET", "/v3.0/oa/message/status"): lambda call: users.message_status(call.page, call.data()),
            ("POST", "/v3.0/oa/message/status"): lambda call: users.message_status(call.page, call.json()),
            # Not provided since 2026-03-01; which code Zalo answers is not published.
            ("POST", "/v3.0/oa/message/transaction"): _refuse_with(-209),
            ("POST", "/v3.0/oa/message/promotion"): _refuse_with(-209),
            # Groups need a package of their own, which no page here has.
            ("POST", "/v3.0/oa/group/message"): _refuse_with(-224),
            ("POST", BUSINESS_PATH): lambda call: _applied(
                call, templates.send_by_phone(simulator, call.page, call.json())
            ),
            **self._people_routes(),
            **self._article_routes(),
        }

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path of everything that is answered with more than -209."""
        return [*self._routes, ("POST", OAUTH_PATH)]

    def _people_routes(self) -> dict[tuple[str, str], Endpoint]:
        simulator = self._simulator
        return {
            ("POST", "/v3.0/oa/user/update"): lambda call: _applied(call, users.update(call.page, call.json())),
            ("POST", "/v2.0/oa/deletefollowerinfo"): lambda call: _applied(call, users.erase(call.page, call.json())),
            ("POST", "/v2.0/oa/tag/tagfollower"): lambda call: _applied(
                call, tags.tag_follower(simulator, call.page, call.json())
            ),
            ("POST", "/v2.0/oa/tag/rmfollowerfromtag"): lambda call: _applied(
                call, tags.remove_follower(simulator, call.page, call.json())
            ),
            ("POST", "/v2.0/oa/tag/rmtag"): lambda call: _applied(
                call, tags.remove_tag(simulator, call.page, call.json())
            ),
            ("GET", "/v2.0/oa/tag/gettagsofoa"): lambda call: tags.tags_of(call.page),
            ("GET", "/v3.0/oa/user/detail/custominfo"): lambda call: fields.read_info(call.page, call.data()),
            ("POST", "/v3.0/oa/user/update/custominfo"): lambda call: _applied(
                call, fields.write_info(call.page, call.json())
            ),
            ("GET", "/v3.0/oa/userfield/get"): lambda call: fields.fields_of(call.page),
            ("POST", "/v3.0/oa/userfield/create"): lambda call: _applied(
                call, fields.create_field(call.page, call.json())
            ),
            ("POST", "/v3.0/oa/userfield/update"): lambda call: _applied(
                call, fields.update_field(call.page, call.json())
            ),
            ("POST", "/v3.0/oa/userfield/delete"): lambda call: _applied(
                call, fields.delete_field(call.page, call.json())
            ),
        }

    def _article_routes(self) -> dict[tuple[str, str], Endpoint]:
        simulator = self._simulator
        return {
            ("POST", "/v2.0/article/create"): lambda call: _applied(
                call, articles.create(simulator, call.page, call.json())
            ),
            ("POST", "/v2.0/article/verify"): lambda call: _applied(
                call, articles.verify(simulator, call.page, call.json())
            ),
            ("GET", "/v2.0/article/getdetail"): lambda call: articles.detail(call.page, call.query),
            ("GET", "/v2.0/article/getslice"): lambda call: articles.slice_of(simulator, call.page, call.query),
            ("POST", "/v2.0/article/update"): lambda call: _applied(
                call, articles.update(simulator, call.page, call.json())
            ),
            ("POST", "/v2.0/article/remove"): lambda call: _applied(call, articles.remove(call.page, call.json())),
            ("POST", VIDEO_PATH): lambda call: _applied(
                call, articles.prepare_video(simulator, call.page, call.files.get("file"))
            ),
            ("GET", "/v2.0/article/upload_video/verify"): lambda call: articles.verify_video(
                simulator, call.page, call.query.get("token", "")
            ),
        }

    def handles(self, path: str) -> bool:
        """Whether a path belongs to Zalo's API; the consent page is HTML and lives with the pages."""
        return path.startswith(("/v3.0/", "/v2.0/")) or path in {OAUTH_PATH, BUSINESS_PATH}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        started = time.perf_counter()
        query_string = scope["query_string"].decode("latin-1")
        call = Call(
            method=scope["method"],
            path=scope["path"],
            headers=dict(scope["headers"]),
            query=dict(parse_qsl(query_string)) if query_string else {},
        )
        try:
            answer = await (
                self._exchange(call, receive) if call.path == OAUTH_PATH else self._ask(call, scope, receive)
            )
            code, status = 0, 200
        except (ZaloRefusal, OAuthRefusal) as refusal:
            if call.path == BUSINESS_PATH and refusal.code in {-216, -220}:
                refusal = ZaloRefusal(-124)  # the business host has a table of its own
            code, answer = refusal.code, refusal.body()
            status = refusal.status
        self._record(call, code, answer, started)
        for mood in call.moods:
            if mood.request.mood == "slow":
                await asyncio.sleep(mood.request.seconds)
        if any(mood.request.mood == "reply_lost" for mood in call.moods):
            await cut_connection(scope, receive)
        else:
            await _respond(send, answer, call.limits, status)

    async def _ask(self, call: Call, scope: Scope, receive: Receive) -> Answer:
        """The OA API: token, limits, moods, then the endpoint."""
        if call.headers.get(b"content-type", b"").startswith(b"multipart/"):
            call.files = await _read_files(scope, receive)
        else:
            call.body = await read_body(receive)
        page = call.caller = self._authenticate(call.headers, call.query)
        self._count(call, page)
        if self._simulator.moods.active:
            call.moods = self._simulator.moods.for_call(call.path, page.oa_id)
            self._refuse_by_mood(call.moods, page)
        if code := PAGE_STATES[page.state]:
            raise ZaloRefusal(code)
        endpoint = self._routes.get((call.method, call.path))
        if endpoint is None:
            raise ZaloRefusal(-209)
        return endpoint(call)

    async def _exchange(self, call: Call, receive: Receive) -> Answer:
        """The OAuth host: a code or a refresh token for a new pair."""
        if call.method != "POST":
            raise OAuthRefusal(-14002)
        form = {key: values[-1] for key, values in parse_qs((await read_body(receive)).decode("latin-1")).items()}
        if self._simulator.moods.active:
            call.moods = self._simulator.moods.for_call(call.path, "")
            if any(mood.request.mood == "refuse" for mood in call.moods):
                raise OAuthRefusal(-14014)
        secret_key = call.headers.get(b"secret_key", b"").decode("latin-1")
        call.caller, answer = self._simulator.tokens.exchange(form, secret_key)
        call.applied = True
        return answer

    def _authenticate(self, headers: dict[bytes, bytes], query: dict[str, str]) -> Page:
        token = headers.get(b"access_token", b"").decode("latin-1") or query.get("access_token", "")
        page = self._simulator.tokens.page_of(token)
        proof = headers.get(b"appsecret_proof")
        if proof is not None or self._simulator.settings.require_appsecret_proof:
            expected = hmac.new(page.app.config.app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()
            if not hmac.compare_digest((proof or b"").lower(), expected.encode()):
                raise ZaloRefusal(-242)
        return page

    def _count(self, call: Call, page: Page) -> None:
        """Count one call in the minutes of app and page; the answer's headers tell the nearer limit, refused or not."""
        simulator, now_ms = self._simulator, self._simulator.clock.now_ms()
        of_page = page.rate_limit_per_minute
        of_page = simulator.page_rate_limit_per_minute if of_page is None else of_page
        limits = [
            (limit - minute.count(now_ms), limit, whose)
            for limit, minute, whose in (
                (simulator.rate_limit_per_minute, page.app.calls, "application"),
                (of_page, page.calls, "OA"),
            )
            if limit
        ]
        if not limits:
            return
        left, limit, whose = min(limits)
        call.limits = str(limit).encode(), str(max(0, left)).encode()
        if left < 0:
            raise ZaloRefusal(-32, text=f"Your {whose} reached limit call api")

    def _refuse_by_mood(self, moods: list[Mood], page: Page) -> None:
        for mood in moods:
            match mood.request.mood:
                case "rate_limited":
                    raise ZaloRefusal(-32)
                case "http_429":
                    raise ZaloRefusal(-32, status=429)
                case "refuse":
                    raise ZaloRefusal(mood.request.code, field="parameter")
                case "page_disabled":
                    raise ZaloRefusal(-204)
                case "token_revoked":
                    self._simulator.tokens.revoke(page)
                    raise ZaloRefusal(-220)
                case _:
                    continue

    def _consultation(self, call: Call) -> Answer:
        simulator, page = self._simulator, call.page
        now = simulator.clock.now_ms()
        body = call.json()
        _note_recipient(call, body)
        outgoing = messages.read_message(
            body,
            simulator.media.uploads.get,
            app_id=page.app.app_id,
            media_url=simulator.media_url,
            now_ms=now,
        )
        contact = page.contacts.get(outgoing.user_id)
        quota = messages.admit(contact, now)
        if contact is None:
            raise ZaloRefusal(-213)
        data = simulator.post(page, contact, outgoing, quota)
        call.message_id = data["message_id"]
        call.applied = True
        return {"data": data, "error": 0, "message": "Success"}

    def _message_v2(self, call: Call) -> Answer:
        body = call.json()
        _note_recipient(call, body)
        recipient = body.get("recipient") if isinstance(body, dict) else None
        if not isinstance(recipient, dict):
            raise ZaloRefusal(-201, field="recipient")
        action = body.get("sender_action")
        if isinstance(action, dict):
            answer = users.react(self._simulator, call.page, recipient, action)
            call.message_id = answer["data"]["message_id"]
            call.applied = True
            return answer
        if "target" in recipient:
            answer = broadcasts.broadcast(self._simulator, call.page, recipient["target"], body.get("message"))
            call.message_id = answer["data"]["message_id"]
            return _applied(call, answer)
        if "anonymous_id" in recipient:
            return self._answer_anonymously(call, recipient, body.get("message"))
        if "user_id" in recipient or "message_id" in recipient:
            raise ZaloRefusal(-240)
        raise ZaloRefusal(-209)

    def _answer_anonymously(self, call: Call, recipient: dict[str, Any], message: Any) -> Answer:
        """Text, image, file or sticker to a visitor without an account; both ids must be those of the event."""
        simulator, page = self._simulator, call.page
        contact = page.contacts.get(str(recipient["anonymous_id"]))
        if contact is None or not contact.anonymous:
            raise ZaloRefusal(-201, field="anonymous_id")
        conversation_id = conversation_id_of(contact)
        if recipient.get("conversation_id") != conversation_id:
            raise ZaloRefusal(-201, field="conversation_id")
        outgoing = messages.read_message(
            {"recipient": {"user_id": contact.user_id}, "message": message},
            simulator.media.uploads.get,
            app_id=page.app.app_id,
            media_url=simulator.media_url,
            now_ms=simulator.clock.now_ms(),
        )
        if outgoing.event_name not in _ANONYMOUS_KINDS:
            raise ZaloRefusal(-233)
        call.user_id = contact.user_id
        event_name = outgoing.event_name.replace("oa_send_", "oa_send_anonymous_")
        data = simulator.post(
            page, contact, replace(outgoing, event_name=event_name), None, conversation_id=conversation_id
        )
        call.message_id = data["message_id"]
        return _applied(call, {"data": data, "error": 0, "message": "Success"})

    def _template(self, call: Call) -> Answer:
        body = call.json()
        if isinstance(body, dict):
            call.user_id = str(body.get("user_id") or "")
        answer = templates.send_by_user_id(self._simulator, call.page, body)
        call.message_id = answer["data"]["message_id"]
        return _applied(call, answer)

    def _upload(self, call: Call, kind: UploadKind) -> Answer:
        app, today = call.page.app, local_day(self._simulator.clock.now())
        allowed = self._simulator.settings.uploads_per_month
        if allowed and app.uploads.read(today)[1] >= allowed:
            raise ZaloRefusal(-211)
        app.uploads.count(today)
        file = call.files.get("file")
        if file is None:
            raise ZaloRefusal(-201, field="file")
        name, content = file
        now = self._simulator.clock.now_ms()
        upload = self._simulator.media.store_upload(kind, app.app_id, name, content, now)
        call.applied = True
        key = "token" if kind == "file" else "attachment_id"
        return {"data": {key: upload.handle}, "error": 0, "message": "Success"}

    def _record(self, call: Call, code: int, answer: Answer, started: float) -> None:
        page = call.caller
        self._simulator.log.add(
            kind="api",
            at=iso(self._simulator.clock.now_ms()),
            method=call.method,
            path=call.path,
            app_id=page.app.app_id if page else "",
            oa_id=page.oa_id if page else "",
            user_id=call.user_id,
            text=call.text,
            error=code,
            error_message=(answer.get("message") or answer.get("error_name")) if code else "",
            message_id=call.message_id,
            applied=call.applied,
            moods=[mood.request.mood for mood in call.moods],
            ms=round((time.perf_counter() - started) * 1000, 3),
        )


def _applied(call: Call, answer: Answer) -> Answer:
    """Note for the log that a call changed something."""
    call.applied = True
    return answer


def _refuse_with(code: int) -> Endpoint:
    """An endpoint that only says no."""

    def refuse(_call: Call) -> Answer:
        raise ZaloRefusal(code)

    return refuse


def _note_recipient(call: Call, body: Any) -> None:
    """Remember for the log whom a call was about, whatever its fate."""
    if isinstance(body, dict):
        if isinstance(recipient := body.get("recipient"), dict):
            call.user_id = str(recipient.get("user_id") or "")
        if isinstance(message := body.get("message"), dict) and isinstance(message.get("text"), str):
            call.text = message["text"]


async def read_body(receive: Receive, maximum_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The request's body.

    Raises:
        ZaloRefusal: -210 when it is larger than anything Zalo accepts.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > maximum_bytes:
            raise ZaloRefusal(-210)
    return b"".join(parts)


async def _read_files(scope: Scope, receive: Receive) -> dict[str, tuple[str, bytes]]:
    """The files of a multipart body, by field name."""
    maximum_bytes = MAX_VIDEO_BODY_BYTES if scope["path"] == VIDEO_PATH else MAX_BODY_BYTES
    if int(dict(scope["headers"]).get(b"content-length", b"0")) > maximum_bytes:
        await read_body(receive, maximum_bytes)
    async with Request(scope, receive).form(max_files=4, max_fields=20) as form:
        return {
            key: (value.filename or "", await value.read())
            for key, value in form.multi_items()
            if isinstance(value, UploadFile)
        }


async def _respond(send: Send, answer: Answer, limits: tuple[bytes, bytes], status: int) -> None:
    body = orjson.dumps(answer)
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if limits[0]:
        headers += [(b"x-ratelimit-limit", limits[0]), (b"x-ratelimit-remain", limits[1])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
