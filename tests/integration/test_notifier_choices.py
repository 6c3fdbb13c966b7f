"""What citizens chose, and whether they follow, in the real store: whatever the order and however often events come."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.notifier.adapters.audience_store import AudienceStore
from services.notifier.adapters.contact_store import ContactStore, contact_choices, person_of
from services.notifier.domain.audience import ContactView
from services.notifier.domain.choices import Chosen, ContactChoices, Key, Wishes, newest, wishes
from services.notifier.domain.contacts import ContactFacts, facts_of_change, facts_of_choice, merged
from services.notifier.domain.copies import slice_of
from shared.events import CitizenChose
from shared.ids import deterministic_id
from shared.mongo import Store
from tests.factories import NOW, OA_ID, PAGE, a_change
from tests.unit.notifier.stores import fresh_store

BY_APP = "3000000000000000001"
MINUTE = timedelta(minutes=1)
HERE: dict[str, Any] = {"oa_id": OA_ID, "page": PAGE, "user_id": "21", "user_id_by_app": BY_APP}
THERE: dict[str, Any] = {
    "oa_id": "4000000000000000099",
    "page": "hiep-thanh",
    "user_id": "22",
    "user_id_by_app": BY_APP,
}
TOPICS = frozenset({"an-ninh", "pccc"})


@pytest.fixture(params=["motor", "pymongo"])
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Store]:
    async with fresh_store(mongo_uri, request.param) as one:
        yield one


def chose(subject: str, is_on: bool, at: datetime, value: str | None = None, **where: Any) -> ContactFacts:
    return facts_of_choice(
        CitizenChose(
            event_id=deterministic_id(subject, str(value), str(is_on), at.isoformat(), where["oa_id"]),
            occurred_at=at,
            correlation_id="c",
            subject=subject,
            value=value,
            is_on=is_on,
            chosen_at=at,
            **where,
        )
    )


def changed(change: str, at: datetime, **where: Any) -> ContactFacts:
    return facts_of_change(a_change(change=change, changed_at=at, **where))


async def seen(store: Store) -> list[ContactView]:
    whole = slice_of(0, 1)
    people = await AudienceStore(store, TOPICS).in_slice(whole.first, whole.end)
    return [view for contacts in people for view in contacts]


async def test_a_stop_on_one_page_holds_on_those_followed_before_and_after_until_a_resume_anywhere(
    store: Store,
) -> None:
    contacts = ContactStore(store)
    await contacts.learn([changed("followed", NOW, **HERE)])
    await contacts.learn([chose("broadcasts", False, NOW + MINUTE, **THERE)])
    third = {**HERE, "oa_id": "4000000000000000098", "page": "thoi-an", "user_id": "23"}
    await contacts.learn([changed("followed", NOW + 2 * MINUTE, **third)])

    assert [view.reach.opted_out for view in await seen(store)] == [True, True, True]
    await contacts.learn([chose("broadcasts", True, NOW + 3 * MINUTE, **third)])
    assert [view.reach.opted_out for view in await seen(store)] == [False, False, False]


async def test_a_stop_outlives_the_withdrawal_on_the_page_where_it_was_said(store: Store) -> None:
    contacts = ContactStore(store)
    await contacts.learn([changed("followed", NOW, **HERE)])
    await contacts.learn([chose("broadcasts", False, NOW + MINUTE, **THERE), chose("topic", True, NOW, "pccc", **HERE)])
    await contacts.learn([changed("withdrawn", NOW + 2 * MINUTE, **THERE)])

    assert [view.reach.opted_out for view in await seen(store)] == [True, True]


async def test_a_stop_holds_on_a_page_that_is_known_only_after_the_withdrawal_on_the_page_where_it_was_said(
    store: Store,
) -> None:
    contacts = ContactStore(store)
    await contacts.learn([chose("broadcasts", False, NOW, **THERE)])
    await contacts.learn([changed("withdrawn", NOW + MINUTE, **THERE)])
    await contacts.learn([changed("followed", NOW + 2 * MINUTE, **HERE)])

    assert {view.reach.page: view.reach.opted_out for view in await seen(store)} == {PAGE: True, "hiep-thanh": True}
    await contacts.learn([chose("broadcasts", True, NOW + 3 * MINUTE, **HERE)])
    assert [view.reach.opted_out for view in await seen(store) if view.reach.page == PAGE] == [False]


async def test_no_order_and_no_repetition_of_events_changes_what_is_true_in_the_end(store: Store) -> None:
    """Choices, follows and unfollows of one person on two pages; some at the same moment."""
    events: list[ContactFacts] = [
        chose("broadcasts", False, NOW + MINUTE, **HERE),
        chose("broadcasts", True, NOW + 2 * MINUTE, **THERE),
        chose("broadcasts", False, NOW + 3 * MINUTE, **HERE),
        chose("topic", True, NOW + MINUTE, "pccc", **HERE),
        chose("topic", False, NOW + MINUTE, "pccc", **THERE),
        chose("topic", True, NOW + 2 * MINUTE, "an-ninh", **HERE),
        chose("ward", True, NOW, "thoi-an", **THERE),
        chose("ward", False, NOW + MINUTE, "thoi-an", **HERE),
        changed("followed", NOW, **HERE),
        changed("unfollowed", NOW + 2 * MINUTE, **HERE),
        changed("followed", NOW + 3 * MINUTE, **HERE),
        changed("unfollowed", NOW + MINUTE, **THERE),
        changed("followed", NOW, **THERE),
    ]
    truths = set()
    async for _ in _learnt_in_many_orders(store, events):
        views = await seen(store)
        truths.add(
            frozenset((v.reach.page, v.is_follower, v.reach.opted_out, v.topics, v.wards, v.followed_at) for v in views)
        )

    (truth,) = truths
    rivals = [fact.chosen["topic", "pccc"] for fact in events if ("topic", "pccc") in fact.chosen]
    topics = frozenset({"an-ninh"} | ({"pccc"} if max(rivals, key=lambda one: one.rank).is_on else set()))
    assert truth == {
        (PAGE, True, True, topics, frozenset(), NOW + 3 * MINUTE),
        ("hiep-thanh", False, True, topics, frozenset(), NOW),
    }


async def test_what_a_page_knew_before_a_withdrawal_comes_back_in_no_order_and_by_no_repetition(store: Store) -> None:
    nameless = {**HERE, "user_id_by_app": None}
    events: list[ContactFacts] = [
        chose("broadcasts", False, NOW, **HERE),
        chose("topic", True, NOW, "pccc", **HERE),
        chose("topic", True, NOW + 2 * MINUTE, "an-ninh", **nameless),
        chose("ward", True, NOW + MINUTE, "thoi-an", **HERE),
        changed("tag_added", NOW, details={"tag": "hộ nghèo"}, **HERE),
        changed("tag_added", NOW + 2 * MINUTE, details={"tag": "chủ trọ"}, **nameless),
        changed("profile_shared", NOW, details={"phone": "84900000001"}, **HERE),
        changed("followed", NOW + 2 * MINUTE, **nameless),
        changed("withdrawn", NOW + MINUTE, **HERE),
    ]
    truths = set()
    async for order in _learnt_in_many_orders(store, events):
        (view,) = await seen(store)
        (document,) = await store["contacts"].find({}).to_list(None)
        kept = repr({name: document.get(name) for name in ("user_id_by_app", "profile", "tags", "choices")})
        truths.add((view.person, view.reach.opted_out, view.topics, view.wards, view.tags, view.reach.phone))
        assert not [old for old in (BY_APP, "84900000001", "hộ nghèo", "pccc", "thoi-an") if old in kept], order

    assert truths == {
        (person_of(f"{OA_ID}:21"), True, frozenset({"an-ninh"}), frozenset(), frozenset({"chủ trọ"}), None)
    }


async def test_no_older_choice_on_any_page_outlives_a_withdrawal_on_one_in_any_order(store: Store) -> None:
    """Random histories of one person on two pages, learnt in any order, some again, by two replicas at once."""
    chance = random.Random(20261128)
    replicas = [ContactStore(store), ContactStore(store)]
    for _ in range(10):
        events = [chose("broadcasts", False, NOW, **HERE), *_history(chance)]
        for _ in range(2):
            await store["contacts"].delete_many({})
            await store["persons"].delete_many({})
            order = [*events, *chance.sample(events, 3)]
            chance.shuffle(order)
            batches = [merged(batch) for batch in _batches(order, chance)]
            for at_once in (batches[place : place + 2] for place in range(0, len(batches), 2)):
                await asyncio.gather(*(one.learn(batch) for one, batch in zip(replicas, at_once, strict=False)))
            told = await _told(store)
            assert told == _expected(events), order


async def _told(store: Store) -> set[tuple[Any, ...]]:
    views = {view.reach.citizen_key: view for view in await seen(store)}
    told = set()
    for document in await store["contacts"].find({}).to_list(None):
        view = views[document["_id"]]
        chosen = contact_choices(document).chosen
        kept = frozenset((key, one.at) for key, one in chosen.items() if key[0] != "broadcasts")
        # A stranger gets nothing; who they are decides when they write again.
        stopped = view.reach.opted_out if view.reach.page == PAGE or view.person == person_of(BY_APP) else None
        told.add((view.person, view.reach.page, view.topics, view.wards, view.language, stopped, kept))
    return told


def _history(chance: random.Random) -> list[ContactFacts]:
    def at() -> datetime:
        return NOW + chance.randint(0, 5) * MINUTE

    subjects = [("topic", "pccc"), ("topic", "an-ninh"), ("ward", "thoi-an"), ("language", "en")]
    choices = [
        chose(subject, subject == "language" or chance.random() < 0.7, at(), value, **chance.choice([HERE, THERE]))
        for subject, value in chance.choices(subjects, k=6)
    ]
    withdrawals = [changed("withdrawn", at(), **chance.choice([HERE, THERE])) for _ in range(chance.randint(1, 2))]
    return [*choices, *withdrawals, changed("followed", at(), **THERE)]


def _expected(events: Sequence[ContactFacts]) -> set[tuple[Any, ...]]:
    """The same by the rule alone: what is not newer than the person's last withdrawal was never said."""
    last = max(fact.withdrawn_at for fact in events if fact.withdrawn_at is not None)
    kept: dict[str, dict[Key, Chosen]] = {}
    for fact in events:
        newer = {key: one for key, one in fact.chosen.items() if key[0] != "broadcasts" and one.at > last}
        kept[fact.citizen_key] = newest(kept.get(fact.citizen_key, {}), newer)
    both = wishes(map(ContactChoices, kept.values()), TOPICS)
    expected = set()
    for where in (HERE, THERE):
        key = f"{where['oa_id']}:{where['user_id']}"
        of_page = [fact for fact in events if fact.citizen_key == key]
        gone_at = max((fact.withdrawn_at for fact in of_page if fact.withdrawn_at is not None), default=None)
        is_known = gone_at is None or any(fact.seen_at > gone_at for fact in of_page)
        wanted = both if is_known else Wishes()
        expected.add(
            (
                person_of(BY_APP if is_known else key),
                where["page"],
                wanted.topics,
                wanted.wards,
                wanted.language,
                True if where is HERE or is_known else None,
                frozenset((name, one.at) for name, one in kept[key].items()),
            )
        )
    return expected


async def _learnt_in_many_orders(store: Store, events: Sequence[ContactFacts]) -> AsyncIterator[list[ContactFacts]]:
    """Twelve times from the start, in another order, in other batches and with other repetitions."""
    chance = random.Random(20261127)
    for _ in range(12):
        await store["contacts"].delete_many({})
        await store["persons"].delete_many({})
        contacts = ContactStore(store)
        order = [*events, *chance.sample(events, 4)]
        chance.shuffle(order)
        for batch in _batches(order, chance):
            await contacts.learn(merged(batch))
        yield order


def _batches(order: Sequence[ContactFacts], chance: random.Random) -> list[list[ContactFacts]]:
    batches: list[list[ContactFacts]] = [[]]
    for event in order:
        batches[-1].append(event)
        if chance.random() < 0.5:
            batches.append([])
    return [batch for batch in batches if batch]
