"""The HTTP API: who may do what, what it answers, and what it turns away."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.notifier.domain.articles import ArticleSend
from services.notifier.domain.audience import ContactView, Had
from services.notifier.domain.broadcast import Broadcast, act
from services.notifier.domain.copies import copy_id
from services.notifier.endpoints.web import MAX_BODY_BYTES, MAX_DEPTH, depth_of
from tests.unit.notifier.api_world import STAFF_TAG, Answer, World, a_draft, a_progress, an_article, token_of
from tests.unit.notifier.test_lanes import a_reach


@pytest.fixture
def world() -> World:
    return World()


def a_person(world: World, person: str, page: str = "tan-chanh-hiep", **changes: Any) -> ContactView:
    reach = changes.pop("reach", {})
    view = ContactView(
        person,
        a_reach(page, at=world.clock.now(), **{"citizen_key": f"{page}:{person}", **reach}),
        followed_at=world.clock.now() - timedelta(days=30),
        **changes,
    )
    world.audience.contacts.append(view)
    return view


async def drafted(world: World, draft: dict[str, Any] | None = None, *, who: str = "an") -> str:
    answer = await world.call("POST", "/v1/broadcasts", draft or a_draft(), who=who)
    assert answer.status == 201, answer.content
    return str(answer.content["id"])


async def act_on(world: World, broadcast_id: str, action: str, body: Any = None, *, who: str = "an") -> Answer:
    return await world.call("POST", f"/v1/broadcasts/{broadcast_id}/{action}", {} if body is None else body, who=who)


async def approved(world: World) -> str:
    broadcast_id = await drafted(world)
    digest = (await act_on(world, broadcast_id, "preview")).content["digest"]
    answer = await act_on(world, broadcast_id, "approve", {"digest": digest, "note": "đã đọc"}, who="binh")
    assert answer.status == 200, answer.content
    return broadcast_id


async def running(world: World) -> str:
    """Started, as the engine would."""
    broadcast_id = await approved(world)
    await act_on(world, broadcast_id, "start")
    scheduled = await world.broadcasts.read(broadcast_id)
    assert scheduled is not None
    started = act(scheduled, "start", by="scheduler", at=world.clock.now())
    assert isinstance(started, Broadcast)
    assert await world.broadcasts.save(started)
    return broadcast_id


# Who asks


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "access.no_token"),
        ({"authorization": "Bearer wrong"}, "access.unknown_token"),
        ({"authorization": "Bearer "}, "access.no_token"),
        ({"authorization": f"Basic {token_of('an')}"}, "access.no_token"),
        ({"authorization": f"Bearer {token_of('an')}x"}, "access.unknown_token"),
    ],
)
async def test_without_a_known_token_nothing_is_told(world: World, headers: dict[str, Any], code: str) -> None:
    for method, path in [("GET", "/v1/broadcasts"), ("POST", "/v1/send/dry-run"), ("POST", "/v1/broadcasts")]:
        answer = await world.call(method, path, a_draft() if method == "POST" else None, who=None, **headers)

        assert (answer.status, answer.code) == (401, code)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert world.broadcasts.broadcasts == {}


WRITE, APPROVE, RUN, STOP = {"an", "chi"}, {"binh", "chi"}, {"an", "chi", "giang"}, {"an", "binh", "chi", "giang"}


@pytest.mark.parametrize(
    ("action", "body", "may"),
    [
        ("preview", None, WRITE),
        ("test", {"citizens": ["4:1"]}, WRITE),
        ("approve", {"digest": "0" * 64}, APPROVE),
        ("schedule", {"starts_at": None}, RUN),
        ("start", {}, RUN),
        ("pause", {}, STOP),
        ("resume", {}, RUN),
        ("cancel", {}, STOP),
    ],
)
async def test_each_role_may_do_just_its_own(world: World, action: str, body: Any, may: set[str]) -> None:
    broadcast_id = await drafted(world)

    for person in ("an", "binh", "chi", "dung", "giang"):
        answer = await act_on(world, broadcast_id, action, body, who=person)
        refused = answer.status == 403

        assert refused == (person not in may), (person, answer.content)
        assert not refused or answer.code == "access.not_allowed"


async def test_everybody_reads_but_only_writers_write(world: World) -> None:
    broadcast_id = await drafted(world)

    for person in ("an", "binh", "chi", "dung", "giang"):
        assert (await world.call("GET", f"/v1/broadcasts/{broadcast_id}", who=person)).status == 200
        assert (await world.call("GET", f"/v1/broadcasts/{broadcast_id}/progress", who=person)).status == 200
        created = await world.call("POST", "/v1/broadcasts", a_draft(), who=person)
        assert created.status == (201 if person in WRITE else 403)


async def test_one_of_a_unit_writes_for_it_to_its_pages_and_sees_nothing_else(world: World) -> None:
    own = a_draft(audience={"units": ["tan-chanh-hiep"]})
    foreign = [
        a_draft(),  # all pages
        a_draft(audience={"units": ["tan-chanh-hiep", "hiep-thanh"]}),
        a_draft(unit="hiep-thanh", audience={"units": ["tan-chanh-hiep"]}),
    ]

    assert (await world.call("POST", "/v1/broadcasts", own, who="ward")).status == 201
    for draft in foreign:
        answer = await world.call("POST", "/v1/broadcasts", draft, who="ward")
        assert (answer.status, answer.code) == (403, "access.other_unit")
        asked = await world.call("POST", "/v1/send/dry-run", draft, who="ward")
        assert (asked.status, asked.code) == (403, "access.other_unit")

    broadcast_id = await drafted(world, foreign[0])
    assert (await world.call("GET", f"/v1/broadcasts/{broadcast_id}", who="ward")).code == "broadcast.not_found"
    assert (await act_on(world, broadcast_id, "cancel", who="ward")).status == 404
    listed = await world.call("GET", "/v1/broadcasts", who="ward")
    assert [one["unit"] for one in listed.content["broadcasts"]] == ["tan-chanh-hiep"]
    assert len((await world.call("GET", "/v1/broadcasts")).content["broadcasts"]) == 2


# Drafts


async def test_a_draft_is_kept_once_for_its_key(world: World) -> None:
    first = await world.call("POST", "/v1/broadcasts", a_draft(), idempotency_key="k1")
    again = await world.call("POST", "/v1/broadcasts", a_draft(), idempotency_key="k1")
    other = await world.call("POST", "/v1/broadcasts", a_draft(title="khác"), idempotency_key="k1")
    theirs = await world.call("POST", "/v1/broadcasts", a_draft(), who="chi", idempotency_key="k1")

    assert first.content == again.content
    assert (other.status, other.code) == (409, "broadcast.key_used")
    assert theirs.content["id"] != first.content["id"]
    assert len(world.broadcasts.broadcasts) == 2


async def test_a_draft_comes_back_with_who_wrote_it(world: World) -> None:
    broadcast_id = await drafted(world, a_draft(audience={"wards": ["tan-chanh-hiep"], "interacted_within_hours": 24}))

    answer = await world.call("GET", f"/v1/broadcasts/{broadcast_id}", who="dung")

    assert answer.content["author"] == "an"
    assert (answer.content["state"], answer.content["kind"], answer.content["version"]) == ("draft", "message", 0)
    assert answer.content["draft"]["audience"]["interacted_within_hours"] == 24


async def test_an_edit_is_made_from_the_version_that_was_read(world: World) -> None:
    broadcast_id = await drafted(world)
    change = {"draft": a_draft(title="khác"), "version": 0}

    edited = await world.call("PUT", f"/v1/broadcasts/{broadcast_id}/draft", change, who="chi")
    repeated = await world.call("PUT", f"/v1/broadcasts/{broadcast_id}/draft", change, who="chi")
    late = await world.call("PUT", f"/v1/broadcasts/{broadcast_id}/draft", {"draft": a_draft(), "version": 0})

    assert (edited.status, edited.content["author"], edited.content["title"]) == (200, "chi", "khác")
    assert repeated.content == edited.content
    assert (late.status, late.code) == (409, "broadcast.changed")


@pytest.mark.parametrize(
    ("draft", "code"),
    [
        (a_draft(unit="atlantis"), "broadcast.unit_unknown"),
        (a_draft(audience={"units": ["atlantis"]}), "broadcast.unit_unknown"),
        (a_draft(audience={"wards": ["atlantis"]}), "broadcast.unit_unknown"),
        (a_draft(audience={"topics": ["atlantis"]}), "broadcast.topic_unknown"),
        (an_article(target={"ages": [8]}), "article.target_unknown"),
        (an_article(target={"cities": []}), "article.target_unknown"),
        (an_article() | {"audience": {"topics": ["fire"]}}, "request.invalid"),
        (a_draft(surprise=1), "request.invalid"),
        (a_draft(content={}), "request.invalid"),
        (a_draft(title=""), "request.invalid"),
        (a_draft(title=1), "request.invalid"),
        (a_draft(pays="true"), "request.invalid"),
        (a_draft(audience={"interacted_within_hours": "24"}), "request.invalid"),
        (a_draft(audience={"topics": "fire"}), "request.invalid"),
        (a_draft(content={"message": {"text": " "}}), "request.invalid"),
        (a_draft(content={"template": {"template_id": "1", "text": "a", "data": {"a.b": "c"}}}), "request.invalid"),
        ([], "request.invalid"),
    ],
)
async def test_a_draft_that_cannot_be_sent_is_refused_with_where_and_why(world: World, draft: Any, code: str) -> None:
    answer = await world.call("POST", "/v1/broadcasts", draft)

    assert (answer.status, answer.code) == (422, code)
    assert answer.content["message"]
    assert code != "request.invalid" or answer.content["problems"]
    assert world.broadcasts.broadcasts == {}


async def test_a_refusal_does_not_repeat_what_was_written(world: World) -> None:
    answer = await world.call("POST", "/v1/broadcasts", a_draft(pays="bí mật của dân"))

    assert "bí mật" not in str(answer.content)


@pytest.mark.parametrize(
    ("raw", "headers", "status", "code"),
    [
        (b"{", {}, 422, "request.invalid"),
        (b"\xff\xfe", {}, 422, "request.invalid"),
        (b"x" * (MAX_BODY_BYTES + 1), {}, 413, "request.too_large"),
        (b"{}", {"content_length": str(MAX_BODY_BYTES + 1)}, 413, "request.too_large"),
        (b"{}", {"content_length": "many"}, 413, "request.too_large"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, {}, 422, "request.too_deep"),
        (b"[" * 100_000, {}, 422, "request.too_deep"),
    ],
)
async def test_what_is_no_json_or_too_much_is_turned_away(
    world: World, raw: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await world.call("POST", "/v1/broadcasts", raw=raw, **headers)

    assert (answer.status, answer.code) == (status, code)


def test_brackets_inside_a_text_are_no_depth() -> None:
    assert depth_of(b'{"text": "[[[[ \\" [[{{", "b": [[1]]}') == 3
    assert depth_of(b"[" * (MAX_DEPTH + 1)) == MAX_DEPTH + 1


@pytest.mark.parametrize("broadcast_id", ["x", "../../etc", "0" * 13, "$where0000000"])
async def test_an_id_that_is_none_is_not_looked_up(world: World, broadcast_id: str) -> None:
    assert (await world.call("GET", f"/v1/broadcasts/{broadcast_id}")).status in {404, 422}


async def test_an_unknown_address_is_told_as_every_refusal_is(world: World) -> None:
    answer = await world.call("GET", "/v1/nothing")

    assert (answer.status, answer.code) == (404, "page.not_found")


# Life


async def test_a_broadcast_is_previewed_approved_by_another_and_scheduled(world: World) -> None:
    a_person(world, "1")
    a_person(world, "2", reach={"opted_out": True})
    a_person(world, "3", reach={"hours_ago": 24 * 8})
    a_person(world, "4")
    world.recipients.had_by_person["4"] = Had(1, 1)
    broadcast_id = await drafted(world)

    previewed = await act_on(world, broadcast_id, "preview")
    forecast = previewed.content["preview"]["forecast"]
    assert forecast["people"] == 4
    assert forecast["lanes"] == {"answer": 1}
    assert forecast["refused"] == {"contact.opted_out": 1, "window.closed": 1, "cap.day": 1}

    own = await act_on(world, broadcast_id, "approve", {"digest": previewed.content["digest"]}, who="an")
    assert own.code == "access.not_allowed"
    yes = await act_on(
        world, broadcast_id, "approve", {"digest": previewed.content["digest"], "note": "đã đọc"}, who="binh"
    )
    assert (yes.content["state"], yes.content["approved_by"]) == ("approved", "binh")

    at = (world.clock.now() + timedelta(hours=1)).isoformat()
    scheduled = await act_on(world, broadcast_id, "schedule", {"starts_at": at})
    assert scheduled.content["state"] == "scheduled"
    assert [(entry["action"], entry["by"]) for entry in scheduled.content["history"]] == [
        ("preview", "an"),
        ("approve", "binh"),
        ("schedule", "an"),
    ]


async def test_one_with_both_rights_cannot_approve_their_own(world: World) -> None:
    broadcast_id = await drafted(world, who="chi")
    digest = (await act_on(world, broadcast_id, "preview", who="chi")).content["digest"]

    answer = await act_on(world, broadcast_id, "approve", {"digest": digest}, who="chi")

    assert (answer.status, answer.code) == (409, "broadcast.needs_a_second_person")


async def test_an_approval_is_for_the_draft_that_was_read(world: World) -> None:
    broadcast_id = await drafted(world)
    digest = (await act_on(world, broadcast_id, "preview")).content["digest"]
    await world.call("PUT", f"/v1/broadcasts/{broadcast_id}/draft", {"draft": a_draft(title="khác"), "version": 1})
    await act_on(world, broadcast_id, "preview")

    answer = await act_on(world, broadcast_id, "approve", {"digest": digest}, who="binh")

    assert (answer.status, answer.code) == (409, "broadcast.changed")


async def test_a_draft_without_a_preview_is_not_approved(world: World) -> None:
    broadcast_id = await drafted(world)
    digest = (await world.call("GET", f"/v1/broadcasts/{broadcast_id}")).content["digest"]

    assert (
        await act_on(world, broadcast_id, "approve", {"digest": digest}, who="binh")
    ).code == "broadcast.not_previewed"


async def test_an_answer_that_was_lost_can_be_asked_for_again(world: World) -> None:
    broadcast_id = await running(world)
    paused = await act_on(world, broadcast_id, "pause", {"note": "gọi nhầm"}, who="giang")

    again = await act_on(world, broadcast_id, "pause", {"note": "gọi nhầm"}, who="giang")
    another = await act_on(world, broadcast_id, "pause", who="an")

    assert again.content == paused.content
    assert (another.status, another.code) == (409, "broadcast.is_paused")
    assert (await act_on(world, broadcast_id, "resume")).content["state"] == "running"
    assert (await act_on(world, broadcast_id, "cancel", who="binh")).content["state"] == "cancelled"


async def test_a_lost_race_is_run_again_but_not_for_ever(world: World) -> None:
    broadcast_id = await running(world)
    world.broadcasts.lost_races = 3
    assert (await act_on(world, broadcast_id, "pause")).content["state"] == "paused"

    world.broadcasts.lost_races = 1_000
    answer = await act_on(world, broadcast_id, "resume")
    assert (answer.status, answer.code) == (409, "broadcast.changed")


async def test_start_is_a_schedule_for_now(world: World) -> None:
    broadcast_id = await approved(world)

    started = await act_on(world, broadcast_id, "start", {"note": "khẩn"})

    assert started.content["state"] == "scheduled"
    assert await world.broadcasts.due(world.clock.now()) == [broadcast_id]


# Looking


async def test_progress_tells_counts_reasons_pace_and_what_is_left(world: World) -> None:
    broadcast_id = await running(world)
    world.clock.advance(10)
    world.recipients.now_at = a_progress(
        {"queued": 46, "sending": 4, "sent": 40, "skipped": 10},
        chunks=2,
        chunks_done=1,
        reasons={("skipped", "contact.opted_out"): 10},
    )

    content = (await world.call("GET", f"/v1/broadcasts/{broadcast_id}/progress")).content

    assert (content["people"], content["in_flight"], content["state"]) == (100, 4, "running")
    assert content["reasons"] == [{"state": "skipped", "reason": "contact.opted_out", "count": 10}]
    assert (content["per_second"], content["seconds_left"]) == (5.0, 9.2)


async def test_a_pause_does_not_count_into_the_pace(world: World) -> None:
    broadcast_id = await running(world)
    world.recipients.now_at = a_progress({"queued": 50, "sent": 50})
    world.clock.advance(10)
    await act_on(world, broadcast_id, "pause")
    world.clock.advance(1_000)

    content = (await world.call("GET", f"/v1/broadcasts/{broadcast_id}/progress")).content

    assert (content["per_second"], content["seconds_left"]) == (5.0, None)


async def test_uncertain_copies_are_listed_and_given_up_by_whoever_is_on_duty(world: World) -> None:
    broadcast_id = await running(world)
    seen = {"citizen_key": "4:1", "page": "hiep-thanh", "marked_at": world.clock.now(), "reason": "send.lease_expired"}
    world.recipients.uncertain = [{"person": letter * 32, **seen} for letter in "ab"]
    listed = await world.call("GET", f"/v1/broadcasts/{broadcast_id}/uncertain", who="dung")
    assert [one["person"] for one in listed.content["copies"]] == ["a" * 32, "b" * 32]

    refused = await act_on(world, broadcast_id, "abandon", {"persons": ["a" * 32]}, who="binh")
    given_up = await act_on(world, broadcast_id, "abandon", {"persons": ["a" * 32, "c" * 32]}, who="giang")
    nonsense = await act_on(world, broadcast_id, "abandon", {"persons": [{"$ne": 1}]}, who="giang")

    assert (refused.status, given_up.content, nonsense.status) == (403, {"abandoned": 1}, 422)
    assert [one["person"] for one in world.recipients.uncertain] == ["b" * 32]


async def test_uncertain_copies_are_settled_by_who_looked_them_up_at_zalos(world: World) -> None:
    broadcast_id = await drafted(world)
    at = world.clock.now()
    copy = {"person": "a" * 32, "citizen_key": "4:1", "page": "hiep-thanh", "marked_at": at, "reason": "x"}
    world.recipients.uncertain = [{**copy, "lane": "template_phone"}]
    (listed,) = (await world.call("GET", f"/v1/broadcasts/{broadcast_id}/uncertain", who="dung")).content["copies"]
    assert (listed["lane"], listed["tracking_id"]) == ("template_phone", copy_id(broadcast_id, "a" * 32))

    seen = {"persons": ["a" * 32, "c" * 32], "is_sent": True}
    refused = await act_on(world, broadcast_id, "settle", seen, who="binh")
    settled = await act_on(world, broadcast_id, "settle", seen, who="giang")
    nonsense = await act_on(world, broadcast_id, "settle", {**seen, "is_sent": "yes"}, who="giang")

    assert (refused.status, settled.content, nonsense.status) == (403, {"settled": 1}, 422)
    assert world.recipients.settled["a" * 32] is True


async def test_a_citizens_copies_are_told_of_the_broadcasts_that_somebody_may_see(world: World) -> None:
    a_person(world, "a" * 32, reach={"citizen_key": "4:1"})
    mine, other = await drafted(world), await drafted(world, a_draft(title="x"))
    row = {"person": "a" * 32, "page": None, "marked_at": world.clock.now()}
    world.recipients.copies = [
        {**row, "broadcast_id": mine, "state": "skipped", "reason": "contact.opted_out"},
        {**row, "broadcast_id": other, "state": "sent", "reason": None, "person": "b" * 32},
        {**row, "broadcast_id": "0" * 12, "state": "sent", "reason": None},
    ]

    told = await world.call("GET", "/v1/citizens/4:1/copies", who="dung")
    stranger = await world.call("GET", "/v1/citizens/4:2/copies", who="dung")
    nonsense = await world.call("GET", "/v1/citizens/x/copies", who="dung")

    assert [(one["broadcast"], one["state"], one["reason"]) for one in told.content["copies"]] == [
        (mine, "skipped", "contact.opted_out")
    ]
    assert (stranger.content, nonsense.status) == ({"copies": []}, 422)


async def test_an_uncertain_article_is_settled_by_who_may_run_broadcasts(world: World) -> None:
    broadcast_id = await drafted(world)
    send = ArticleSend("x", broadcast_id, "hiep-thanh", "4", "1", followers=3, step_at=world.clock.now())
    world.articles.rows = [replace(send, state="uncertain", step="broadcast")]
    path = "articles/hiep-thanh/settle"

    refused = await act_on(world, broadcast_id, path, {"is_sent": True}, who="binh")
    nonsense = await act_on(world, broadcast_id, path, {"is_sent": "yes"}, who="giang")
    settled = [(await act_on(world, broadcast_id, path, {"is_sent": False}, who="giang")).content for _ in range(2)]

    assert (refused.status, nonsense.status) == (403, 422)
    assert settled == [{"settled": True}, {"settled": False}]
    assert world.articles.rows[0].state == "failed"


async def test_an_article_that_came_too_late_is_told_with_its_page_and_its_followers(world: World) -> None:
    broadcast_id = await drafted(world, an_article())
    send = ArticleSend("x", broadcast_id, "hiep-thanh", "4", "1", followers=3, step_at=world.clock.now())
    world.articles.rows = [replace(send, state="skipped", step="verify", reason="article.too_late")]

    shown = (await world.call("GET", f"/v1/broadcasts/{broadcast_id}/progress")).content

    assert [(one["page"], one["state"], one["reason"]) for one in shown["articles"]] == [
        ("hiep-thanh", "skipped", "article.too_late")
    ]
    assert shown["reasons"] == [{"state": "skipped", "reason": "article.too_late", "count": 3}]


async def test_lists_are_by_state_unit_and_number(world: World) -> None:
    first = await drafted(world)
    world.clock.advance(1)
    second = await approved(world)

    async def ids(query: str) -> list[str]:
        return [one["id"] for one in (await world.call("GET", f"/v1/broadcasts{query}")).content["broadcasts"]]

    assert await ids("") == [second, first]
    assert await ids("?state=draft") == [first]
    assert await ids("?state=draft&state=approved") == [second, first]
    assert await ids("?unit=hiep-thanh") == []
    assert await ids("?limit=1") == [second]
    assert await ids("?limit=1&skip=1") == [first]
    assert await ids("?skip=2") == []
    assert (await world.call("GET", "/v1/broadcasts?state=nonsense")).status == 422
    assert (await world.call("GET", "/v1/broadcasts?limit=100000")).status == 422


# Tests and dry runs


async def test_a_test_goes_to_tagged_colleagues_through_the_reply_ledger_once(world: World) -> None:
    staff = a_person(world, "1", tags=frozenset({STAFF_TAG}))
    broadcast_id = await drafted(world)
    body = {"citizens": [staff.reach.citizen_key]}

    first = await world.call("POST", f"/v1/broadcasts/{broadcast_id}/test", body, idempotency_key="k")
    again = await world.call("POST", f"/v1/broadcasts/{broadcast_id}/test", body, idempotency_key="k")

    assert (first.status, first.content) == (202, again.content)
    (row,) = world.replies.rows.values()
    assert row.row.event.content.text == "Mời bà con kiểm tra hạn căn cước."
    assert (row.row.app_id, row.row.event.template) == ("1", "broadcast.test")


@pytest.mark.parametrize("citizen", ["tan-chanh-hiep:2", "4:404"])
async def test_nobody_but_staff_gets_a_test(world: World, citizen: str) -> None:
    a_person(world, "2", tags=frozenset({"hộ nghèo"}))
    broadcast_id = await drafted(world)

    answer = await act_on(world, broadcast_id, "test", {"citizens": [citizen]})

    assert (answer.status, answer.code) == (422, "test.not_staff")
    assert world.replies.rows == {}


async def test_the_test_of_an_article_shows_its_title_and_cover(world: World) -> None:
    staff = a_person(world, "1", tags=frozenset({STAFF_TAG}))
    broadcast_id = await drafted(world, an_article())

    await act_on(world, broadcast_id, "test", {"citizens": [staff.reach.citizen_key]})

    (row,) = world.replies.rows.values()
    assert row.row.event.content.text.startswith("Phòng cháy mùa khô")
    assert row.row.event.content.image_url == "https://example.org/a.jpg"


async def test_a_dry_run_counts_and_keeps_nothing(world: World) -> None:
    a_person(world, "1")
    a_person(world, "2", reach={"hours_ago": 60})
    body = a_draft(pays=True)
    del body["title"]

    answer = await world.call("POST", "/v1/send/dry-run", body, who="dung")

    assert answer.status == 200, answer.content
    assert answer.content["lanes"] == {"answer": 1, "consultation": 1}
    assert answer.content["costs"] == {"free": 1, "package": 1}
    assert world.broadcasts.broadcasts == {}


async def test_a_dry_run_can_be_about_a_few_persons_with_all_their_pages(world: World) -> None:
    asked = a_person(world, "1")
    a_person(world, "1", "hiep-thanh", reach={"opted_out": True})
    a_person(world, "2")

    answer = await world.call("POST", "/v1/send/dry-run", a_draft(citizens=[asked.reach.citizen_key]))

    assert answer.content["refused"] == {"contact.opted_out": 1}
    assert answer.content["people"] == 1


async def test_an_article_is_counted_by_followers_and_held_back_where_one_opted_out_anywhere(world: World) -> None:
    a_person(world, "1")
    a_person(world, "2")
    a_person(world, "2", "hiep-thanh", reach={"opted_out": True})

    held = await world.call("POST", "/v1/send/dry-run", an_article())
    wanted = await world.call("POST", "/v1/send/dry-run", an_article(reaches_opted_out=True))

    assert held.content["articles"] == {"tan-chanh-hiep": "article.reaches_opted_out"}
    assert held.content["refused"] == {"article.reaches_opted_out": 2}
    assert wanted.content["articles"] == {"tan-chanh-hiep": "article"}
    assert wanted.content["pages"] == {"tan-chanh-hiep": 2}


async def test_an_articles_page_that_had_one_today_waits(world: World) -> None:
    a_person(world, "1")
    world.articles.sent["tan-chanh-hiep"] = [world.clock.now()]

    answer = await world.call("POST", "/v1/send/dry-run", an_article())

    assert answer.content["articles"] == {"tan-chanh-hiep": "article.day_used"}


async def test_a_template_value_with_a_dollar_is_only_a_text(world: World) -> None:
    content = {"template": {"template_id": "1", "text": "a", "data": {"x": "$where"}}}

    broadcast_id = await drafted(world, a_draft(content=content))

    shown = await world.call("GET", f"/v1/broadcasts/{broadcast_id}")
    assert shown.content["draft"]["content"]["template"]["data"] == {"x": "$where"}
