"""Zalo's API over HTTP: consultation messages, anonymous replies, uploads, OAuth.

Nothing here tries anything again: the client reports what a call came to, and `domain/next_step.py` decides. A POST
has no idempotency key at Zalo, so a second request is a second message.

Source: reference of the OA Open API v3 (message/cs, upload) and OAuth v4.
"""

import hashlib
import hmac
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import orjson

from services.notifier.adapters.bulk_http import Answer, BulkConnections, NoAnswer, NotWritten, Outcome
from services.notifier.domain.broadcast import ArticleContent
from services.notifier.domain.outcomes import (
    Accepted,
    Got,
    ListedMessage,
    NotSent,
    RefreshOutcome,
    RefreshRefused,
    Refused,
    SendOutcome,
    Statistics,
    TokensGranted,
    Unknown,
    Uploaded,
    UploadOutcome,
)
from services.notifier.domain.rules import ErrorTable
from shared.events import ReplyContent
from shared.zalo_config import ZaloApp, ZaloConfig

MESSAGE_PATH = "/v3.0/oa/message/cs"
ANONYMOUS_PATH = "/v2.0/oa/message"
UPLOAD_PATH = "/v2.0/oa/upload/"
CONVERSATION_PATH = "/v2.0/oa/conversation"
ARTICLE_PATH = "/v2.0/article/"
TOKEN_PATH = "/v4/oa/access_token"  # noqa: S105 - a path

MAX_ANSWER_BYTES = 65_536
ARTICLES_A_CALL = 10
"""More than ten are refused."""
ARTICLES_LOOKED_AT = 100
MESSAGES_A_CALL = 10
MAX_RETRY_AFTER_SECONDS = 600.0
KEEP_ALIVE_SECONDS = 3.0
"""Shorter than any server's own limit: a connection that the server is just closing makes an unknown outcome."""

# -14014 invalid, -14020 expired refresh token: worth nothing any more. Other OAuth codes leave it as it was.
FINAL_REFRESH_CODES = frozenset({-14014, -14020})


def message_body(
    content: ReplyContent, *, user_id: str, conversation_id: str | None = None
) -> dict[str, dict[str, Any]]:
    """The JSON body of a consultation message, exactly as Zalo documents it.

    Args:
        content: NFC, checked by `domain/permission.py`.
        user_id: of the citizen as the page sees them; the anonymous id for an anonymous visitor.
        conversation_id: set for an anonymous visitor.
    """
    recipient = {"user_id": user_id}
    if conversation_id is not None:
        recipient = {"anonymous_id": user_id, "conversation_id": conversation_id}
    message: dict[str, Any] = {}
    if content.text:
        message["text"] = content.text
    if content.quote_message_id is not None:
        message["quote_message_id"] = content.quote_message_id
    if (attachment := _attachment(content)) is not None:
        message["attachment"] = attachment
    return {"recipient": recipient, "message": message}


def _attachment(content: ReplyContent) -> dict[str, Any] | None:
    if content.image_attachment_id is not None or content.image_url is not None:
        element: dict[str, Any] = {"media_type": "image"}
        if content.image_attachment_id is not None:
            element["attachment_id"] = content.image_attachment_id
        else:
            element["url"] = content.image_url
        return {"type": "template", "payload": {"template_type": "media", "elements": [element]}}
    if content.file_token is not None:
        return {"type": "file", "payload": {"token": content.file_token}}
    if content.request_info is not None:
        title, subtitle, image_url = content.request_info
        element = {"title": title, "subtitle": subtitle, "image_url": image_url}
        return {"type": "template", "payload": {"template_type": "request_user_info", "elements": [element]}}
    if content.buttons:
        buttons = [
            {"title": button.title, "type": button.type, "payload": _button_payload(button.type, button.payload)}
            for button in content.buttons
        ]
        return {"type": "template", "payload": {"buttons": buttons}}
    return None


def _button_payload(kind: str, payload: str) -> str | dict[str, str]:
    """The payload as its type wants it: a query is a plain string, the others are objects."""
    match kind:
        case "oa.open.url":
            return {"url": payload}
        case "oa.open.phone":
            return {"phone_code": payload}
        case "oa.open.sms":
            phone_code, _, content = payload.partition("|")
            return {"phone_code": phone_code, "content": content}
        case _:
            return payload


def article_body(content: ArticleContent) -> dict[str, Any]:
    """The JSON body of an article as Zalo documents it; without `status` it would stay hidden."""
    return {
        "type": "normal",
        "title": unicodedata.normalize("NFC", content.title),
        "author": unicodedata.normalize("NFC", content.author),
        "description": unicodedata.normalize("NFC", content.description),
        "cover": {"cover_type": "photo", "photo_url": content.cover_url, "status": "show"},
        "body": [
            {"type": "text", "content": unicodedata.normalize("NFC", part.content)}
            if part.type == "text"
            else {"type": "image", "url": part.content}
            for part in content.body
        ],
        "status": "show",
        "comment": "hide",
    }


def broadcast_body(article_id: str, target: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The JSON body that shows an article to followers; codes as text, the form that the official pages show."""
    wanted = {name: ",".join(map(str, codes)) for name, codes in target.items()} or {"gender": "0"}
    element = {"media_type": "article", "attachment_id": article_id}
    payload = {"template_type": "media", "elements": [element]}
    return {
        "recipient": {"target": wanted},
        "message": {"attachment": {"type": "template", "payload": payload}},
    }


def _got(answer: dict[str, Any] | Refused | NotSent | Unknown, name: str) -> Got | Refused | NotSent | Unknown:
    match answer:
        case {"data": dict(data)} if isinstance(data.get(name), str) and data[name]:
            return Got(data[name])
        case dict():
            return Unknown("zalo.answer_malformed", f"no {name}")
        case _:
            return answer


def secret_proof(access_token: str, app: ZaloApp) -> str:
    """The `appsecret_proof` header: HMAC-SHA256 of the access token, keyed with the app secret."""
    secret = app.app_secret.get_secret_value().encode()
    return hmac.new(secret, access_token.encode(), hashlib.sha256).hexdigest()


def request_head(url: str, path: str, app: ZaloApp, access_token: str) -> bytes:
    """The bytes of a JSON request of `bulk_http`, up to the number of its body's bytes.

    Args:
        url: of the API.
        path: of the call.
        app: in whose name it is made.
        access_token: of the page.
    """
    if not (access_token.isascii() and access_token.isprintable()):
        raise ValueError("an access token with characters that no header can hold")
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path.rstrip('/')}{path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"access_token: {access_token}",
        "Content-Type: application/json",
    ]
    if app.requires_secret_proof:
        lines.append(f"appsecret_proof: {secret_proof(access_token, app)}")
    return "\r\n".join([*lines, "Content-Length: "]).encode("ascii")


def whole_request(head: bytes, body: bytes) -> bytes:
    """A request as it goes out."""
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)


def read_outcome(errors: ErrorTable, outcome: Outcome) -> SendOutcome:
    """What a message call over `bulk_http` came to."""
    match outcome:
        case NotWritten(why):
            return NotSent(why)
        case NoAnswer(why):
            return Unknown("zalo.answer_lost", why)
        case Answer(status, headers, body):
            content = read_answer(errors, status, headers, json_object(body))
            return accepted(content) if isinstance(content, dict) else content


class ZaloClient(AbstractAsyncContextManager["ZaloClient", None]):
    """Calls Zalo once and says what it came to.

    Args:
        config: the addresses and apps.
        errors: what the codes mean.
        timeout_seconds: of a whole call.
        connect_timeout_seconds: of its connection.
        connections: the most at once.
    """

    def __init__(
        self,
        config: ZaloConfig,
        errors: ErrorTable,
        *,
        timeout_seconds: float,
        connect_timeout_seconds: float,
        connections: int,
    ) -> None:
        self._config = config
        self._errors = errors
        self._timeout_seconds = timeout_seconds
        self._messages = BulkConnections(
            config.oa_api_url,
            connections=connections,
            connect_timeout_seconds=connect_timeout_seconds,
            idle_seconds=KEEP_ALIVE_SECONDS,
        )
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=connect_timeout_seconds)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_written)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE_SECONDS),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._messages.close()
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        content: ReplyContent,
        *,
        app_id: str,
        user_id: str,
        access_token: str,
        conversation_id: str | None = None,
    ) -> SendOutcome:
        """Send one consultation message, or the answer to an anonymous visitor."""
        path = MESSAGE_PATH if conversation_id is None else ANONYMOUS_PATH
        body = message_body(content, user_id=user_id, conversation_id=conversation_id)
        head = request_head(self._config.oa_api_url, path, self._app(app_id), access_token)
        request = whole_request(head, orjson.dumps(body))
        (outcome,) = await self._messages.post([request], timeout_seconds=self._timeout_seconds)
        return read_outcome(self._errors, outcome)

    async def upload(
        self, kind: str, data: bytes, *, filename: str, mime_type: str, app_id: str, access_token: str
    ) -> UploadOutcome:
        """Upload a picture (`image`, at most 1 MB of jpg or png) or a `file`; Zalo keeps it for seven days."""
        form = aiohttp.FormData()
        form.add_field("file", data, filename=filename, content_type=mime_type)
        answer = await self._post(
            self._config.upload_url + UPLOAD_PATH + kind, headers=self._headers(app_id, access_token), data=form
        )
        match answer:
            case {"data": {"attachment_id": str(handle)}} | {"data": {"token": str(handle)}}:
                return Uploaded(handle)
            case dict():
                return Unknown("zalo.answer_malformed", "neither attachment_id nor token")
            case _:
                return answer

    async def create_article(
        self, content: ArticleContent, *, app_id: str, access_token: str
    ) -> Got | Refused | NotSent | Unknown:
        """Ask Zalo to make an article; answers the token that `verify_article` trades for its id."""
        answer = await self._post_json(ARTICLE_PATH + "create", article_body(content), app_id, access_token)
        return _got(answer, "token")

    async def verify_article(self, token: str, *, app_id: str, access_token: str) -> Got | Refused | NotSent | Unknown:
        """Ask for the id of an article that was created; safe to repeat."""
        answer = await self._post_json(ARTICLE_PATH + "verify", {"token": token}, app_id, access_token)
        return _got(answer, "id")

    async def broadcast_article(
        self, article_id: str, target: Mapping[str, Sequence[int]], *, app_id: str, access_token: str
    ) -> SendOutcome:
        """Show an article to all followers of the page whom the target means."""
        answer = await self._post_json(ANONYMOUS_PATH, broadcast_body(article_id, target), app_id, access_token)
        return accepted(answer) if isinstance(answer, dict) else answer

    async def article_statistics(self, article_id: str, *, app_id: str, access_token: str) -> Statistics | None:
        """Views and shares of one of the newest articles of a page; None where Zalo does not tell."""
        for offset in range(0, ARTICLES_LOOKED_AT, ARTICLES_A_CALL):
            query = {"offset": str(offset), "limit": str(ARTICLES_A_CALL), "type": "normal"}
            answer = await self._exchange(
                self._config.oa_api_url + ARTICLE_PATH + "getslice",
                method="GET",
                headers=self._headers(app_id, access_token),
                params=query,
            )
            content = answer[2] if isinstance(answer, tuple) else None
            data = (content or {}).get("data")
            medias = data.get("medias") if isinstance(data, dict) else None
            if not isinstance(medias, list) or not medias:
                return None
            for media in medias:
                if isinstance(media, dict) and media.get("id") == article_id:
                    return Statistics(as_int(media.get("total_view")) or 0, as_int(media.get("total_share")) or 0)
        return None

    async def conversation(
        self, user_id: str, *, offset: int, app_id: str, access_token: str
    ) -> list[ListedMessage] | Refused | NotSent | Unknown:
        """Ten messages that a page and a person exchanged, from the newest; fewer are the last ones."""
        wanted = {"offset": offset, "count": MESSAGES_A_CALL, "user_id": int(user_id)}
        answer = await self._exchange(
            self._config.oa_api_url + CONVERSATION_PATH,
            method="GET",
            headers=self._headers(app_id, access_token),
            params={"data": orjson.dumps(wanted).decode()},
        )
        content = read_answer(self._errors, *answer) if isinstance(answer, tuple) else answer
        if not isinstance(content, dict):
            return content
        items = content.get("data")
        messages = [_listed(item) for item in items] if isinstance(items, list) else [None]
        known = [message for message in messages if message is not None]
        if len(known) < len(messages):
            return Unknown("zalo.answer_malformed", "a message that cannot be read")
        return known

    async def _post_json(
        self, path: str, body: Mapping[str, Any], app_id: str, access_token: str
    ) -> dict[str, Any] | Refused | NotSent | Unknown:
        return await self._post(
            self._config.oa_api_url + path,
            headers=self._headers(app_id, access_token) | {"Content-Type": "application/json"},
            data=orjson.dumps(body),
        )

    async def refresh(self, *, app_id: str, refresh_token: str) -> RefreshOutcome:
        """Trade the single-use refresh token for a new pair. An unknown outcome must not be repeated blindly."""
        return await self._grant(app_id, {"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def exchange_code(self, *, app_id: str, code: str, verifier: str) -> RefreshOutcome:
        """Trade the code of an administrator's consent for a pair. The code works once."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        return await self._grant(app_id, form)

    async def _grant(self, app_id: str, form: dict[str, str]) -> RefreshOutcome:
        app = self._app(app_id)
        answer = await self._exchange(
            self._config.oauth_url + TOKEN_PATH,
            headers={"secret_key": app.app_secret.get_secret_value()},
            data={**form, "app_id": app_id},
        )
        if not isinstance(answer, tuple):
            return answer
        _, _, content = answer
        match content:
            case {"access_token": str(access_token), "refresh_token": str(new_refresh_token), **rest}:
                expires_in = as_int(rest.get("expires_in"))
                return TokensGranted(access_token, new_refresh_token, expires_in or 90_000)
            case {"error": error} if as_int(error):
                code = as_int(error) or 0
                return RefreshRefused(code, is_final=code in FINAL_REFRESH_CODES)
            case _:
                return Unknown("oauth.answer_malformed", "neither tokens nor an error code")

    def _app(self, app_id: str) -> ZaloApp:
        return next(app for app in self._config.apps if app.app_id == app_id)

    def _headers(self, app_id: str, access_token: str) -> dict[str, str]:
        app = self._app(app_id)
        headers = {"access_token": access_token}
        if app.requires_secret_proof:
            headers["appsecret_proof"] = secret_proof(access_token, app)
        return headers

    async def _post(
        self, url: str, *, headers: dict[str, str], data: bytes | aiohttp.FormData
    ) -> dict[str, Any] | Refused | NotSent | Unknown:
        """One POST; a mapping if Zalo said success."""
        answer = await self._exchange(url, headers=headers, data=data)
        if not isinstance(answer, tuple):
            return answer
        status, answer_headers, content = answer
        return read_answer(self._errors, status, answer_headers, content)

    async def _exchange(
        self,
        url: str,
        *,
        headers: dict[str, str],
        data: bytes | aiohttp.FormData | dict[str, str] | None = None,
        method: str = "POST",
        params: dict[str, str] | None = None,
    ) -> tuple[int, Any, dict[str, Any] | None] | NotSent | Unknown:
        """Status, headers and JSON object (None where there is none) of one request."""
        if self._session is None:
            return NotSent("the client is not open")
        written = SimpleNamespace(is_written=False)
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                params=params,
                allow_redirects=False,
                trace_request_ctx=written,
            ) as response:
                raw = await response.content.read(MAX_ANSWER_BYTES)
                while len(raw) < MAX_ANSWER_BYTES and (more := await response.content.read(MAX_ANSWER_BYTES)):
                    raw += more
                return response.status, response.headers, json_object(raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = type(error).__name__
            return Unknown("zalo.answer_lost", why) if written.is_written else NotSent(why)


def read_answer(
    errors: ErrorTable, status: int, headers: Any, content: dict[str, Any] | None
) -> dict[str, Any] | Refused | Unknown:
    """What an answer of Zalo's message or article API means; a mapping if it says success.

    Args:
        errors: what the codes mean.
        status: of HTTP.
        headers: of HTTP, by name in any case or lower case.
        content: the JSON object, None where there was none.
    """
    code = as_int(content.get("error")) if content is not None else None
    if content is not None and code:
        return _refused(errors, code, str(content.get("message", "")), headers)
    if status != 200:
        rule = errors.http_statuses.get(status)
        if rule is None:
            return Unknown("zalo.http_error", f"HTTP {status}")
        return Refused(status, rule, retry_after_seconds=_retry_after(headers))
    if content is None or code is None:
        return Unknown("zalo.answer_malformed", "HTTP 200 without an error number")
    return content


def _refused(errors: ErrorTable, code: int, text: str, headers: Any) -> Refused | Unknown:
    rule = errors.rule_of(code, text)
    if rule is None:
        return Unknown("zalo.unknown_code", f"error {code}")
    return Refused(
        code,
        rule,
        is_page_limit=" oa " in f" {text.lower()} " or "official account" in text.lower(),
        retry_after_seconds=_retry_after(headers),
    )


def accepted(answer: dict[str, Any]) -> Accepted:
    """The message id of an answer that says success, and what paid for the message."""
    data = answer.get("data")
    if not isinstance(data, dict):
        return Accepted(None)
    message_id = data.get("message_id") or data.get("msg_id")  # the business host's name
    quota = data.get("quota")
    quota_type = quota.get("quota_type") if isinstance(quota, dict) else None
    return Accepted(
        message_id if isinstance(message_id, str) and message_id else None,
        quota_type if isinstance(quota_type, str) else None,
    )


def _listed(item: Any) -> ListedMessage | None:
    match item:
        case {"src": 0 | 1 as source, "message_id": str(message_id)}:
            text, at_ms = item.get("message"), as_int(item.get("time"))
            if at_ms is None:
                return None
            text = unicodedata.normalize("NFC", text) if isinstance(text, str) else ""
            return ListedMessage(message_id, text, source == 0, datetime.fromtimestamp(at_ms / 1_000, UTC))
        case _:
            return None


async def _note_written(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    """Note what aiohttp tells just before the first byte goes out: without it nothing can have been taken."""
    context.trace_request_ctx.is_written = True


def json_object(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in some bytes; None where there is none."""
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def as_int(value: Any) -> int | None:
    """A number that may be a string, as in Zalo's answers; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _retry_after(headers: Any) -> float | None:
    try:
        seconds = float(headers.get("Retry-After") or headers.get("retry-after") or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
