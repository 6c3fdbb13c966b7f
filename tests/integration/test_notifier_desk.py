"""A broadcast and an article from the prompt to the citizens: `hub broadcast`, HTTP, notifier, database, simulator.

*What must hold*: what the prompt says was sent is what the simulator handed over, once to each; who opted out and who
may not approve is told with the same codes everywhere.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner

from cli.app import app as hub
from services.notifier.adapters.api_tokens import ApiTokens
from services.notifier.app import build_rooms
from services.notifier.domain.contacts import facts_of_change
from services.notifier.endpoints import api
from services.notifier.endpoints.web import Bounded, build_web
from services.notifier.settings import NotifierSettings
from shared.api_people import DEMO_PEOPLE, new_person
from shared.ids import citizen_key
from shared.mongo import Store
from shared.service import server
from tests.factories import a_change
from tests.unit.notifier.broadcast_stage import always_day
from tests.unit.notifier.samples import eventually
from tests.unit.notifier.stores import fresh_store
from tests.unit.simulator.live import DISTRICT, OA_IDS, WARD, Live, running, settings_for

PEOPLE = 12
DAY = "2026-11-24T03:00:00+00:00"


@dataclass
class Town:
    """A simulator with followers, and a notifier whose desk answers over HTTP."""

    live: Live
    store: Store
    url: str
    tokens: dict[str, str]

    async def hub(self, *arguments: str, who: str = "an", code: int = 0) -> Any:
        """Type a command; its JSON."""
        environment = {"NOTIFIER_URL": self.url, "HUB_API_TOKEN": self.tokens[who]}
        result = await asyncio.to_thread(CliRunner().invoke, hub, [*arguments, "--json"], env=environment)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    async def approved(self, draft: dict[str, Any], folder: Path) -> str:
        file = folder / "draft.yaml"
        file.write_text(yaml.safe_dump(draft, allow_unicode=True), "utf-8")
        broadcast_id: str = (await self.hub("broadcast", "draft", str(file)))["id"]
        await self.hub("broadcast", "preview", broadcast_id)
        await self.hub("broadcast", "approve", broadcast_id, "--yes", who="binh")
        await self.hub("broadcast", "start", broadcast_id)
        return broadcast_id

    async def watched(self, broadcast_id: str) -> dict[str, Any]:
        """Wait for its end as a person at the prompt would."""
        environment = {"NOTIFIER_URL": self.url, "HUB_API_TOKEN": self.tokens["binh"]}
        arguments = ["broadcast", "watch", broadcast_id, "--json"]
        async with asyncio.timeout(150):
            result = await asyncio.to_thread(CliRunner().invoke, hub, arguments, env=environment)
        last: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return last


@asynccontextmanager
async def serving(settings: NotifierSettings, tokens: ApiTokens) -> AsyncIterator[tuple[Any, str]]:
    """The notifier without its Kafka edge: the workers of broadcasts, and the API on a real socket."""
    rooms = build_rooms(settings)
    web = server(Bounded(build_web(rooms.desk, tokens, api.router, about="")), settings)
    web.config.lifespan = "off"
    async with rooms.opened():
        await rooms.tokens.look_after_all()
        workers = (rooms.runner.run, rooms.articles.run, web.serve)
        tasks = [asyncio.create_task(work()) for work in workers]
        await eventually(lambda: web.started)
        port = web.servers[0].sockets[0].getsockname()[1]
        try:
            yield rooms, f"http://127.0.0.1:{port}"
        finally:
            web.should_exit = True
            await asyncio.wait(tasks[2:], timeout=10)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await rooms.store.close()


@pytest.fixture
async def town(tmp_path: Path, mongo_uri: str) -> AsyncIterator[Town]:
    people = {person: new_person(person, roles) for person, (_, roles) in DEMO_PEOPLE.items()}
    tokens = ApiTokens(yaml.safe_dump({"people": [row for _, row in people.values()]}))
    async with fresh_store(mongo_uri, "motor") as store, running(settings_for(tmp_path, article_seconds=0.2)) as live:
        await live.post("/control/clock", {"now": DAY})
        config = yaml.safe_load((tmp_path / "zalo.yaml").read_text("utf-8"))
        config |= {"oa_api_url": live.url, "oauth_url": live.url, "upload_url": live.url}
        (tmp_path / "zalo.yaml").write_text(yaml.safe_dump(config), "utf-8")
        settings = NotifierSettings(
            mongo_uri=SecretStr(mongo_uri),
            mongo_database=store["contacts"].database.name,  # type: ignore[attr-defined]  # a driver's collection has it
            zalo_config_file=tmp_path / "zalo.yaml",
            token_encryption_key=SecretStr(Fernet.generate_key().decode()),
            data_dir=always_day(tmp_path / "data"),
            poll_seconds=0.05,
        )
        # Log lines would come between the lines of a command that runs in the same process.
        with capture_logs():
            async with serving(settings, tokens) as (rooms, url):
                yield await a_town(live, store, rooms, url, {person: token for person, (token, _) in people.items()})


async def a_town(live: Live, store: Store, rooms: Any, url: str, tokens: dict[str, str]) -> Town:
    """Its people follow the ward's page, at Zalo and in our contacts."""
    now = rooms.clock.now()
    for number in range(PEOPLE):
        who = {"page": WARD, "citizen": f"c{number}"}
        known = await live.post("/control/follow", who)
        seen = {
            "page": WARD,
            "oa_id": OA_IDS[WARD],
            "user_id": known["user_id"],
            "citizen_key": citizen_key(OA_IDS[WARD], known["user_id"]),
        }
        followed = a_change(change="followed", changed_at=now, is_interaction=True, **seen)
        await rooms.contacts.learn([facts_of_change(followed)])
    return Town(live, store, url, tokens)


async def test_a_message_goes_from_the_prompt_to_every_follower_once(town: Town, tmp_path: Path) -> None:
    draft = {"title": "thử", "unit": WARD, "content": {"message": {"text": "Mời bà con."}}}
    asked = await town.hub("send", "--dry-run", "--unit", WARD, "--text", "Mời bà con.")
    assert (asked["people"], asked["lanes"]) == (PEOPLE, {"answer": PEOPLE})

    broadcast_id = await town.approved(draft, tmp_path)
    last = await town.watched(broadcast_id)

    assert last["state"] == "done"
    assert {state: count for state, count in last["states"].items() if count} == {"sent": PEOPLE}
    calls = [call for call in await town.live.log() if call.get("path") == "/v3.0/oa/message/cs"]
    assert len({call["user_id"] for call in calls}) == len(calls) == PEOPLE
    shown = await town.hub("broadcast", "show", broadcast_id, who="binh")
    assert [entry["action"] for entry in shown["history"]] == ["preview", "approve", "schedule", "start", "finish"]

    again = await town.hub("send", "--dry-run", "--unit", WARD, "--text", "Mời bà con.")
    assert again["refused"] == {"cap.day": PEOPLE}


async def test_an_article_is_shown_to_the_followers_of_its_pages_once_a_day(town: Town, tmp_path: Path) -> None:
    article = {
        "title": "Phòng cháy mùa khô",
        "description": "Ba việc nên làm ngay",
        "author": "Công an phường",
        "cover_url": "https://example.org/a.jpg",
        "body": [{"type": "text", "content": "Kiểm tra bình gas."}],
    }
    draft = {
        "title": "bài",
        "unit": WARD,
        "content": {"article": article},
        "audience": {"units": [WARD, DISTRICT]},
    }

    last = await town.watched(await town.approved(draft, tmp_path))

    assert {one["page"]: (one["state"], one["followers"]) for one in last["articles"]} == {
        DISTRICT: ("sent", 0),
        WARD: ("sent", PEOPLE),
    }
    for page in (WARD, DISTRICT):
        assert len((await town.live.get(f"/control/pages/{page}/broadcasts"))["items"]) == 1
    asked = await town.hub("send", "--dry-run", str(tmp_path / "draft.yaml"))
    assert asked["articles"] == {WARD: "article.day_used", DISTRICT: "article.day_used"}


async def test_the_prompt_tells_why_something_may_not_be_done(town: Town) -> None:
    made = await town.hub("broadcast", "draft", "--unit", WARD, "--text", "x")

    by_author = await town.hub("broadcast", "approve", made["id"], "--yes", code=6)
    unseen = await town.hub("broadcast", "approve", made["id"], "--yes", who="binh", code=6)
    unknown = await town.hub("broadcast", "show", "0" * 12, code=3)
    strange = await town.hub("broadcast", "draft", "--unit", "atlantis", "--text", "x", code=2)

    codes = [one["error"]["code"] for one in (by_author, unseen, unknown, strange)]
    assert codes == [
        "access.not_allowed",
        "broadcast.not_previewed",
        "broadcast.not_found",
        "broadcast.unit_unknown",
    ]
