"""Audiences read the real contacts, with both drivers."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.notifier.adapters.audience_store import AudienceStore
from services.notifier.adapters.contact_store import ContactStore, person_of
from services.notifier.domain.audience import ContactView
from services.notifier.domain.contacts import facts_of_change, facts_of_message
from services.notifier.domain.copies import slice_of
from services.notifier.domain.lanes import Reach
from shared.events import CitizenChanged, CitizenMessageReceived
from shared.mongo import Store
from tests.factories import NOW, OA_ID, PAGE, a_change, a_message
from tests.unit.notifier.stores import fresh_store

HOUR = timedelta(hours=1)
BY_APP = "3000000000000000001"
OTHER_OA = "4000000000000000009"


@pytest.fixture(params=["motor", "pymongo"])
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Store]:
    async with fresh_store(mongo_uri, request.param) as fresh:
        yield fresh


async def learn(store: Store, *events: CitizenChanged | CitizenMessageReceived) -> None:
    facts = [
        facts_of_change(event) if isinstance(event, CitizenChanged) else facts_of_message(event) for event in events
    ]
    for fact in facts:
        await ContactStore(store).learn([fact])


async def everybody(store: Store, *, slices: int = 1) -> list[list[ContactView]]:
    audience, parts = AudienceStore(store), [slice_of(number, slices) for number in range(slices)]
    return [contacts for part in parts for contacts in await audience.in_slice(part.first, part.end)]


async def test_one_person_is_seen_with_all_that_audiences_ask_for(store: Store) -> None:
    known: dict[str, Any] = {"user_id": "21", "user_id_by_app": BY_APP, "citizen_key": f"{OA_ID}:21"}
    elsewhere = known | {"user_id": "22", "oa_id": OTHER_OA, "page": "hiep-thanh", "citizen_key": f"{OTHER_OA}:22"}
    await learn(
        store,
        a_change(change="followed", changed_at=NOW, **known),
        a_change(change="profile_shared", changed_at=NOW, details={"phone": "84900000001"}, **known),
        a_change(change="tag_added", changed_at=NOW, details={"tag": "chủ trọ"}, **known),
        a_change(change="tag_added", changed_at=NOW, details={"tag": "hộ nghèo"}, **known),
        a_change(change="tag_removed", changed_at=NOW + HOUR, details={"tag": "hộ nghèo"}, **known),
        a_change(change="followed", changed_at=NOW, **elsewhere),
        a_change(change="unfollowed", changed_at=NOW + HOUR, **elsewhere),
        a_message(sent_at=NOW + 2 * HOUR, **elsewhere),
    )
    await store["contacts"].update_one(
        {"_id": f"{OTHER_OA}:22"},
        {
            "$set": {
                "choices": {
                    "broadcasts": {"is_on": False, "at": NOW, "by": "a"},
                    "topic": {"fire": {"is_on": True, "at": NOW, "by": "a"}},
                    "ward": {"thoi-an": {"is_on": True, "at": NOW, "by": "a"}},
                    "language": {"en": {"is_on": True, "at": NOW, "by": "a"}},
                },
            }
        },
    )

    (contacts,) = await everybody(store)

    person = person_of(BY_APP)
    assert sorted(contacts, key=lambda one: one.reach.citizen_key) == [
        ContactView(
            person,
            Reach(f"{OA_ID}:21", PAGE, OA_ID, "21", opted_out=True, phone="84900000001"),
            followed_at=NOW,
            topics=frozenset({"fire"}),
            wards=frozenset({"thoi-an"}),
            tags=frozenset({"chủ trọ"}),
            language="en",
        ),
        ContactView(
            person,
            Reach(
                f"{OTHER_OA}:22",
                "hiep-thanh",
                OTHER_OA,
                "22",
                unfollowed=True,
                opted_out=True,
                last_interaction_at=NOW + 2 * HOUR,
            ),
            followed_at=NOW,
            topics=frozenset({"fire"}),
            wards=frozenset({"thoi-an"}),
            language="en",
        ),
    ]


async def test_one_who_withdrew_is_seen_as_such_and_apart(store: Store) -> None:
    await learn(store, a_change(change="withdrawn", changed_at=NOW, user_id_by_app=BY_APP))

    ((contact,),) = await everybody(store)

    assert contact.reach.is_withdrawn
    assert contact.person == person_of(contact.reach.citizen_key)


async def test_every_person_comes_once_and_whole_however_the_slices_fall(store: Store) -> None:
    documents = [
        {
            "_id": f"{page}:{number}",
            "person": person_of(f"3{number}" if number % 3 else f"{page}:{number}"),
            "page": f"page-{page}",
            "oa_id": page,
            "user_id": str(number),
        }
        for number in range(400)
        for page in ("41", "42")
    ]
    await store["contacts"].insert_many(documents)

    parts = await everybody(store, slices=7)

    names = [contacts[0].person for contacts in parts]
    assert names == sorted({document["person"] for document in documents})
    assert sorted(view.reach.citizen_key for contacts in parts for view in contacts) == sorted(
        document["_id"] for document in documents
    )
    assert await everybody(store) == await everybody(store, slices=16) == parts
    assert await AudienceStore(store).size() % 256 == 0


async def test_a_few_citizens_are_seen_with_all_pages_of_their_persons(store: Store) -> None:
    for key, by_app in [("41:1", BY_APP), ("42:7", BY_APP), ("41:2", None)]:
        oa_id, user_id = key.split(":")
        document = {"_id": key, "page": "p", "oa_id": oa_id, "user_id": user_id, "person": person_of(by_app or key)}
        await store["contacts"].insert_one(document)

    found = await AudienceStore(store).of_citizens(["41:1", "41:404"])

    assert [[view.reach.citizen_key for view in contacts] for contacts in found] == [["41:1", "42:7"]]


async def test_a_slice_is_read_through_the_index(store: Store) -> None:
    explained = str(await store["contacts"].find({"person": {"$gte": "a", "$lt": "b"}}).explain())

    assert "person_1" in explained
