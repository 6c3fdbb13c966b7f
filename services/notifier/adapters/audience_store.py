"""Contacts in the order of persons, for audiences. Reads only; `adapters/contact_store.py` writes them.

A person's name is a hash, so persons are spread evenly and any part of them is a slice between two bounds: a million
are read slice by slice in the memory of one, and slices can be shared out among replicas.
"""

from collections.abc import Collection, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from services.notifier.adapters.contact_store import contact_choices
from services.notifier.domain.audience import Audience, ContactView, Terms, matches
from services.notifier.domain.choices import Wishes, wishes
from services.notifier.domain.copies import slice_of
from services.notifier.domain.lanes import Reach, zalo_phone
from shared.mongo import Document, Store, store_errors

CHOSE_NOTHING = Wishes()
SAMPLE_SHARE = 256
"""One of so many contacts is counted to estimate how many there are."""
_FIELDS = {
    "person": 1,
    "page": 1,
    "oa_id": 1,
    "user_id": 1,
    "followed_at": 1,
    "unfollowed_at": 1,
    "is_follower": 1,
    "last_interaction_at": 1,
    "withdrawn_at": 1,
    "profile.phone": 1,
    "tags": 1,
    "choices": 1,
}


class AudienceStore:
    """The `contacts` collection as audiences see it.

    Args:
        store: the database.
        topics: all subjects of broadcasts; who dropped some of them gets the others.
    """

    def __init__(self, store: Store, topics: Collection[str] = ()) -> None:
        self._contacts = store["contacts"]
        self._topics = topics

    async def size(self) -> int:
        """About how many contacts there are; for the choice of slices.

        Raises:
            StoreUnavailable: unreachable.
        """
        sample = {"$gte": "", "$lt": slice_of(0, SAMPLE_SHARE).end}
        with store_errors():
            return SAMPLE_SHARE * await self._contacts.count_documents({"person": sample})

    async def in_slice(self, lower: str, upper: str) -> list[list[ContactView]]:
        """All contacts of the persons from `lower` on, before `upper`: one list for each person, by name.

        Raises:
            StoreUnavailable: unreachable.
        """
        with store_errors():
            cursor = self._contacts.find({"person": {"$gte": lower, "$lt": upper}}, _FIELDS)
            documents = await cursor.to_list(None)
        return self._by_person(documents)

    async def of_citizens(self, citizen_keys: Sequence[str]) -> list[list[ContactView]]:
        """All contacts, on whatever page, of the persons these citizens are; unknown ones are missing.

        Raises:
            StoreUnavailable: unreachable.
        """
        with store_errors():
            cursor = self._contacts.find({"_id": {"$in": list(citizen_keys)}}, {"person": 1})
            persons = [document["person"] for document in await cursor.to_list(None) if "person" in document]
            documents = await self._contacts.find({"person": {"$in": persons}}, _FIELDS).to_list(None)
        return self._by_person(documents)

    def _by_person(self, documents: list[Document]) -> list[list[ContactView]]:
        # Sorted here: together with a range on the same index a sort costs some servers the whole collection.
        documents.sort(key=lambda document: (document["person"], document["_id"]))
        return [self._views(list(same)) for _, same in groupby(documents, key=itemgetter("person"))]

    def _views(self, of_person: list[Document]) -> list[ContactView]:
        wanted = CHOSE_NOTHING
        if any(document.get("choices") for document in of_person):  # of most people there is nothing to combine
            wanted = wishes(map(contact_choices, of_person), self._topics)  # chosen on one page, it holds on all
        return [_view(document, wanted) for document in of_person]

    async def meant_in_slice(self, lower: str, upper: str, terms: Terms) -> list[str]:
        """The persons from `lower` on, before `upper`, whom an audience means; by name.

        An audience of everybody, or of whole pages, needs no more of a contact than its person.

        Raises:
            StoreUnavailable: unreachable.
        """
        audience = terms.audience
        if audience != Audience(units=audience.units):
            people = await self.in_slice(lower, upper)
            return [contacts[0].person for contacts in people if any(matches(one, terms) for one in contacts)]
        wanted: Document = {"person": {"$gte": lower, "$lt": upper}}
        if audience.units:
            wanted["page"] = {"$in": [page for page, unit in terms.unit_by_page.items() if unit in audience.units]}
        with store_errors():
            documents = await self._contacts.find(wanted, {"_id": 0, "person": 1}).to_list(None)
        return sorted({document["person"] for document in documents})


def _view(document: Document, wanted: Wishes) -> ContactView:
    unfollowed_at = document.get("unfollowed_at")
    phone = (document.get("profile") or {}).get("phone")
    tags: dict[str, Any] = document.get("tags") or {}
    return ContactView(
        person=document["person"],
        reach=Reach(
            citizen_key=document["_id"],
            page=document["page"],
            oa_id=document["oa_id"],
            user_id=document["user_id"],
            unfollowed=unfollowed_at is not None and not document.get("is_follower"),
            opted_out=wanted.opted_out,
            last_interaction_at=document.get("last_interaction_at"),
            withdrawn_at=document.get("withdrawn_at"),
            phone=None if phone is None else zalo_phone(phone),
        ),
        followed_at=document.get("followed_at"),
        topics=wanted.topics,
        wards=wanted.wards,
        tags=frozenset(tag["name"] for tag in tags.values() if tag["is_set"]),
        language=wanted.language,
    )
