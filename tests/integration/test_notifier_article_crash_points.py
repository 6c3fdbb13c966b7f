"""A replica dies between any two effects of an article; the next one goes on, and no page shows it twice.

*What must hold*: by the simulator's own log each page's article is created at most once and broadcast at most once; a
page of which nobody can know is `uncertain` until a person settles it, and the other pages are done all the same.
*How we break it*: the process exits with 137 at a labelled place, on a real database and the simulator; the one that is
started after it dies at the next place, and the last one lives.
"""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from services.notifier.app import Rooms, build_rooms
from services.notifier.domain.access import Person
from services.notifier.domain.articles import ArticleSend
from services.notifier.domain.audience import Audience
from services.notifier.domain.broadcast import ArticleContent, Content
from services.notifier.settings import NotifierSettings
from shared.crash import KILLED
from shared.mongo import Store
from tests.unit.notifier.broadcast_stage import KEY, a_contact, always_day, approved
from tests.unit.notifier.child import run_child
from tests.unit.notifier.stores import fresh_store
from tests.unit.simulator.live import APP_ID, Live, running, settings_for

DAY = "2026-11-24T03:00:00+00:00"
FOLLOWERS = 3
PAGES = ("dong-hung-thuan", "hiep-thanh", "tan-chanh-hiep", "tan-thoi-hiep", "district")
OA_IDS = {page: f"{4_000_000_000_000_000_000 + number}" for number, page in enumerate(PAGES)}
CREATE, BROADCAST = "/v2.0/article/create", "/v2.0/oa/message"
ON_DUTY = Person("truc-ban", "Trực ban", frozenset({"operator"}))
ARTICLE = ArticleContent.model_validate(
    {
        "title": "Phòng cháy mùa khô",
        "description": "Ba việc nên làm ngay",
        "author": "Công an phường",
        "cover_url": "https://example.org/a.jpg",
        "body": [{"type": "text", "content": "Kiểm tra bình gas."}],
    }
)


@dataclass
class Scene:
    """A database, a simulator, and notifiers that may die; `rooms` is ours, whose loops do not run."""

    store: Store
    live: Live
    rooms: Rooms
    environment: dict[str, str]

    async def run(self, *, crash_at: str = "") -> int:
        """Run a notifier until the article is done or it is dead; returns its exit code."""
        return await run_child(
            "tests.unit.notifier.broadcast_child", "article", "b1", environment=self.environment, crash_at=crash_at
        )

    async def let_leases_end(self) -> None:
        """What time does: nobody holds the dead replica's page any more."""
        past = self.rooms.clock.now() - timedelta(minutes=1)
        await self.store["article_sends"].update_many({"state": "calling"}, {"$set": {"due_at": past}})

    async def taken(self, path: str) -> Counter[str]:
        """How many calls Zalo took, by page."""
        calls = [call for call in await self.live.log() if call.get("path") == path and not call["error"]]
        page_of = {oa_id: page for page, oa_id in OA_IDS.items()}
        return Counter(page_of[call["oa_id"]] for call in calls)

    async def sends(self) -> dict[str, ArticleSend]:
        return {send.page: send for send in await self.rooms.desk.articles.of_broadcast("b1")}


@pytest.fixture
async def scene(mongo_uri: str, tmp_path: Path) -> AsyncIterator[Scene]:
    simulated = settings_for(tmp_path, article_seconds=0)
    config = yaml.safe_load((tmp_path / "zalo.yaml").read_text("utf-8"))
    config["pages"] = [
        {"page": page, "oa_id": oa_id, "app_id": APP_ID, "name": page, "refresh_token": f"first-{page}"}
        for page, oa_id in OA_IDS.items()
    ]
    (tmp_path / "zalo.yaml").write_text(yaml.safe_dump(config), "utf-8")
    async with fresh_store(mongo_uri, "motor") as store, running(simulated) as live:
        await live.post("/control/clock", {"now": DAY})
        config |= dict.fromkeys(("oa_api_url", "oauth_url", "upload_url", "business_url"), live.url)
        (tmp_path / "zalo.yaml").write_text(yaml.safe_dump(config), "utf-8")
        own = {
            "MONGO_URI": mongo_uri,
            "MONGO_DATABASE": store["any"].database.name,  # type: ignore[attr-defined]  # a driver's collection has it
            "TOKEN_ENCRYPTION_KEY": KEY,
            "ZALO_CONFIG_FILE": str(tmp_path / "zalo.yaml"),
            "DATA_DIR": str(always_day(tmp_path / "data")),
        }
        rooms = build_rooms(
            NotifierSettings(
                mongo_uri=SecretStr(mongo_uri),
                mongo_database=own["MONGO_DATABASE"],
                token_encryption_key=SecretStr(KEY),
                zalo_config_file=Path(own["ZALO_CONFIG_FILE"]),
                data_dir=Path(own["DATA_DIR"]),
            )
        )
        async with rooms.opened():
            at = rooms.clock.now()
            pages = list(OA_IDS.items())
            people = [
                a_contact(number, at=at, oa_id=oa_id, page=page)
                for number, (page, oa_id) in enumerate(pages[:FOLLOWERS])
            ]
            await store["contacts"].insert_many(people)
            new = approved("b1", at=at, content=Content(article=ARTICLE), audience=Audience(units=PAGES))
            assert await rooms.broadcasts.create(replace(new, version=0))
            yield Scene(store, live, rooms, own)
        await rooms.store.close()


async def test_deaths_where_nothing_is_unknown_leave_every_page_with_one_article(scene: Scene) -> None:
    for label in (
        "notifier.article.after_rows_added",
        "notifier.article.after_claim",  # marked by nobody, so called by nobody
        "notifier.article.after_record",
        "notifier.article.before_verify",  # asking again is harmless
        "notifier.article.after_verify",
        "notifier.article.before_finish",
        "notifier.article.after_statistics",
    ):
        assert await scene.run(crash_at=label) == KILLED, label
        await scene.let_leases_end()
    assert await scene.run() == 0

    assert await scene.taken(CREATE) == await scene.taken(BROADCAST) == dict.fromkeys(PAGES, 1)
    sends = await scene.sends()
    assert {page: (send.state, send.views) for page, send in sends.items()} == dict.fromkeys(PAGES, ("sent", 0))


async def test_deaths_around_a_call_that_must_not_be_repeated_leave_a_page_for_a_person(scene: Scene) -> None:
    unknown: dict[str, str] = {}
    for label in (
        "notifier.article.before_create",
        "notifier.article.after_create",
        "notifier.article.before_broadcast",
        "notifier.article.after_broadcast",
    ):
        assert await scene.run(crash_at=label) == KILLED, label
        (unknown[label],) = [page for page, send in (await scene.sends()).items() if send.state == "calling"]
        await scene.let_leases_end()
    assert await scene.run() == 0

    before_create, after_create, before_broadcast, after_broadcast = unknown.values()
    (other,) = set(PAGES) - set(unknown.values())
    created = {after_create: 1, before_broadcast: 1, after_broadcast: 1, other: 1}
    assert await scene.taken(CREATE) == created
    assert await scene.taken(BROADCAST) == {after_broadcast: 1, other: 1}
    reasons = {page: send.reason for page, send in (await scene.sends()).items() if send.state == "uncertain"}
    assert reasons == dict.fromkeys(unknown.values(), "send.lease_expired")

    desk = scene.rooms.desk
    assert not await desk.settle_article("b1", before_create, ON_DUTY, is_sent=True)  # nobody can have seen it
    for page in unknown.values():
        assert await desk.settle_article("b1", page, ON_DUTY, is_sent=page == after_broadcast)
    await scene.rooms.articles.look()
    assert not await scene.rooms.articles.work_once()

    states = {page: send.state for page, send in (await scene.sends()).items()}
    assert states == {**dict.fromkeys(PAGES, "failed"), after_broadcast: "sent", other: "sent"}
    progress = (await desk.standing("b1", ON_DUTY)).progress
    assert sum(progress.states.values()) == progress.people == FOLLOWERS
