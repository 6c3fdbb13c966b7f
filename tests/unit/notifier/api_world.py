"""The HTTP API with everything behind it in memory, called as ASGI: no socket, no server."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import yaml

from services.notifier.adapters.api_tokens import ApiTokens
from services.notifier.adapters.delivery_rules import load_topics
from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.domain.articles import ArticleSend
from services.notifier.domain.audience import ContactView, Had
from services.notifier.domain.copies import Progress
from services.notifier.domain.rulebook import Rulebook
from services.notifier.endpoints.api import router
from services.notifier.endpoints.web import Bounded, build_web
from services.notifier.handlers.broadcasts import Desk
from services.notifier.handlers.forecast import Forecaster
from shared.directory import load_directory
from shared.zalo_config import ZaloConfig
from tests.unit.notifier.fake_broadcasts import FakeBroadcastStore
from tests.unit.notifier.fakes import DATA_DIR, RULES, FakeLedger, ManualClock

STAFF_TAG = "Cán bộ"
TOPICS = load_topics(DATA_DIR)
BOOK = load_lane_book(DATA_DIR)
DIRECTORY = load_directory(DATA_DIR)
ZALO = ZaloConfig.model_validate(
    {
        "apps": [{"app_id": "1", "app_secret": "s", "oa_secret_keys": ["k"]}],
        "pages": [{"page": "tan-chanh-hiep", "oa_id": "4", "app_id": "1"}],
    }
)
PEOPLE: dict[str, dict[str, Any]] = {
    "an": {"roles": ["publisher"]},
    "binh": {"roles": ["approver"]},
    "chi": {"roles": ["publisher", "approver"]},
    "dung": {"roles": ["reader"]},
    "giang": {"roles": ["operator"]},
    "ward": {"roles": ["publisher", "approver"], "units": ["tan-chanh-hiep"]},
}
"""Their token is their name with `-token`."""


def token_of(person: str) -> str:
    return f"{person}-token"


def tokens_file(people: Mapping[str, Mapping[str, Any]] = PEOPLE) -> str:
    rows = [
        {
            "person": name,
            "name": name.title(),
            "token_sha256": hashlib.sha256(token_of(name).encode()).hexdigest(),
            **row,
        }
        for name, row in people.items()
    ]
    return yaml.safe_dump({"people": rows})


class FakeAudience:
    """Contacts in memory, by person."""

    def __init__(self) -> None:
        self.contacts: list[ContactView] = []

    async def size(self) -> int:
        return len(self.contacts)

    async def in_slice(self, lower: str, upper: str) -> list[list[ContactView]]:
        names = sorted({one.person for one in self.contacts if lower <= one.person < upper})
        return [[one for one in self.contacts if one.person == name] for name in names]

    async def of_citizens(self, citizen_keys: Sequence[str]) -> list[list[ContactView]]:
        names = {one.person for one in self.contacts if one.reach.citizen_key in citizen_keys}
        return [[one for one in self.contacts if one.person == name] for name in sorted(names)]


def a_progress(states: Mapping[Any, int], **changes: Any) -> Progress:
    """How far a broadcast is."""
    filled: dict[str, Any] = {"people": sum(states.values()), "chunks": 1, "chunks_done": 0, "reasons": {}}
    return Progress(states=states, **{**filled, **changes})


class FakeRecipients:
    """The ledger of copies, as people see it, and what persons had lately."""

    def __init__(self) -> None:
        self.now_at = a_progress({})
        self.uncertain: list[dict[str, Any]] = []
        self.settled: dict[str, bool] = {}
        self.copies: list[dict[str, Any]] = []
        self.had_by_person: dict[str, Had] = {}

    async def progress(self, broadcast_id: str) -> Progress:  # noqa: ARG002 - one broadcast is enough
        return self.now_at

    async def in_state(self, broadcast_id: str, state: str, *, limit: int) -> list[dict[str, Any]]:  # noqa: ARG002
        return self.uncertain[:limit]

    async def of_person(self, person: str, broadcast_ids: Iterable[str]) -> list[dict[str, Any]]:
        return [one for one in self.copies if one["person"] == person and one["broadcast_id"] in broadcast_ids]

    async def abandon(self, broadcast_id: str, person: str, *, by: str, now: datetime) -> bool:  # noqa: ARG002
        known = [one for one in self.uncertain if one["person"] == person]
        self.uncertain = [one for one in self.uncertain if one["person"] != person]
        return bool(known)

    async def settle_by_person(self, broadcast_id: str, person: str, *, is_sent: bool, by: str, now: datetime) -> bool:
        self.settled[person] = is_sent
        return await self.abandon(broadcast_id, person, by=by, now=now)

    async def had(self, keys_by_person: Mapping[str, Sequence[str]], *, now: datetime) -> dict[str, Had]:  # noqa: ARG002
        return {person: had for person, had in self.had_by_person.items() if person in keys_by_person}


class FakeArticles:
    """Article broadcasts of pages: the moments at which they went out."""

    def __init__(self) -> None:
        self.sent: dict[str, list[datetime]] = {}
        self.rows: list[ArticleSend] = []

    async def sent_since(self, page: str, since: datetime) -> int:
        return sum(at >= since for at in self.sent.get(page, ()))

    async def settle(self, broadcast_id: str, page: str, *, is_sent: bool, by: str, now: datetime) -> bool:  # noqa: ARG002
        for number, send in enumerate(self.rows):
            if (send.broadcast_id, send.page, send.state) == (broadcast_id, page, "uncertain"):
                self.rows[number] = replace(send, state="sent" if is_sent else "failed")
                return True
        return False

    async def of_broadcast(self, broadcast_id: str) -> list[ArticleSend]:
        return [send for send in self.rows if send.broadcast_id == broadcast_id]


@dataclass
class Answer:
    """What came back."""

    status: int
    content: Any
    headers: dict[str, str]

    @property
    def code(self) -> str:
        return str(self.content["code"])


class World:
    """A desk with its people."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broadcasts = FakeBroadcastStore()
        self.audience = FakeAudience()
        self.recipients = FakeRecipients()
        self.articles = FakeArticles()
        self.replies = FakeLedger(self.clock)
        forecaster = Forecaster(
            self.audience, self.recipients, self.articles, Rulebook(RULES, BOOK, DIRECTORY), self.clock
        )
        self.desk = Desk(
            self.broadcasts,
            self.recipients,
            self.articles,
            forecaster,
            self.replies,
            BOOK,
            ZALO,
            self.clock,
            TOPICS,
            STAFF_TAG,
        )
        self.app = Bounded(build_web(self.desk, ApiTokens(tokens_file()), router, about=""))

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: str | None = "an",
        raw: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Call the API as a person; header names with underscores."""
        sent = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        given = {"content-type": "application/json", "content-length": str(len(sent))}
        given |= {"authorization": f"Bearer {token_of(who)}"} if who is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        where, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": where,
            "raw_path": where.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "http_version": "1.1",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
        }
        incoming = [{"type": "http.request", "body": sent, "more_body": False}]
        outgoing: list[Any] = []

        async def receive() -> Any:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            outgoing.append(message)

        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in outgoing[1:])
        return Answer(
            outgoing[0]["status"],
            json.loads(content) if content else None,
            {name.decode(): value.decode() for name, value in outgoing[0]["headers"]},
        )


def a_draft(**changes: Any) -> dict[str, Any]:
    """A draft as the API takes it."""
    return {
        "title": "Nhắc hạn căn cước",
        "unit": "tan-chanh-hiep",
        "content": {"message": {"text": "Mời bà con kiểm tra hạn căn cước."}},
        **changes,
    }


def an_article(**changes: Any) -> dict[str, Any]:
    """The same for an article."""
    article = {
        "title": "Phòng cháy mùa khô",
        "description": "Ba việc nên làm ngay",
        "author": "Công an phường",
        "cover_url": "https://example.org/a.jpg",
        "body": [{"type": "text", "content": "Kiểm tra bình gas."}],
        **changes,
    }
    return a_draft(content={"article": article}, audience={"units": ["tan-chanh-hiep"]})
