"""The notifier dies between any two of its effects; started again, it sends nothing twice and forgets nothing.

*What must hold*: Zalo gets each reply at most once; a reply that Zalo has ends as `sent`, by its answer or by its echo;
a reply of which nobody knows stays `uncertain`; no page loses its tokens where they can be kept.
*How we break it*: the process exits with 137 at a labelled place, on a real database.
"""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from services.notifier.adapters.clock import ServerClock
from services.notifier.adapters.reply_ledger import ReplyLedger
from services.notifier.adapters.token_store import TokenStore
from shared.crash import KILLED
from shared.ids import deterministic_id
from shared.mongo import Document, Store
from tests.factories import OA_ID, PAGE
from tests.unit.notifier.child import run_child
from tests.unit.notifier.fakes import LEASE
from tests.unit.notifier.stores import fresh_store
from tests.unit.notifier.zalo_stub import APP_ID, FIRST_REFRESH_TOKEN, ZaloStub

ROOT = Path(__file__).resolve().parents[2]
NAME = "Mời bác đến trụ sở"
KEY = Fernet.generate_key().decode()


@dataclass
class Scene:
    """A database, a Zalo and notifiers that may die."""

    store: Store
    stub: ZaloStub
    environment: dict[str, str]

    async def run(self, what: str, *, crash_at: str = "") -> int:
        """Run a notifier until it is done or dead; returns its exit code."""
        return await run_child(
            "tests.unit.notifier.crash_child", what, NAME, environment=self.environment, crash_at=crash_at
        )

    async def entry(self) -> Document:
        entry = await ReplyLedger(self.store, lease=LEASE).one(deterministic_id(NAME))
        assert entry is not None
        return entry


@pytest.fixture
async def scene(mongo_uri: str) -> AsyncIterator[Scene]:
    async with fresh_store(mongo_uri, "motor") as store, ZaloStub() as stub:
        database = store["any"].database.name  # type: ignore[attr-defined]
        environment = {
            "MONGO_URI": mongo_uri,
            "MONGO_DATABASE": database,
            "TOKEN_ENCRYPTION_KEY": KEY,
            "ZALO_OA_API_URL": stub.url,
            "ZALO_OAUTH_URL": stub.url,
            "ZALO_UPLOAD_URL": stub.url,
            "ZALO_APPS": json.dumps([{"app_id": APP_ID, "app_secret": "s", "oa_secret_keys": ["k"]}]),
            "ZALO_PAGES": json.dumps(
                [{"page": PAGE, "oa_id": OA_ID, "app_id": APP_ID, "refresh_token": f"{FIRST_REFRESH_TOKEN}-{OA_ID}"}]
            ),
            # The lease must outlast a call; here both are short, so that a test does not wait a minute.
            "SEND_LEASE_SECONDS": "4",
            "ZALO_TIMEOUT_SECONDS": "1",
        }
        yield Scene(store, stub, environment)


async def test_a_notifier_that_does_not_die_sends_the_reply(scene: Scene) -> None:
    assert await scene.run("send") == 0

    assert [call.text for call in scene.stub.applied] == [NAME]
    assert (await scene.entry())["state"] == "sent"


async def test_after_a_death_behind_the_insert_the_reply_is_sent_once(scene: Scene) -> None:
    assert await scene.run("send", crash_at="notifier.after_insert") == KILLED
    assert (await scene.entry())["state"] == "queued"

    assert await scene.run("send") == 0

    assert len(scene.stub.applied) == 1
    assert (await scene.entry())["state"] == "sent"


async def test_after_a_death_between_claim_and_mark_the_reply_is_sent_once(scene: Scene) -> None:
    assert await scene.run("send", crash_at="notifier.after_claim") == KILLED
    assert (await scene.entry())["state"] == "sending"

    assert await scene.run("send") == 0

    assert [call.text for call in scene.stub.applied] == [NAME]
    entry = await scene.entry()
    assert (entry["state"], entry["failures"]) == ("sent", 0)


async def test_after_a_death_between_mark_and_call_the_reply_is_uncertain_and_not_sent(scene: Scene) -> None:
    assert await scene.run("send", crash_at="notifier.after_mark") == KILLED
    assert (await scene.entry())["state"] == "sending"

    assert await scene.run("send") == 0

    assert scene.stub.calls == []
    entry = await scene.entry()
    assert (entry["state"], entry["reason"]) == ("uncertain", "send.lease_expired")


async def test_a_claim_of_a_version_without_marks_counts_as_called(scene: Scene) -> None:
    await scene.run("send", crash_at="notifier.after_claim")
    await scene.store["reply_ledger"].update_one({"_id": deterministic_id(NAME)}, {"$unset": {"is_called": ""}})

    assert await scene.run("send") == 0

    assert scene.stub.calls == []
    assert (await scene.entry())["state"] == "uncertain"


@pytest.mark.parametrize("label", ["notifier.after_call", "notifier.before_record"])
async def test_after_a_death_behind_the_call_the_echo_settles_the_reply(scene: Scene, label: str) -> None:
    assert await scene.run("send", crash_at=label) == KILLED
    assert len(scene.stub.applied) == 1

    assert await scene.run("send") == 0
    assert (await scene.entry())["state"] == "uncertain"
    assert await scene.run("report") == 0

    assert len(scene.stub.applied) == 1
    entry = await scene.entry()
    assert (entry["state"], entry["message_id"], entry["settled_by"]) == ("sent", "zalo-1", "echo")


async def test_after_a_death_before_zalos_list_is_believed_the_reply_fails_visibly(scene: Scene) -> None:
    await scene.run("send", crash_at="notifier.after_mark")
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    change = {"state": "uncertain", "attempt_started_at": long_ago, "checks": 5, "due_at": long_ago}
    await scene.store["reply_ledger"].update_one({"_id": deterministic_id(NAME)}, {"$set": change})

    assert await scene.run("sweep", crash_at="notifier.before_not_taken") == KILLED
    assert (await scene.entry())["state"] == "uncertain"
    # The next replica looks when the dead one's look is over.
    await scene.store["reply_ledger"].update_one({"_id": deterministic_id(NAME)}, {"$set": {"due_at": long_ago}})
    assert await scene.run("sweep") == 0

    entry = await scene.entry()
    assert (entry["state"], entry["reason"], scene.stub.applied) == ("failed", "send.not_taken", [])


async def test_after_a_death_behind_the_record_nothing_is_left_to_do(scene: Scene) -> None:
    assert await scene.run("send", crash_at="notifier.after_record") == KILLED

    assert await scene.run("send") == 0

    assert len(scene.stub.applied) == 1
    assert (await scene.entry())["state"] == "sent"


@pytest.mark.parametrize("label", ["notifier.after_report_stored", "notifier.before_settle"])
async def test_after_a_death_while_an_echo_is_taken_the_reply_is_settled_all_the_same(scene: Scene, label: str) -> None:
    await scene.run("send", crash_at="notifier.after_call")
    await scene.run("send")
    assert (await scene.entry())["state"] == "uncertain"

    assert await scene.run("report", crash_at=label) == KILLED
    assert await scene.run("report") == 0  # Kafka redelivers

    entry = await scene.entry()
    assert (entry["state"], entry["settled_by"], entry["echoed_at"] is not None) == ("sent", "echo", True)


@pytest.mark.parametrize(
    ("label", "refreshes", "state"),
    [
        ("notifier.token.after_lease", 0, "new"),  # nothing was traded in
        ("notifier.token.after_refresh", 1, "new"),  # the pair died with the process
        ("notifier.token.after_store", 1, "ok"),
    ],
)
async def test_a_death_in_a_refresh_leaves_what_the_next_replica_can_judge(
    scene: Scene, label: str, refreshes: int, state: str
) -> None:
    assert await scene.run("look", crash_at=label) == KILLED

    assert len(scene.stub.refreshes) == refreshes
    token = await TokenStore(scene.store, keys=[KEY]).read(OA_ID)
    assert token is not None
    assert token.state == state
    assert token.is_leased == (state == "new")
    clock = ServerClock(scene.store)
    await clock.measure()
    assert not token.is_leased or token.lease_until > clock.now()


@pytest.mark.parametrize(
    ("label", "exchanges"), [("notifier.link.after_lease", 0), ("notifier.link.after_exchange", 1)]
)
async def test_a_death_while_a_page_is_linked_leaves_what_the_next_replica_can_judge(
    scene: Scene, label: str, exchanges: int
) -> None:
    assert await scene.run("link", crash_at=label) == KILLED

    codes = [form for form in scene.stub.refreshes if form["grant_type"] == "authorization_code"]
    assert len(codes) == exchanges
    token = await TokenStore(scene.store, keys=[KEY]).read(OA_ID)
    assert token is not None
    assert (token.state, token.generation, token.is_leased) == ("ok", 1, True)


def test_every_label_in_the_code_is_broken_by_a_test() -> None:
    labels: set[str] = set()
    for file in (ROOT / "services" / "notifier").rglob("*.py"):
        labels |= set(re.findall(r'crash_point\("([^"]+)"\)', file.read_text("utf-8")))

    tests = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_notifier*crash_points.py"))
    assert labels
    assert {label for label in labels if f'"{label}"' not in tests} == set()
