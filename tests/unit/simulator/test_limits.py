"""What a package allows: quotas that come back on their day, caps by day and month, limits of calls, who pays."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from simulator.limits import Tally, last_renewal, local_day, next_renewal
from simulator.settings import SettingsError, load_zalo_config
from simulator.world import Page
from tests.unit.simulator.live import OA_IDS, WARD, Live, Receiver, running, settings_for, write_config
from tests.unit.simulator.test_articles import Editor, an_article

MORNING = datetime(2026, 11, 24, 3, tzinfo=UTC)  # 10:00 in Vietnam
DAY_SECONDS = 86_400
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


class Desk:
    """A page that goes on sending over weeks: its token is always fresh."""

    def __init__(self, live: Live) -> None:
        self.live = live

    @property
    def page(self) -> Page:
        return self.live.simulator.world.page(WARD)

    @property
    def headers(self) -> dict[str, str]:
        return {"access_token": self.live.simulator.tokens.issue(self.page).access_token}

    async def at(self, moment: datetime) -> None:
        await self.live.post("/control/clock", {"now": moment.isoformat()})

    async def later(self, seconds: float) -> None:
        await self.live.post("/control/clock", {"shift_seconds": seconds})

    async def post(self, path: str, body: Any) -> dict[str, Any]:
        return await self.live.post(path, body, headers=self.headers)

    async def somebody_silent_for(self, hours: float) -> str:
        who = {"page": WARD, "citizen": "0901", "last_interaction_hours_ago": hours}
        return str((await self.live.post("/control/people", who))["user_id"])

    async def answer(self, user_id: str) -> dict[str, Any]:
        body = {"recipient": {"user_id": user_id}, "message": {"text": "đáp"}}
        return await self.post("/v3.0/oa/message/cs", body)

    async def promote(self, user_id: str) -> int:
        data = {"name": "An", "event": "ngày hội", "place": "phường"}
        body = {"user_id": user_id, "template_id": "200004", "template_data": data}
        return int((await self.post("/v3.0/oa/message/template", body))["error"])


@pytest.fixture
async def desk(live: Live) -> Desk:
    desk = Desk(live)
    await desk.at(MORNING)
    return desk


@pytest.mark.parametrize(
    ("day", "renews_on", "last", "following"),
    [
        (date(2026, 11, 24), 1, date(2026, 11, 1), date(2026, 12, 1)),
        (date(2026, 11, 24), 25, date(2026, 10, 25), date(2026, 11, 25)),
        (date(2026, 12, 31), 28, date(2026, 12, 28), date(2027, 1, 28)),
        (date(2027, 1, 5), 28, date(2026, 12, 28), date(2027, 1, 28)),
    ],
)
def test_a_package_month_begins_on_its_own_day(day: date, renews_on: int, last: date, following: date) -> None:
    assert (last_renewal(day, renews_on), next_renewal(day, renews_on)) == (last, following)


def test_a_tally_forgets_yesterday_and_last_month() -> None:
    tally = Tally()
    for day in (date(2026, 11, 29), date(2026, 11, 30), date(2026, 11, 30)):
        tally.count(day)
    assert tally.read(date(2026, 11, 30)) == (2, 3)
    assert tally.read(date(2026, 12, 1)) == (0, 0)


def test_the_day_is_vietnams() -> None:
    assert local_day(datetime(2026, 11, 30, 17, 30, tzinfo=UTC)) == date(2026, 12, 1)


async def test_the_package_quota_is_full_again_on_its_day(desk: Desk) -> None:
    await desk.live.post(f"/control/pages/{WARD}", {"sub_quota_remain": 1})
    quota = (await desk.answer(await desk.somebody_silent_for(60)))["data"]["quota"]
    assert quota == {"quota_type": "sub_quota", "remain": "0", "total": "500", "expired_date": "01/12/2026"}
    await desk.later(8 * DAY_SECONDS)
    asset = {"quota_owner": "OA", "product_type": "cs", "quota_type": "sub_quota"}
    [left] = (await desk.post("/v3.0/oa/quota/message", asset))["data"]
    assert (left["remain"], left["valid_through"]) == ("500", "01/01/2027")


async def test_reward_and_bought_messages_are_used_before_anybody_is_billed(desk: Desk) -> None:
    left = {"sub_quota_remain": 0, "reward_quota": 1, "purchase_quota": 1}
    await desk.live.post(f"/control/pages/{WARD}", left)
    user_id = await desk.somebody_silent_for(60)
    answers = [(await desk.answer(user_id))["data"].get("quota", {}) for _ in range(3)]
    assert [quota.get("quota_type") for quota in answers] == ["reward_quota", "purchase_quota", None]
    assert (answers[1]["owner_type"], answers[1]["owner_id"]) == ("OA", OA_IDS[WARD])
    assert desk.page.app.billed_vnd == 55


async def test_without_money_a_message_that_costs_some_is_refused_and_a_free_one_is_not(desk: Desk) -> None:
    await desk.live.post(f"/control/pages/{WARD}", {"sub_quota_remain": 0})
    user_id = await desk.somebody_silent_for(60)
    await desk.live.post("/control/billing", {"balance_vnd": 100})
    assert [(await desk.answer(user_id))["error"] for _ in range(2)] == [0, -321]
    await desk.live.post("/control/billing", {"has_account": False})
    assert (await desk.answer(user_id))["error"] == -320
    assert len((await desk.live.get(f"/control/conversations/{WARD}/{user_id}"))["items"]) == 1
    await desk.live.write("hỏi")
    assert (await desk.answer(user_id))["data"]["quota"] == {"quota_type": "reply"}


async def test_a_template_by_phone_is_always_paid_for(desk: Desk) -> None:
    await desk.live.post("/control/billing", {"has_account": False})
    data = {"name": "An", "code": "HS-1", "place": "phường"}
    body = {"phone": "84900000001", "template_id": "200001", "template_data": data}
    assert (await desk.post("/message/template", body))["error"] == -320


async def test_a_person_gets_one_promotion_a_day_and_four_a_month_by_day_only(desk: Desk) -> None:
    await desk.at(datetime(2026, 11, 2, 3, tzinfo=UTC))
    user_id = await desk.somebody_silent_for(1)
    assert [await desk.promote(user_id) for _ in range(2)] == [0, -218]
    for _ in range(3):
        await desk.later(DAY_SECONDS)
        assert await desk.promote(user_id) == 0
    await desk.later(DAY_SECONDS)
    assert await desk.promote(user_id) == -218
    seen = (await desk.post("/v3.0/oa/quota/message", {"user_id": user_id}))["data"]["promotion"]
    assert seen == {"daily_total": 1, "daily_remain": 1, "monthly_total": 4, "monthly_remain": 0}
    await desk.at(datetime(2026, 12, 1, 3, tzinfo=UTC))
    assert await desk.promote(user_id) == 0
    await desk.at(datetime(2026, 12, 2, 16, tzinfo=UTC))  # 23:00 in Vietnam
    assert await desk.promote(user_id) == -234


async def test_articles_of_a_month_run_out_and_come_back(desk: Desk) -> None:
    for _ in range(desk.page.package.articles_a_month):
        desk.page.articles_made.count(local_day(desk.live.simulator.clock.now()))
    answer = await desk.post("/v2.0/article/create", an_article())
    assert answer == {"error": -223, "message": "Official Account has reached article quota"}
    await desk.at(datetime(2026, 12, 1, 3, tzinfo=UTC))
    assert (await desk.post("/v2.0/article/create", an_article()))["error"] == 0


async def test_a_broadcast_arrives_after_its_review(desk: Desk) -> None:
    await desk.live.post("/control/followers", {"page": WARD, "count": 3})
    editor = Editor(desk.live, desk.headers["access_token"])
    await editor.broadcast(await editor.publish())
    [waiting] = await editor.broadcasts()
    assert (waiting["is_delivered"], waiting["delivered"]) == (False, 0)
    await desk.later(1_790)
    assert not (await editor.broadcasts())[0]["is_delivered"]
    await desk.later(11)
    assert (await editor.broadcasts())[0]["delivered"] == 3


async def test_a_follower_gets_no_more_broadcasts_a_month_than_the_package_allows(desk: Desk) -> None:
    await desk.at(datetime(2026, 11, 1, 3, tzinfo=UTC))
    await desk.live.post("/control/followers", {"page": WARD, "count": 5})
    for _ in range(6):
        editor = Editor(desk.live, desk.headers["access_token"])
        await editor.broadcast(await editor.publish())
        await desk.later(DAY_SECONDS)
    sent = await editor.broadcasts()
    assert [(one["delivered"], one["held_back"]) for one in sent] == [(5, 0)] * 4 + [(0, 5)] * 2
    await desk.at(datetime(2026, 12, 1, 3, tzinfo=UTC))
    editor = Editor(desk.live, desk.headers["access_token"])
    await editor.broadcast(await editor.publish())
    await desk.later(1_800)
    assert (await editor.broadcasts())[-1]["delivered"] == 5


async def test_uploads_of_a_month_run_out(tmp_path: Path, hub: Receiver) -> None:
    async with running(settings_for(tmp_path, webhook_url=hub.url, uploads_per_month=2)) as live:
        headers = {"access_token": await live.token()}
        codes = []
        for _ in range(3):
            form = aiohttp.FormData()
            form.add_field("file", PNG, filename="a.png")
            async with live.http.post(f"{live.url}/v2.0/oa/upload/image", data=form, headers=headers) as answer:
                codes.append((await answer.json())["error"])
        assert codes == [0, 0, -211]


async def test_a_page_has_a_rate_limit_beside_its_apps(live: Live) -> None:
    await live.post("/control/clock", {"now": "2026-11-24T03:00:01+00:00"})
    await live.post(f"/control/pages/{WARD}", {"rate_limit_per_minute": 2})
    headers = {"access_token": await live.token()}
    answers = []
    for _ in range(3):
        async with live.http.get(f"{live.url}/v2.0/oa/getoa", headers=headers) as answer:
            answers.append((await answer.json(), answer.headers["X-RateLimit-Remain"]))
    assert [(body["error"], left) for body, left in answers] == [(0, "1"), (0, "0"), (-32, "0")]
    assert answers[-1][0]["message"] == "Your OA reached limit call api"
    other = live.simulator.tokens.issue(live.simulator.world.page("district")).access_token
    assert (await live.get("/v2.0/oa/getoa", headers={"access_token": other}))["error"] == 0


async def test_too_many_requests_may_come_as_http_429(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    await live.post("/control/moods", {"mood": "http_429", "count": 1})
    body = {"recipient": {"user_id": user_id}, "message": {"text": "đáp"}}
    async with live.http.post(f"{live.url}/v3.0/oa/message/cs", json=body, headers={"access_token": token}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (429, -32)
    assert (await live.send(token, user_id, "đáp"))["error"] == 0


async def test_the_status_of_a_message_is_answered_to_both_ways_of_asking(live: Live) -> None:
    token, written = await live.token(), await live.write("hỏi")
    headers = {"access_token": token}
    message_id = (await live.send(token, written["user_id"], "đáp"))["data"]["message_id"]
    path = "/v3.0/oa/message/status"
    asked = await live.post(path, {"message_id": message_id}, headers=headers)
    assert (asked["data"]["status"], asked["data"]["user_id"]) == ("sent", written["user_id"])
    await live.post("/control/receipts", {"page": WARD, "citizen": "0901", "msg_ids": [message_id], "seen": True})
    data = {"data": f'{{"message_id": "{message_id}"}}'}
    assert (await live.get(path, params=data, headers=headers))["data"]["status"] == "seen"
    assert (await live.post(path, {"message_id": written["msg_id"]}, headers=headers))["error"] == -201
    assert (await live.post(path, {"message_id": "unknown"}, headers=headers))["error"] == -201


async def test_what_was_used_up_survives_a_restart(tmp_path: Path, hub: Receiver) -> None:
    settings = settings_for(tmp_path, webhook_url=hub.url)
    async with running(settings) as live:
        await live.post(f"/control/pages/{WARD}", {"sub_quota_remain": 7, "purchase_quota": 3})
        await live.post("/control/billing", {"balance_vnd": 1_000})
        today = local_day(live.simulator.clock.now())
        page = live.simulator.world.page(WARD)
        page.articles_made.count(today)
        page.app.uploads.count(today)
    async with running(settings) as live:
        page = live.simulator.world.page(WARD)
        assert (page.sub_quota_remain, page.purchase_quota, page.app.balance_vnd) == (7, 3, 1_000)
        assert (page.articles_made.read(today), page.app.uploads.read(today)) == ((1, 1), (1, 1))
        await live.post("/control/reset")
        page = live.simulator.world.page(WARD)
        assert (page.sub_quota_remain, page.purchase_quota, page.app.balance_vnd) == (500, 0, None)


def test_a_package_that_does_not_exist_stops_the_start(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    document = yaml.safe_load(path.read_text("utf-8"))
    document["pages"][0]["package"] = "gold"
    path.write_text(yaml.safe_dump(document), "utf-8")
    with pytest.raises(SettingsError, match="no package gold"):
        load_zalo_config(path)
