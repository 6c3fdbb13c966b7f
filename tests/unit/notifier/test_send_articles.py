"""An article's way to its readers: every call once, every wait for its reason."""

from collections import deque
from datetime import timedelta
from typing import Any

import pytest

from services.notifier.adapters.rate_bucket import Grant
from services.notifier.domain.articles import ArticleSend, after, article_progress, next_look
from services.notifier.domain.broadcast import Broadcast, Draft, act
from services.notifier.domain.outcomes import Accepted, Got, NotSent, Refused, Statistics, Unknown
from services.notifier.domain.rulebook import Rulebook
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.forecast import Forecaster
from services.notifier.handlers.keep_tokens import AccessToken
from services.notifier.handlers.send_articles import ArticleAdapters, ArticleSender
from tests.unit.notifier.api_world import BOOK, DIRECTORY, ZALO, FakeAudience, FakeRecipients, an_article
from tests.unit.notifier.fake_articles import FakeArticleRows
from tests.unit.notifier.fake_broadcasts import FakeBroadcastStore
from tests.unit.notifier.fakes import RULES, ManualClock
from tests.unit.notifier.test_broadcast_domain import a_contact
from tests.unit.notifier.test_lanes import NIGHT, NOON

PAGE = "tan-chanh-hiep"
IN_WORK = Refused(-214, RULES.errors.codes[-214].usual)
BAD_TOKEN = Refused(-216, RULES.errors.codes[-216].usual)
TOO_FAST = Refused(-32, RULES.errors.codes[-32].usual, is_page_limit=True)
FORBIDDEN = Refused(-201, RULES.errors.codes[-201].usual)


class ScriptedZalo:
    """Answers what the test wrote down; otherwise does as it is asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.next: dict[str, deque[Any]] = {name: deque() for name in ("create", "verify", "broadcast", "statistics")}

    def _answer(self, name: str, usual: Any) -> Any:
        self.calls.append(name)
        return self.next[name].popleft() if self.next[name] else usual

    async def create_article(self, content: Any, **_: str) -> Any:  # noqa: ARG002
        return self._answer("create", Got("token"))

    async def verify_article(self, token: str, **_: str) -> Any:
        assert token == "token"
        return self._answer("verify", Got("article"))

    async def broadcast_article(self, article_id: str, target: Any, **_: str) -> Any:  # noqa: ARG002
        assert article_id == "article"
        return self._answer("broadcast", Accepted("message"))

    async def article_statistics(self, article_id: str, **_: str) -> Any:  # noqa: ARG002
        return self._answer("statistics", Statistics(12, 3))


class FakeOffice:
    """Tokens and rate limits of all pages."""

    def __init__(self) -> None:
        self.is_linked = True
        self.tokens_left = 1_000
        self.blocked: list[str] = []

    async def access(self, oa_id: str) -> AccessToken:  # noqa: ARG002
        if not self.is_linked:
            raise TokenUnavailable("token.refused")
        return AccessToken("a", 1)

    async def replace(self, oa_id: str, generation: int) -> AccessToken:  # noqa: ARG002
        return AccessToken("b", generation + 1)

    async def worked(self, oa_id: str, generation: int, *, started_at: Any) -> None: ...

    async def take(self, bucket_id: str, wanted: int, *, reserved_share: float = 0.0) -> Grant:  # noqa: ARG002
        self.tokens_left -= wanted
        return Grant(wanted if self.tokens_left >= 0 else 0, None, 0.1)

    def give_back(self, bucket_id: str, unused: int) -> None: ...

    async def block(self, bucket_ids: Any, *, seconds: float) -> None:  # noqa: ARG002
        self.blocked += bucket_ids


class Desk:
    """A running article broadcast and its sender."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.at = NOON
        self.broadcasts = FakeBroadcastStore()
        self.rows = FakeArticleRows(self.clock)
        self.audience = FakeAudience()
        self.audience.contacts = [a_contact(person=str(n) * 32, reach={"citizen_key": f"4:{n}"}) for n in range(5)]
        self.zalo = ScriptedZalo()
        self.office = FakeOffice()
        self.sender = self.a_sender()

    def a_sender(self) -> ArticleSender:
        forecaster = Forecaster(
            self.audience, FakeRecipients(), self.rows, Rulebook(RULES, BOOK, DIRECTORY), self.clock
        )
        return ArticleSender(
            ArticleAdapters(
                self.broadcasts, self.rows, forecaster, self.office, self.office, self.zalo, ZALO, self.clock
            ),
            poll_seconds=0.01,
        )

    async def begin(self, broadcast_id: str = "b1", **draft: Any) -> None:
        content = an_article(**draft)
        broadcast = Broadcast(broadcast_id, Draft.model_validate(content), "an", created_at=self.clock.now())
        await self.broadcasts.create(broadcast)
        for action in ("preview", "approve", "schedule", "start"):
            changed = act(broadcast, action, by="an" if action != "approve" else "binh", at=self.clock.now())
            assert isinstance(changed, Broadcast)
            broadcast = changed
            await self.broadcasts.save(broadcast)

    async def change(self, action: Any, broadcast_id: str = "b1") -> None:
        changed = act(self.broadcasts.broadcasts[broadcast_id], action, by="an", at=self.clock.now())
        assert isinstance(changed, Broadcast)
        await self.broadcasts.save(changed)

    async def work(self, *, seconds: float = 0, rounds: int = 6) -> None:
        """Let the sender look and work, with some seconds between."""
        for _ in range(rounds):
            await self.sender.look()
            while await self.sender.work_once():
                pass
            self.clock.advance(seconds)

    def row(self, broadcast_id: str = "b1") -> ArticleSend:
        return self.rows.rows[f"{broadcast_id}:{PAGE}"].send

    def state(self, broadcast_id: str = "b1") -> str:
        return self.broadcasts.broadcasts[broadcast_id].state


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_an_article_is_created_verified_broadcast_and_counted(desk: Desk) -> None:
    await desk.begin()

    await desk.work(seconds=4)

    assert desk.zalo.calls == ["create", "verify", "broadcast"]
    row = desk.row()
    assert (row.state, row.article_id, row.message_id, row.followers) == ("sent", "article", "message", 5)
    assert desk.state() == "done"
    snapshot = desk.broadcasts.broadcasts["b1"].snapshot
    assert (snapshot.people, snapshot.chunks, snapshot.is_complete) == (5, 1, True)

    desk.clock.advance(180)
    await desk.sender.collect()
    assert (desk.row().views, desk.row().shares) == (12, 3)
    await desk.sender.collect()
    assert desk.zalo.calls.count("statistics") == 1


async def test_zalo_is_asked_again_while_it_works_on_the_article(desk: Desk) -> None:
    desk.zalo.next["verify"] += [IN_WORK, IN_WORK, Unknown("zalo.answer_lost", "x"), NotSent("y")]
    await desk.begin()

    await desk.work(seconds=60, rounds=8)

    assert desk.zalo.calls == ["create", *["verify"] * 5, "broadcast"]
    assert desk.row().state == "sent"


@pytest.mark.parametrize("step", ["create", "broadcast"])
async def test_after_a_lost_answer_nothing_is_called_again(desk: Desk, step: str) -> None:
    desk.zalo.next[step].append(Unknown("zalo.answer_lost", "x"))
    await desk.begin()

    await desk.work(seconds=600)

    assert desk.zalo.calls.count(step) == 1
    assert (desk.row().state, desk.row().reason) == ("uncertain", "zalo.answer_lost")
    assert desk.state() == "done"
    progress = article_progress([desk.row()])
    assert (progress.people, progress.states["uncertain"]) == (5, 5)


@pytest.mark.parametrize(
    ("step", "refused", "calls"),
    [("create", FORBIDDEN, ["create"]), ("broadcast", FORBIDDEN, ["create", "verify", "broadcast"])],
)
async def test_what_zalo_refuses_for_good_fails(desk: Desk, step: str, refused: Refused, calls: list[str]) -> None:
    desk.zalo.next[step].append(refused)
    await desk.begin()

    await desk.work(seconds=60)

    assert desk.zalo.calls == calls
    assert (desk.row().state, desk.row().reason) == ("failed", "zalo.invalid_parameter")


async def test_what_provably_did_not_happen_is_tried_again(desk: Desk) -> None:
    desk.zalo.next["create"].append(NotSent("no connection"))
    desk.zalo.next["broadcast"] += [TOO_FAST]
    await desk.begin()

    await desk.work(seconds=70, rounds=8)

    assert desk.zalo.calls == ["create", "create", "verify", "broadcast", "broadcast"]
    assert desk.office.blocked == ["page:4"]
    assert desk.row().state == "sent"


async def test_a_dead_token_is_replaced_once(desk: Desk) -> None:
    desk.zalo.next["create"].append(BAD_TOKEN)
    await desk.begin()

    await desk.work(seconds=4)

    assert desk.zalo.calls[:3] == ["create", "create", "verify"]
    assert desk.row().state == "sent"


async def test_a_page_without_a_token_waits_to_be_linked(desk: Desk) -> None:
    desk.office.is_linked = False
    await desk.begin()
    await desk.work()
    assert (desk.zalo.calls, desk.row().state, desk.row().reason) == ([], "queued", "token.refused")

    desk.office.is_linked = True
    await desk.work(seconds=10)
    assert desk.row().state == "sent"


async def test_without_a_free_call_it_waits(desk: Desk) -> None:
    desk.office.tokens_left = 0
    await desk.begin()

    await desk.work()

    assert (desk.zalo.calls, desk.row().state) == ([], "queued")


async def test_at_night_it_waits_for_the_morning(desk: Desk) -> None:
    desk.clock.at = NIGHT
    await desk.begin()
    await desk.work()
    assert (desk.zalo.calls, desk.row().reason) == ([], "broadcast.quiet_hours")

    desk.clock.at = NIGHT + timedelta(hours=8)  # 7:30
    await desk.work(seconds=4)
    assert desk.row().state == "sent"


async def test_a_page_sends_one_a_day_and_the_second_one_tomorrow(desk: Desk) -> None:
    await desk.begin("b1")
    await desk.work(seconds=4)
    await desk.begin("b2")
    await desk.work(seconds=4)
    assert (desk.row("b2").state, desk.row("b2").reason) == ("queued", "article.day_used")
    assert desk.zalo.calls.count("broadcast") == 1

    desk.clock.at = NOON + timedelta(days=1)
    await desk.work(seconds=4)
    assert desk.row("b2").state == "sent"


async def test_two_broadcasts_that_reach_the_page_at_once_share_its_day(desk: Desk) -> None:
    await desk.begin("b1")
    await desk.begin("b2")

    await desk.work(seconds=4, rounds=10)

    assert desk.zalo.calls.count("broadcast") == 1
    assert sorted([desk.row("b1").state, desk.row("b2").state]) == ["queued", "sent"]


async def test_nothing_is_shown_to_followers_who_opted_out_unless_that_was_approved(desk: Desk) -> None:
    elsewhere = a_contact("hiep-thanh", person="3" * 32, reach={"citizen_key": "5:3", "opted_out": True})
    desk.audience.contacts.append(elsewhere)
    await desk.begin("b1")
    await desk.begin("b2", reaches_opted_out=True)

    await desk.work(seconds=4)

    assert (desk.row("b1").state, desk.row("b1").reason) == ("skipped", "article.reaches_opted_out")
    assert desk.row("b2").state == "sent"
    assert desk.state("b1") == "done"


async def test_a_pause_holds_between_two_steps_and_a_cancel_ends(desk: Desk) -> None:
    desk.zalo.next["verify"] += [IN_WORK] * 2
    await desk.begin()
    await desk.work(rounds=2)
    await desk.change("pause")
    await desk.work(seconds=30)
    assert desk.zalo.calls == ["create"]

    await desk.change("resume")
    await desk.work(seconds=6, rounds=1)
    await desk.change("cancel")
    await desk.work(seconds=60)

    assert "broadcast" not in desk.zalo.calls
    assert (desk.row().state, desk.row().reason) == ("skipped", "broadcast.cancelled")


async def test_another_replica_goes_on_after_a_death_before_the_call(desk: Desk) -> None:
    await desk.begin()
    await desk.sender.look()
    await desk.rows.claim(owner="dead", now=desk.clock.now())

    desk.clock.advance(61)
    desk.sender = desk.a_sender()
    await desk.work(seconds=4)

    assert desk.row().state == "sent"
    assert desk.zalo.calls == ["create", "verify", "broadcast"]


@pytest.mark.parametrize(
    ("age", "pause"),
    [(0.5, 2), (5, 15), (24 * 3, 120), (24 * 20, 24 * 60), (24 * 31, None)],
)
def test_views_are_looked_up_less_and_less_often(age: float, pause: float | None) -> None:
    now = NOON + timedelta(hours=age)

    assert next_look(NOON, now) == (None if pause is None else now + timedelta(minutes=pause))


@pytest.mark.parametrize(("step", "before"), [("create", 0), ("broadcast", 2)])
async def test_another_replica_does_not_repeat_a_call_that_a_dead_one_may_have_made(
    desk: Desk, step: Any, before: int
) -> None:
    await desk.begin()
    await desk.sender.look()
    for _ in range(before):
        await desk.sender.work_once()
        desk.clock.advance(5)
    dying = await desk.rows.claim(owner="dead", now=desk.clock.now())
    assert dying is not None
    assert dying.step == step
    assert await desk.rows.mark_called(dying, now=desk.clock.now(), day_slot="x" if step == "broadcast" else None)

    desk.clock.advance(61)
    desk.sender = desk.a_sender()
    await desk.work(seconds=4)

    assert desk.zalo.calls.count(step) == 0
    assert (desk.row().state, desk.row().reason) == ("uncertain", "send.lease_expired")
    assert desk.state() == "done"


async def late_article(desk: Desk, *, after_seconds: float) -> None:
    """One whose call outlives its lease: the broadcast ends without it, then Zalo proves to have made it."""
    await desk.begin()
    await desk.sender.look()
    slow = await desk.rows.claim(owner="slow", now=desk.clock.now())
    assert slow is not None
    assert await desk.rows.mark_called(slow, now=desk.clock.now())
    desk.clock.advance(61)
    await desk.work(seconds=4)
    assert (desk.row().state, desk.state()) == ("uncertain", "done")

    desk.clock.advance(after_seconds)
    await desk.rows.record(slow, after(slow, Got("token"), schedules=RULES.schedules, now=desk.clock.now()))
    await desk.work(seconds=4)


async def test_an_article_proven_soon_after_its_broadcast_ended_opens_it_again_and_is_shown(desk: Desk) -> None:
    await late_article(desk, after_seconds=600)

    assert desk.zalo.calls == ["verify", "broadcast"]
    assert (desk.row().state, desk.state()) == ("sent", "done")
    assert [one.action for one in desk.broadcasts.broadcasts["b1"].history][-3:] == ["finish", "reopen", "finish"]


async def test_an_article_proven_hours_after_its_broadcast_ended_is_shown_to_nobody_and_says_so(desk: Desk) -> None:
    await late_article(desk, after_seconds=RULES.copy_look_up.retry_within.total_seconds())

    assert desk.zalo.calls == []
    assert desk.state() == "done"
    assert (desk.row().state, desk.row().reason) == ("skipped", "article.too_late")
    assert article_progress([desk.row()]).reasons == {("skipped", "article.too_late"): 5}
