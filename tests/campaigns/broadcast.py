"""A broadcast to everybody while everything dies: `python -m tests.campaigns.broadcast --followers 59881`.

*What must hold*, by the simulator's own log: each follower has at most one copy; our counts add up to the audience;
whoever has a copy is `sent` and everybody gets one: what the echoes do not settle, Zalo's own lists of the
conversations do, so that nothing stays `uncertain`.
*How we break it*: kill -9 of notifier replicas, broker nodes and the database at random moments; the simulator loses
one answer in a hundred after it took the message; a person pauses and resumes; every replica is a scheduler.
Kills and pauses come at shares of the audience, not at times: where sending is faster than what was killed comes back,
the page is throttled until the next is due. A run in which not all of them were made is no proof, and says so.

Zalo's lists prove absence after two hours; here after twenty seconds (`LOOK_UP`), longer than any call here takes.
The seed decides who dies when; it is printed with the verdict. Exit code 0 is a verdict without faults, 1 one with.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import aiohttp
import yaml

from services.notifier.adapters.broadcast_store import BroadcastStore
from services.notifier.adapters.contact_store import person_of
from services.notifier.adapters.rate_bucket import RateBuckets, page_bucket
from services.notifier.adapters.recipient_ledger import RecipientLedger
from services.notifier.domain.broadcast import BroadcastState, act
from services.notifier.domain.copies import CopyState, Progress
from shared.errors import StoreUnavailable
from shared.ids import citizen_key
from shared.mongo import Document, Store, insert_new, open_store
from shared.settings import HubSettings
from simulator import ids
from simulator.settings import load_zalo_config
from tests.servers import KAFKA_TITLE, RunningHub, mongo_product, running_hub
from tests.unit.notifier.broadcast_stage import TEXT, approved, done
from tests.unit.notifier.fakes import DATA_DIR, LEASE

SEED_OF_SIMULATOR, PREFIX, BROADCAST = 1, "campaign-", "campaign"
WORKERS = 2
BROKEN_SHARE = 0.85
"""Kills and pauses are spread over the first so much of the audience: what is left is enough to be paused in."""
THROTTLED_SECONDS = 1.0
LOOK_UP = {"after_seconds": 4, "absent_after_seconds": 20, "retry_within_seconds": 14_400}


@dataclass(frozen=True)
class Plan:
    """What a campaign does.

    Attributes:
        followers: the audience.
        replicas: notifiers; each of them schedules.
        kafka_nodes: 1 or 3.
        kills: of each kind of victim.
        pauses: pause and resume so often.
        lost: share of answers that the simulator loses after it took the message.
        per_minute: calls a minute of the page and of the app.
        wave: copies that one worker has in its hands.
        still_seconds: when nothing has changed for so long, nothing will.
        seed: of who dies when.
    """

    followers: int
    replicas: int = 3
    kafka_nodes: int = 3
    kills: Mapping[str, int] = field(default_factory=lambda: {"notifier": 12, "kafka": 3, "mongo": 3})
    pauses: int = 10
    lost: float = 0.01
    per_minute: int = 40_000
    wave: int = 50
    still_seconds: float = 90.0
    seed: int = 20261127
    shows_progress: bool = False


@dataclass
class Verdict:
    """What came of it; `faults` is empty where all holds."""

    plan: Plan
    states: Mapping[CopyState, int]
    reasons: Mapping[tuple[str, str], int]
    people: int
    killed: Counter[str]
    pauses: int
    copies: int
    settled_by: Mapping[str, int]
    lost_answers: int
    seconds: float
    servers: str
    faults: list[str] = field(default_factory=list)

    @property
    def table(self) -> str:
        """The verdict for people."""
        rows: list[tuple[str, Any]] = [
            ("followers", f"{self.plan.followers:,}"),
            ("audience in the ledger", f"{self.people:,}"),
            *((f"… {state}", f"{count:,}") for state, count in self.states.items() if count),
            ("copies in the simulator's log", f"{self.copies:,}"),
            (
                "copies in doubt, and what settled them",
                ", ".join(f"{k} {n}" for k, n in self.settled_by.items()) or "none",
            ),
            ("answers lost after the message was taken", f"{self.lost_answers:,}"),
            (
                "killed with -9",
                ", ".join(f"{what} {count}" for what, count in sorted(self.killed.items())) or "nothing",
            ),
            ("paused and resumed", self.pauses),
            ("replicas, each a scheduler", self.plan.replicas),
            ("servers", self.servers),
            ("seed", self.plan.seed),
            ("seconds", f"{self.seconds:.0f}"),
            ("verdict", "; ".join(self.faults) or "each follower at most one copy, and the counts add up"),
        ]
        return "\n".join(f"{name:<42} {value}" for name, value in rows)


class Campaign:
    """One run on a hub of its own."""

    def __init__(self, hub: RunningHub, plan: Plan, simulator: aiohttp.ClientSession, store: Store) -> None:
        self._hub = hub
        self._plan = plan
        self._simulator = simulator
        self._store = store
        self._broadcasts = BroadcastStore(store)
        self._ledger = RecipientLedger(store, lease=LEASE)
        self._rates = RateBuckets(store, calls_per_minute={})
        self._chance = random.Random(plan.seed)
        self._page = load_zalo_config(Path(str(hub.state.zalo_config))).pages[0]
        self.killed: Counter[str] = Counter()
        self.pauses = 0

    async def run(self) -> Verdict:
        """Prepare, send, break, wait, judge."""
        await self._fill()
        started = time.monotonic()
        mood = {"mood": "reply_lost", "probability": self._plan.lost, "page": self._page.page}
        if self._plan.lost:
            await self._post("/control/moods", mood)
        now = await self._store.server_now()
        new = replace(approved(BROADCAST, at=now, people=self._plan.followers), version=0)
        assert await self._broadcasts.create(new)
        await self._break_it()
        await self._until_done()
        await asyncio.to_thread(self._hub.wait_ready)
        progress = await self._until_settled()
        return await self._judge(progress, time.monotonic() - started)

    # Preparing

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        async with self._simulator.post(path, json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def _fill(self) -> None:
        """Followers on both sides; ours as the webhooks of their follows would have left them."""
        body = {
            "page": self._page.page,
            "count": self._plan.followers,
            "prefix": PREFIX,
            "last_interaction_hours_ago": 1,
        }
        await self._post("/control/followers", body)
        at = await self._store.server_now()
        documents: list[Document] = []
        for number in range(1, self._plan.followers + 1):
            user_id = ids.user_id(SEED_OF_SIMULATOR, self._page.oa_id, f"{PREFIX}{number}")
            by_app = ids.user_id_by_app(SEED_OF_SIMULATOR, self._page.app_id, f"{PREFIX}{number}")
            documents.append(
                {
                    "_id": citizen_key(self._page.oa_id, user_id),
                    "person": person_of(by_app),
                    "user_id_by_app": by_app,
                    "oa_id": self._page.oa_id,
                    "page": self._page.page,
                    "user_id": user_id,
                    "followed_at": at,
                    "is_follower": True,
                    "last_interaction_at": at,
                }
            )
        for start in range(0, len(documents), 2_000):
            await insert_new(self._store["contacts"], documents[start : start + 2_000])

    # Breaking

    async def _break_it(self) -> None:
        """Kills and pauses in random order, each when a further share of the audience is decided."""
        events = [what for what, count in self._plan.kills.items() for _ in range(count)]
        events += ["pause"] * self._plan.pauses
        self._chance.shuffle(events)
        shares = [BROKEN_SHARE * (number + self._chance.random()) / len(events) for number in range(len(events))]
        for event, share, next_share in zip(events, shares, [*shares[1:], 1.0], strict=True):
            if not await self._until_share(share):
                return
            if event == "pause":
                await self._pause()
            else:
                await self._kill(event, next_share)

    def _is_decided(self, share: float, progress: Progress | None) -> bool:
        if progress is None or not progress.people:
            return False
        return progress.people - progress.states["queued"] >= share * self._plan.followers

    async def _until_share(self, share: float) -> bool:
        """Wait until this share is decided; False if it is over before."""
        while not self._is_decided(share, await self._progress()):
            if await self._state() == "done":
                return False
            await asyncio.sleep(0.1)
        return True

    async def _kill(self, kind: str, next_share: float) -> None:
        victim = await asyncio.to_thread(self._victim, kind)
        self._say(f"kill -9 {victim}")
        await asyncio.to_thread(self._hub.kill, victim)
        self.killed[kind] += 1
        # The next kill hits a hub that is whole, but for the replica that is just coming back.
        if kind != "notifier" or self._chance.random() < 0.5:
            await self._until_whole(victim, next_share)

    def _victim(self, kind: str) -> str:
        """One that runs: the last victim may be on its way back still."""
        names = [name for name in self._hub.programs if name == kind or name.startswith(f"{kind}-")]
        while not (running := [name for name in names if self._hub.pid(name)]):
            time.sleep(0.1)
        return self._chance.choice(running)

    async def _until_whole(self, victim: str, next_share: float) -> None:
        """Wait for a victim; where the next event is due before, Zalo wants the page to wait as well."""
        coming = asyncio.create_task(asyncio.to_thread(self._hub.wait_ready, victim))
        while not coming.done():
            if self._is_decided(next_share, await self._progress()):
                with suppress(StoreUnavailable):  # without its database the page sends nothing either
                    await self._rates.block([page_bucket(self._page.oa_id)], seconds=THROTTLED_SECONDS)
            await asyncio.wait([coming], timeout=THROTTLED_SECONDS / 4)
        await coming

    async def _pause(self) -> None:
        if not await self._do("pause", "paused"):
            return
        self._say("paused")
        await asyncio.sleep(0.5 + self._chance.random())
        if await self._do("resume", "running"):
            self.pauses += 1

    async def _do(self, action: Literal["pause", "resume"], wanted: BroadcastState) -> bool:
        """A person's act, over whatever version there is; False where it is too late for it."""
        while True:
            try:
                broadcast = await self._broadcasts.read(BROADCAST)
                assert broadcast is not None
                if broadcast.state == wanted:  # an act of ours whose answer was lost
                    return True
                if broadcast.state not in {"running", "paused"}:
                    return False
                changed = done(act(broadcast, action, by="an", at=await self._store.server_now()))
                if await self._broadcasts.save(changed):
                    return True
            except StoreUnavailable:
                await asyncio.sleep(0.2)

    # Waiting

    async def _progress(self) -> Progress | None:
        try:
            progress = await self._ledger.progress(BROADCAST)
        except StoreUnavailable:
            return None
        if self._plan.shows_progress:
            decided = progress.people - progress.states["queued"]
            filled = 40 * decided // max(progress.people, 1)
            counts = " ".join(f"{state} {count:,}" for state, count in progress.states.items() if count)
            print(f"\r[{'█' * filled}{'·' * (40 - filled)}] {counts}\033[K", end="", file=sys.stderr, flush=True)
        return progress

    def _say(self, what: str) -> None:
        if self._plan.shows_progress:
            print(f"\r\033[K{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)

    async def _state(self) -> str | None:
        try:
            return await self._broadcasts.state_of(BROADCAST)
        except StoreUnavailable:
            return None

    async def _until_done(self) -> None:
        deadline = time.monotonic() + 120 + self._plan.followers / 50
        while await self._state() != "done":
            await self._progress()
            assert time.monotonic() < deadline, "the broadcast does not come to its end"
            await asyncio.sleep(0.3)

    async def _until_settled(self) -> Progress:
        """Wait until nothing is in doubt or to be sent again, or nothing changes any more."""
        last, since = -1, time.monotonic()
        while True:
            progress = await self._progress()
            if progress is not None:
                is_open = sum(progress.states[state] for state in ("uncertain", "queued", "sending"))
                if is_open != last:
                    last, since = is_open, time.monotonic()
                if is_open == 0 or (
                    time.monotonic() - since > self._plan.still_seconds and not await self._webhooks_wait()
                ):
                    return progress
            await asyncio.sleep(0.5)

    async def _webhooks_wait(self) -> bool:
        async with self._simulator.get("/control/state") as answer:
            webhooks = (await answer.json())["webhooks"]
        return bool(webhooks["queued"] or webhooks["in_flight"])

    # Judging

    async def _judge(self, progress: Progress, seconds: float) -> Verdict:
        copies, lost = await self._copies()
        rows = (
            await self._store["recipients"]
            .find({"broadcast_id": BROADCAST}, {"citizen_key": 1, "state": 1, "settled_by": 1})
            .to_list(None)
        )
        state_of = {row["citizen_key"]: row["state"] for row in rows}
        verdict = Verdict(
            plan=self._plan,
            states=progress.states,
            reasons=progress.reasons,
            people=progress.people,
            killed=self.killed,
            pauses=self.pauses,
            copies=sum(copies.values()),
            settled_by=Counter(row["settled_by"] for row in rows if row.get("settled_by")),
            lost_answers=lost,
            seconds=seconds,
            servers=f"{KAFKA_TITLE} × {self._plan.kafka_nodes}, {mongo_product(str(self._hub.state.mongo))}",
        )
        faults = verdict.faults
        if self.killed != Counter(self._plan.kills) or self.pauses != self._plan.pauses:
            made = f"{dict(self.killed)} and {self.pauses} pauses"
            faults.append(f"only {made} were made of {dict(self._plan.kills)} and {self._plan.pauses}")
        if doubled := [key for key, count in copies.items() if count > 1]:
            faults.append(f"{len(doubled)} followers have more than one copy")
        if sum(progress.states.values()) != progress.people or progress.people != self._plan.followers:
            faults.append(f"the counts {dict(progress.states)} do not add up to {self._plan.followers}")
        if Counter(state_of.values()) != Counter({s: n for s, n in progress.states.items() if n}):
            faults.append("the counters differ from the rows")
        if unsettled := [key for key in copies if state_of.get(key) != "sent"]:
            kinds = dict(Counter(state_of.get(key) for key in unsettled))
            faults.append(f"{len(unsettled)} followers have a copy and are not sent: {kinds}")
        if claimed := [key for key, state in state_of.items() if state == "sent" and key not in copies]:
            faults.append(f"{len(claimed)} are sent without a copy")
        if others := {s: n for s, n in progress.states.items() if n and s != "sent"}:
            faults.append(f"not sent: {others} {dict(progress.reasons)}")
        return verdict

    async def _copies(self) -> tuple[Counter[str], int]:
        """Copies by citizen that Zalo took, and answers it lost, by its own log."""
        copies: Counter[str] = Counter()
        lost = after = 0
        while True:
            parameters: dict[str, str | int] = {"after": after, "limit": 50_000, "kind": "api"}
            async with self._simulator.get("/control/log", params=parameters) as answer:
                page = await answer.json()
            for item in page["items"]:
                if item["path"] == "/v3.0/oa/message/cs" and item["applied"] and item["text"] == TEXT:
                    copies[citizen_key(self._page.oa_id, item["user_id"])] += 1
                    lost += "reply_lost" in str(item.get("moods", ""))
            if page["next"] >= page["last"]:
                return copies, lost
            after = page["next"]


async def conduct(plan: Plan, hub: RunningHub) -> Verdict:
    """Run a campaign on a hub that `environment_of(plan)` was made for."""
    await asyncio.to_thread(hub.scale, notifier=plan.replicas)
    await asyncio.to_thread(hub.wait_ready)
    settings = HubSettings.model_validate({"mongo_uri": str(hub.state.mongo)})
    store = open_store(settings)
    try:
        async with aiohttp.ClientSession(base_url=hub.state.simulator) as simulator:
            return await Campaign(hub, plan, simulator, store).run()
    finally:
        await store.close()


def environment_of(plan: Plan, folder: Path) -> dict[str, str]:
    """Settings of the hub: short leases, so that what a dead replica held is free soon.

    Args:
        plan: of the campaign.
        folder: empty; gets the product's data, with another time after which Zalo's lists prove absence.
    """
    for one in DATA_DIR.iterdir():
        if one.name != "delivery":
            (folder / one.name).symlink_to(one)
    shutil.copytree(DATA_DIR / "delivery", folder / "delivery")
    retries = folder / "delivery" / "retries.yaml"
    rules = yaml.safe_load(retries.read_text("utf-8"))
    retries.write_text(yaml.safe_dump(rules | {"look_up": {"reply": LOOK_UP, "copy": LOOK_UP}}), "utf-8")
    return {
        "DATA_DIR": str(folder),
        "SIMULATOR_RATE_LIMIT_PER_MINUTE": "0",
        "SIMULATOR_LOG_ENTRIES": "2000000",
        "SIMULATOR_SEED": str(SEED_OF_SIMULATOR),
        "SIMULATOR_TIME_SCALE": "0.02",
        "APP_CALLS_PER_MINUTE": str(plan.per_minute),
        "PAGE_CALLS_PER_MINUTE": str(plan.per_minute),
        "BROADCAST_WAVE": str(plan.wave),
        "BROADCAST_WORKERS": str(WORKERS),
        "BROADCAST_CHUNK_PERSONS": str(max(50, min(700, plan.followers // 12))),
        "SEND_LEASE_SECONDS": "15",
    }


def main() -> int:
    """Run one campaign and print its verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.broadcast", description=__doc__.split("\n")[0])
    parser.add_argument("--followers", type=int, default=59_881)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--kafka-nodes", type=int, choices=[1, 3], default=3)
    parser.add_argument("--kill", nargs="*", default=["notifier=12", "kafka=3", "mongo=3"], metavar="WHAT=TIMES")
    parser.add_argument("--pauses", type=int, default=10)
    parser.add_argument("--lost", type=float, default=0.01, help="share of answers lost after the message was taken")
    parser.add_argument("--per-minute", type=int, default=40_000, help="calls a minute of the page and the app")
    parser.add_argument("--wave", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20261127)
    arguments = parser.parse_args()
    plan = Plan(
        followers=arguments.followers,
        replicas=arguments.replicas,
        kafka_nodes=arguments.kafka_nodes,
        kills={what: int(times) for what, _, times in (one.partition("=") for one in arguments.kill)},
        pauses=arguments.pauses,
        lost=arguments.lost,
        per_minute=arguments.per_minute,
        wave=arguments.wave,
        seed=arguments.seed,
        shows_progress=sys.stderr.isatty() or bool(os.environ.get("CAMPAIGN_PROGRESS")),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        running_hub(kafka_nodes=plan.kafka_nodes, environment=environment_of(plan, Path(folder))) as hub,
    ):
        verdict = asyncio.run(conduct(plan, hub))
    print(f"\n{verdict.table}")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
