"""What the article sender relies on: its store (stand-in and real one), and Zalo's article API (the simulator)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.notifier.adapters.article_store import ArticleStore
from services.notifier.adapters.clock import ServerClock
from services.notifier.adapters.zalo import ZaloClient
from services.notifier.domain.articles import ArticleSend
from services.notifier.domain.broadcast import ArticleContent
from services.notifier.domain.outcomes import Accepted, Got, Refused, Statistics
from services.notifier.handlers.ports import Clock
from services.notifier.handlers.send_articles import ArticleRows
from shared.zalo_config import ZaloConfig
from tests.factories import NOW
from tests.unit.notifier.fake_articles import FakeArticleRows
from tests.unit.notifier.fakes import RULES, ManualClock
from tests.unit.notifier.samples import eventually
from tests.unit.notifier.stores import fresh_store
from tests.unit.simulator.live import APP_ID, APP_SECRET, OA_IDS, WARD, running, settings_for

LEASE = timedelta(seconds=0.2)
TODAY = NOW.replace(hour=0)


@dataclass
class Shelf:
    """The rows and their clock."""

    rows: ArticleRows
    clock: Clock

    async def one(self, page: str = WARD, broadcast_id: str = "b1") -> ArticleSend:
        return next(send for send in await self.rows.of_broadcast(broadcast_id) if send.page == page)

    async def claimed(self, *, now: datetime = NOW, owner: str = "me") -> ArticleSend:
        send = await self.rows.claim(owner=owner, now=now)
        assert send is not None
        return send

    async def lease_is_over(self) -> datetime:
        """A moment after every lease that was given."""
        if isinstance(self.clock, ManualClock):
            self.clock.advance(1)
            return self.clock.now()
        start = self.clock.now()
        await eventually(lambda: self.clock.now() - start > LEASE + timedelta(seconds=0.1))
        return self.clock.now()


@pytest.fixture(params=["fake", "motor", "pymongo"])
async def shelf(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Shelf]:
    if request.param == "fake":
        clock = ManualClock()
        yield Shelf(FakeArticleRows(clock, lease=LEASE), clock)
        return
    async with fresh_store(mongo_uri, request.param) as store:
        server_clock = ServerClock(store)
        await server_clock.measure()
        yield Shelf(ArticleStore(store, lease=LEASE), server_clock)


def a_send(page: str = WARD, broadcast_id: str = "b1", **changes: Any) -> ArticleSend:
    send = ArticleSend(f"{broadcast_id}:{page}", broadcast_id, page, "4", "1", followers=7, step_at=NOW)
    return replace(send, **changes)


async def test_rows_are_kept_once_and_come_by_page(shelf: Shelf) -> None:
    await shelf.rows.add([a_send("b"), a_send("a")])
    await shelf.rows.add([a_send("a", followers=99), a_send("c"), a_send("a", "b2")])

    assert await shelf.rows.of_broadcast("b1") == [a_send("a"), a_send("b"), a_send("c")]


async def test_a_row_is_claimed_by_one_when_it_is_due(shelf: Shelf) -> None:
    await shelf.rows.add([a_send()])
    assert await shelf.rows.claim(owner="early", now=NOW - timedelta(seconds=1)) is None

    claims = await asyncio.gather(*(shelf.rows.claim(owner=f"o{n}", now=NOW) for n in range(4)))

    assert sum(claim is not None for claim in claims) == 1


async def test_an_outcome_is_kept_and_a_late_one_of_another_owner_is_not(shelf: Shelf) -> None:
    await shelf.rows.add([a_send()])
    send = await shelf.claimed()

    await shelf.rows.record(replace(send, owner="late"), {"state": "failed", "reason": "x.y"})
    await shelf.rows.record(send, {"state": "queued", "step": "verify", "step_at": NOW, "token": "t", "due_at": NOW})
    await shelf.rows.record(send, {"state": "failed", "reason": "x.y"})

    kept = await shelf.one()
    assert (kept.state, kept.step, kept.token, kept.reason) == ("queued", "verify", "t", None)


@pytest.mark.parametrize(
    ("step", "is_called", "state"),
    [
        ("create", False, "queued"),
        ("create", True, "uncertain"),
        ("verify", True, "queued"),
        ("broadcast", True, "uncertain"),
        ("broadcast", False, "queued"),
    ],
)
async def test_a_claim_that_nobody_recorded_is_repeated_only_where_that_is_safe(
    shelf: Shelf, step: Any, is_called: bool, state: str
) -> None:
    await shelf.rows.add([a_send(step=step)])
    send = await shelf.claimed()
    if is_called:
        assert await shelf.rows.mark_called(send, now=NOW)
    await shelf.rows.expire_leases(now=NOW)
    assert (await shelf.one()).state == "calling"

    await shelf.rows.expire_leases(now=await shelf.lease_is_over())

    assert (await shelf.one()).state == state
    assert not await shelf.rows.mark_called(send, now=NOW)


@pytest.mark.parametrize(
    ("step", "is_sent", "settled", "state"),
    [
        ("broadcast", True, True, "sent"),
        ("broadcast", False, True, "failed"),
        ("create", True, False, "uncertain"),  # nobody can have seen it
        ("create", False, True, "failed"),
    ],
)
async def test_a_person_settles_an_uncertain_page_once(
    shelf: Shelf, step: Any, is_sent: bool, settled: bool, state: str
) -> None:
    await shelf.rows.add([a_send(step=step), a_send(broadcast_id="b2", step="broadcast")])
    assert not await shelf.rows.settle("b1", WARD, is_sent=is_sent, by="an", now=NOW)
    send = next(one for one in [await shelf.claimed(), await shelf.claimed()] if one.broadcast_id == "b1")
    await shelf.rows.mark_called(send, now=NOW, day_slot="s")
    await shelf.rows.expire_leases(now=await shelf.lease_is_over())

    assert await shelf.rows.settle("b1", WARD, is_sent=is_sent, by="an", now=NOW) is settled
    assert (await shelf.one()).state == state
    assert not await shelf.rows.settle("b1", WARD, is_sent=is_sent, by="an", now=NOW)
    assert await shelf.rows.sent_since(WARD, TODAY) == (0 if state == "failed" else 1)
    assert len(await shelf.rows.to_collect(now=NOW + timedelta(hours=1), limit=5)) == (1 if state == "sent" else 0)


@pytest.mark.parametrize(
    ("step", "taken"),
    [
        ("broadcast", {"state": "sent", "reason": None, "message_id": "m", "sent_at": NOW}),
        ("create", {"state": "queued", "step": "verify", "step_at": NOW, "token": "t", "due_at": NOW}),
    ],
)
async def test_what_zalo_took_is_kept_after_its_lease(shelf: Shelf, step: Any, taken: dict[str, Any]) -> None:
    await shelf.rows.add([a_send(step=step)])
    send = await shelf.claimed()
    await shelf.rows.mark_called(send, now=NOW, day_slot="s")
    await shelf.rows.expire_leases(now=await shelf.lease_is_over())
    await shelf.rows.record(send, {"state": "failed", "reason": "x.y"})
    assert (await shelf.one()).state == "uncertain"

    await shelf.rows.record(send, taken)

    kept = await shelf.one()
    assert (kept.state, kept.message_id, kept.token) == (taken["state"], taken.get("message_id"), taken.get("token"))


async def test_a_days_slot_is_one_broadcasts_until_zalo_refuses_it(shelf: Shelf) -> None:
    await shelf.rows.add([a_send(step="broadcast"), a_send(broadcast_id="b2", step="broadcast")])
    first, second = await shelf.claimed(), await shelf.claimed()
    assert await shelf.rows.sent_since(WARD, TODAY) == 0

    assert await shelf.rows.mark_called(first, now=NOW, day_slot="day 1")
    assert not await shelf.rows.mark_called(second, now=NOW, day_slot="day 1")
    assert await shelf.rows.sent_since(WARD, TODAY) == 1
    assert await shelf.rows.sent_since(WARD, NOW + timedelta(hours=1)) == 0
    assert await shelf.rows.sent_since("another", TODAY) == 0

    await shelf.rows.record(first, {"state": "failed", "reason": "zalo.x"})
    assert await shelf.rows.sent_since(WARD, TODAY) == 0
    assert await shelf.rows.mark_called(second, now=NOW, day_slot="day 1")


async def test_a_cancelled_broadcasts_rows_end_unless_they_are_under_way(shelf: Shelf) -> None:
    await shelf.rows.add([a_send("a"), a_send("b")])
    under_way = await shelf.claimed()

    await shelf.rows.cancel("b1")

    states = {send.page: send.state for send in await shelf.rows.of_broadcast("b1")}
    assert states.pop(under_way.page) == "calling"
    assert list(states.values()) == ["skipped"]


async def test_views_and_shares_are_looked_up_when_it_is_time(shelf: Shelf) -> None:
    await shelf.rows.add([a_send(step="broadcast")])
    later = NOW + timedelta(minutes=2)
    await shelf.rows.record(await shelf.claimed(), {"state": "sent", "sent_at": NOW, "collect_at": later})
    assert await shelf.rows.to_collect(now=NOW, limit=5) == []
    (found,) = await shelf.rows.to_collect(now=later, limit=5)

    await shelf.rows.keep_statistics(found.id, views=12, shares=3, now=later, next_at=None)

    assert await shelf.rows.to_collect(now=later + timedelta(days=99), limit=5) == []
    kept = await shelf.one()
    assert (kept.views, kept.shares, kept.collected_at) == (12, 3, later)

    await shelf.rows.keep_statistics(found.id, views=None, shares=None, now=later, next_at=later)
    assert (await shelf.one()).views == 12


# Zalo's side

CONTENT = ArticleContent.model_validate(
    {
        "title": "Phòng cháy mùa khô",
        "description": "Ba việc nên làm ngay",
        "author": "Công an phường",
        "cover_url": "https://example.org/a.jpg",
        "body": [
            {"type": "text", "content": "Kiểm tra bình gas."},
            {"type": "image", "content": "https://example.org/b.jpg"},
        ],
        "target": {"ages": [3, 4], "gender": [0]},
    }
)
DAY = "2026-11-24T03:00:00+00:00"


async def test_zalo_takes_our_article_from_its_creation_to_its_views(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as live:
        await live.post("/control/clock", {"now": DAY})
        await live.post("/control/followers", {"page": WARD, "count": 40})
        token = await live.token()
        config = ZaloConfig.model_validate(
            {
                "oa_api_url": live.url,
                "apps": [{"app_id": APP_ID, "app_secret": APP_SECRET, "oa_secret_keys": ["k"]}],
                "pages": [{"page": WARD, "oa_id": OA_IDS[WARD], "app_id": APP_ID}],
            }
        )
        whose = {"app_id": APP_ID, "access_token": token}
        async with ZaloClient(
            config, RULES.errors, timeout_seconds=5, connect_timeout_seconds=2, connections=2
        ) as zalo:
            created = await zalo.create_article(CONTENT, **whose)
            assert isinstance(created, Got)
            early = await zalo.verify_article(created.value, **whose)
            assert isinstance(early, Refused)
            assert early.rule.reason == "zalo.article_in_process"
            await live.post("/control/clock", {"shift_seconds": 4})

            ready, again = [await zalo.verify_article(created.value, **whose) for _ in range(2)]
            assert isinstance(ready, Got)
            assert ready == again
            assert await zalo.article_statistics("unknown", **whose) is None
            assert await zalo.article_statistics(ready.value, **whose) == Statistics(views=0, shares=0)

            sent = await zalo.broadcast_article(ready.value, {"ages": (3, 4), "gender": (0,)}, **whose)
            assert isinstance(sent, Accepted)
            everybody = await zalo.broadcast_article(ready.value, {}, **whose)
            assert isinstance(everybody, Accepted)

        known = (await live.get(f"/control/pages/{WARD}/broadcasts"))["items"]
        assert [one["message_id"] for one in known] == [sent.message_id, everybody.message_id]
        assert [one["target"] for one in known] == [{"ages": [3, 4]}, {}]


async def test_at_night_zalo_says_so(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as live:
        await live.post("/control/clock", {"now": DAY})
        whose = {"app_id": APP_ID, "access_token": await live.token()}
        config = ZaloConfig.model_validate(
            {
                "oa_api_url": live.url,
                "apps": [{"app_id": APP_ID, "app_secret": APP_SECRET, "oa_secret_keys": ["k"]}],
                "pages": [{"page": WARD, "oa_id": OA_IDS[WARD], "app_id": APP_ID}],
            }
        )
        async with ZaloClient(
            config, RULES.errors, timeout_seconds=5, connect_timeout_seconds=2, connections=2
        ) as zalo:
            created = await zalo.create_article(CONTENT, **whose)
            assert isinstance(created, Got)
            await live.post("/control/clock", {"shift_seconds": 4})
            ready = await zalo.verify_article(created.value, **whose)
            assert isinstance(ready, Got)
            await live.post("/control/clock", {"now": "2026-11-24T16:00:00+00:00"})

            refused = await zalo.broadcast_article(ready.value, {}, **whose)

    assert isinstance(refused, Refused)
    assert refused.rule.reason == "zalo.night"
