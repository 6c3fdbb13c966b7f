"""Broadcasts on a real database and a Zalo on the loopback address: contacts, an approved broadcast, and runners."""

import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography.fernet import Fernet

from services.notifier.adapters.contact_store import person_of
from services.notifier.app import Rooms, build_rooms
from services.notifier.domain.audience import Audience
from services.notifier.domain.broadcast import Broadcast, Change, Content, Draft, Forecast, NotAllowed, act
from services.notifier.settings import NotifierSettings
from shared.events import ReplyContent
from shared.ids import citizen_key
from shared.mongo import Document, Store, insert_new
from tests.factories import OA_ID, PAGE
from tests.unit.notifier.fakes import DATA_DIR
from tests.unit.notifier.stores import fresh_store
from tests.unit.notifier.zalo_stub import APP_ID, FIRST_REFRESH_TOKEN, ZaloStub

TEXT = "Chiều nay nước lên nhanh, mời bà con đưa xe lên cao."
STOPPED = {"broadcasts": {"is_on": False, "at": datetime(2026, 11, 1, tzinfo=UTC), "by": "e" * 32}}
"""What a contact keeps of somebody who said that they want no broadcasts."""
KEY = Fernet.generate_key().decode()


def user_id(number: int) -> str:
    """Zalo's id of the follower of this number."""
    return f"2{number:018d}"


def a_contact(number: int, *, at: datetime, oa_id: str = OA_ID, page: str = PAGE, **changes: Any) -> Document:
    """One follower of the page, as the contact store would keep them."""
    key = citizen_key(oa_id, user_id(number))
    app_user = f"3{number:018d}"
    return {
        "_id": key,
        "person": person_of(app_user),
        "user_id_by_app": app_user,
        "oa_id": oa_id,
        "page": page,
        "user_id": user_id(number),
        "followed_at": at - timedelta(days=30),
        "is_follower": True,
        "last_interaction_at": at - timedelta(hours=1),
        **changes,
    }


def approved(broadcast_id: str, *, at: datetime, people: int = 0, text: str = TEXT, **draft: Any) -> Broadcast:
    """A broadcast that a second person approved and that is scheduled for now."""
    filled: dict[str, Any] = {
        "title": "Báo lũ",
        "unit": PAGE,
        "content": Content(message=ReplyContent(text=text)),
        "audience": Audience(),
        "is_emergency": True,  # no quiet hours: a test may run at any hour
        **draft,
    }
    new = Broadcast(broadcast_id, Draft(**filled), "an", created_at=at)
    for action, by, more in (
        ("preview", "an", {"forecast": Forecast(people=people)}),
        ("approve", "binh", {}),
        ("schedule", "an", {}),
    ):
        new = done(act(new, action, by=by, at=at, **more))  # type: ignore[arg-type]
    return new


def done(change: Change) -> Broadcast:
    """The changed broadcast; fails where the change was refused."""
    assert not isinstance(change, NotAllowed), change.reason
    return change


def always_day(folder: Path) -> Path:
    """Our rules without hours: the test runs at night too."""
    shutil.copytree(DATA_DIR, folder)
    file = folder / "delivery" / "lanes.yaml"
    rules = yaml.safe_load(file.read_text("utf-8"))
    for lane in rules["lanes"]:
        lane.pop("hours", None)
    for policy in rules["policy"]:
        policy["quiet_hours"] = [0, 0]
    file.write_text(yaml.safe_dump(rules, allow_unicode=True), "utf-8")
    return folder


@dataclass
class Stage:
    """One notifier's rooms, the stub it calls, and the database."""

    rooms: Rooms
    store: Store
    stub: ZaloStub

    async def fill(self, contacts: Sequence[Document]) -> None:
        """Let the database know these contacts."""
        for start in range(0, len(contacts), 1_000):
            await insert_new(self.store["contacts"], contacts[start : start + 1_000])

    async def followers(self, count: int, **changes: Any) -> None:
        """Let the page have so many followers."""
        at = self.rooms.clock.now()
        await self.fill([a_contact(number, at=at, **changes) for number in range(count)])

    async def schedule(self, broadcast_id: str, **draft: Any) -> Broadcast:
        """Keep an approved broadcast that is due."""
        new = replace(approved(broadcast_id, at=self.rooms.clock.now(), **draft), version=0)
        assert await self.rooms.broadcasts.create(new)
        return new

    async def do(self, broadcast_id: str, action: Any, by: str = "an") -> None:
        """A person does something to a broadcast."""
        broadcast = await self.rooms.broadcasts.read(broadcast_id)
        assert broadcast is not None
        assert await self.rooms.broadcasts.save(done(act(broadcast, action, by=by, at=self.rooms.clock.now())))

    async def work(self, broadcast_id: str, *, until: str = "done", rooms: Rooms | None = None) -> None:
        """Do what the runner's loops do, one step after another, until the broadcast is where it should be."""
        runner = (rooms or self.rooms).runner
        for _ in range(2_000):
            await runner.look()
            if await self.rooms.broadcasts.state_of(broadcast_id) == until:
                return
            await runner.build_all()
            await runner.look()
            while await runner.work_once():
                pass
        raise AssertionError(f"not {until}")

    async def states(self, broadcast_id: str) -> dict[str, int]:
        """The states of all rows."""
        rows = await self.store["recipients"].find({"broadcast_id": broadcast_id}).to_list(None)
        return dict(Counter(row["state"] for row in rows))

    @property
    def copies(self) -> Counter[str]:
        """How many messages each citizen has had."""
        return Counter(call.user_id for call in self.stub.applied)


def settings_of(mongo_uri: str, store: Store, stub: ZaloStub, folder: Path, **changes: Any) -> NotifierSettings:
    """Settings of a notifier on this database that calls the stub."""
    config = folder / "zalo.yaml"
    pages = [
        {"page": page, "oa_id": oa_id, "app_id": APP_ID, "refresh_token": f"{FIRST_REFRESH_TOKEN}-{oa_id}"}
        for oa_id, page in stub.pages.items()
    ]
    apps = [{"app_id": APP_ID, "app_secret": "s", "oa_secret_keys": ["k"]}]
    addresses = dict.fromkeys(("oa_api_url", "oauth_url", "upload_url", "business_url"), stub.url)
    config.write_text(json.dumps({**addresses, "apps": apps, "pages": pages}), "utf-8")
    filled = {
        "mongo_uri": mongo_uri,
        "mongo_database": store["any"].database.name,  # type: ignore[attr-defined]
        "mongo_driver": store.driver,
        "token_encryption_key": KEY,
        "zalo_config_file": config,
        "page_calls_per_minute": 1_000_000,
        "app_calls_per_minute": 1_000_000,
        "poll_seconds": 0.02,
    }
    return NotifierSettings(**{**filled, **changes})


@asynccontextmanager
async def open_rooms(settings: NotifierSettings) -> AsyncIterator[Rooms]:
    """One replica's rooms with tokens for its pages; its loops do not run."""
    rooms = build_rooms(settings)
    try:
        async with rooms.opened():
            await rooms.tokens.look_after_all()
            yield rooms
    finally:
        await rooms.store.close()


@asynccontextmanager
async def a_stage(mongo_uri: str, folder: Path, *, driver: str = "motor", **changes: Any) -> AsyncIterator[Stage]:
    """A stage of its own: a fresh database, a stub, one replica."""
    async with (
        fresh_store(mongo_uri, driver) as store,
        ZaloStub(pages={OA_ID: PAGE}) as stub,
        open_rooms(settings_of(mongo_uri, store, stub, folder, **changes)) as rooms,
    ):
        yield Stage(rooms, store, stub)
