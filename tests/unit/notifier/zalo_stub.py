"""A Zalo on the loopback address that does as it is told: accepts, refuses, or takes a message and loses the answer."""

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from shared.zalo_config import ZaloConfig

APP_ID, APP_SECRET = "1000000000000000001", "app-secret"
FIRST_REFRESH_TOKEN = "refresh-0"


@dataclass
class Call:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any
    is_applied: bool = False
    at: float = field(default_factory=time.time)
    message_id: str | None = None

    @property
    def user_id(self) -> str:
        recipient = self.body.get("recipient", self.body)  # a template names the person beside its values
        return str(recipient.get("user_id") or recipient.get("anonymous_id"))

    @property
    def text(self) -> str:
        return str(self.body.get("message", {}).get("text", ""))


Behaviour = Callable[["ZaloStub", Call], Any]


def accepts(stub: "ZaloStub", call: Call) -> web.Response:
    call.is_applied = True
    call.message_id = stub.next_message_id()
    return web.json_response(
        {
            "data": {"message_id": call.message_id, "user_id": call.user_id, "quota": {"quota_type": "reply"}},
            "error": 0,
            "message": "Success",
        }
    )


def loses_the_answer(stub: "ZaloStub", call: Call) -> None:
    accepts(stub, call)


def refuses(code: int, text: str = "", status: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
    def behave(_: "ZaloStub", __: Call) -> web.Response:
        return web.json_response({"error": code, "message": text}, status=status, headers=headers)

    return behave


def answers(status: int, text: str) -> Behaviour:
    return lambda _stub, _call: web.Response(status=status, text=text)


@dataclass
class ZaloStub:
    """Endpoints of Zalo with the one behaviour that tests choose, call by call."""

    pages: dict[str, str] = field(default_factory=lambda: {"4000000000000000008": "tan-chanh-hiep"})
    behaviours: deque[Behaviour] = field(default_factory=deque)
    by_user: dict[str, deque[Behaviour]] = field(default_factory=lambda: defaultdict(deque))
    usual: Behaviour = accepts
    calls: list[Call] = field(default_factory=list)
    refreshes: list[dict[str, str]] = field(default_factory=list)
    refresh_behaviours: deque[str] = field(default_factory=deque)
    checks_tokens: bool = True
    keeps_calls: bool = True
    current: dict[str, tuple[str, str]] = field(default_factory=dict)
    url: str = ""
    _numbers: int = 0
    _runner: web.AppRunner | None = None

    def next_message_id(self) -> str:
        self._numbers += 1
        return f"zalo-{self._numbers}"

    @property
    def applied(self) -> list[Call]:
        return [call for call in self.calls if call.is_applied]

    def config(self, **app: Any) -> ZaloConfig:
        return ZaloConfig(
            oa_api_url=self.url,
            oauth_url=self.url,
            upload_url=self.url,
            business_url=self.url,
            apps=[{"app_id": APP_ID, "app_secret": APP_SECRET, "oa_secret_keys": ["k"], **app}],
            pages=[
                {"page": slug, "oa_id": oa_id, "app_id": APP_ID, "refresh_token": f"{FIRST_REFRESH_TOKEN}-{oa_id}"}
                for oa_id, slug in self.pages.items()
            ],
        )

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v4/oa/access_token", self._refresh)
        app.router.add_post("/v3.0/oa/message/cs", self._message)
        app.router.add_post("/v3.0/oa/message/template", self._message)
        app.router.add_post("/message/template", self._message)
        app.router.add_post("/v2.0/oa/message", self._message)
        app.router.add_get("/v2.0/oa/conversation", self._conversation)
        app.router.add_post("/v2.0/oa/upload/{kind}", self._upload)
        self.current = {oa_id: ("none", f"{FIRST_REFRESH_TOKEN}-{oa_id}") for oa_id in self.pages}
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _message(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.path, dict(request.headers), await request.json())
        if self.keeps_calls:
            self.calls.append(call)
        token = request.headers.get("access_token", "")
        if self.checks_tokens and token not in {access for access, _ in self.current.values()}:
            return web.json_response({"error": -216, "message": "Access token is invalid"})
        theirs = self.by_user[call.user_id] if self.by_user else None
        behave = theirs.popleft() if theirs else self.behaviours.popleft() if self.behaviours else self.usual
        answer = behave(self, call)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        assert isinstance(answer, web.StreamResponse)
        return answer

    async def _conversation(self, request: web.Request) -> web.Response:
        wanted = json.loads(request.query["data"])
        theirs = [call for call in reversed(self.applied) if call.user_id == str(wanted["user_id"])]
        items = [
            {"src": 0, "time": int(call.at * 1000), "message": call.text, "message_id": call.message_id}
            for call in theirs[wanted["offset"] : wanted["offset"] + wanted["count"]]
        ]
        return web.json_response({"data": items, "error": 0, "message": "Success"})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        uploaded = form["file"]
        assert isinstance(uploaded, web.FileField)
        content = uploaded.file.read()
        self.calls.append(
            Call(request.path, dict(request.headers), (uploaded.filename, uploaded.content_type, content))
        )
        handle = {"token": "file-token"} if request.match_info["kind"] == "file" else {"attachment_id": "picture-id"}
        return web.json_response({"data": handle, "error": 0, "message": "Success"})

    async def _refresh(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.refreshes.append({**form, "secret_key": request.headers.get("secret_key", "")})
        behaviour = self.refresh_behaviours.popleft() if self.refresh_behaviours else "grant"
        if behaviour == "drop":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if behaviour.startswith("refuse"):
            return web.json_response({"error": int(behaviour.removeprefix("refuse")), "error_name": "refused"})
        oa_id = next((oa_id for oa_id, (_, token) in self.current.items() if token == form.get("refresh_token")), None)
        if form["grant_type"] == "authorization_code" and form["code"] == "code" and form["code_verifier"]:
            oa_id = next(iter(self.current))
        if oa_id is None:
            return web.json_response({"error": -14014, "error_name": "Invalid refresh token"})
        number = len(self.refreshes)
        self.current[oa_id] = (f"access-{number}-{oa_id}", f"refresh-{number}-{oa_id}")
        if behaviour == "lose":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        access, refresh = self.current[oa_id]
        return web.json_response({"access_token": access, "refresh_token": refresh, "expires_in": "90000"})
