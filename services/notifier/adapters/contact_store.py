"""Contacts in MongoDB: one citizen on one page. Every write is the newest of moments, so that order does not matter."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

from services.notifier.domain.choices import Chosen, ContactChoices, Key
from services.notifier.domain.contacts import ContactFacts
from services.notifier.domain.reply import Contact
from shared.errors import StoreUnavailable
from shared.events import ChoiceSubject
from shared.ids import deterministic_id
from shared.mongo import (
    EPOCH,
    Document,
    Store,
    UpdateMany,
    UpdateOne,
    bulk_update,
    insert_new,
    patiently,
    store_errors,
    upsert_all,
    value_of_each,
)
from shared.telemetry import get_logger

log = get_logger()
BACK_FILL = 1_000
BACK_FILL_PAUSE_SECONDS = 5.0
LEARNT_AT_ONCE = 25
"""Facts of one update: each contact looks its own up in a list of so many."""
_TAG_KEY_LENGTH = 16


class ContactStore:
    """The `contacts` collection, and `persons`: what one said for all pages."""

    def __init__(self, store: Store) -> None:
        self._contacts = store["contacts"]
        self._persons = store["persons"]

    async def learn(self, facts: Sequence[ContactFacts]) -> None:
        """Add facts; one entry for each citizen. Facts may repeat and come in any order.

        Choices hold for a person on all pages, so a withdrawal ends them on all pages; whatever else a page was told
        ends on the page where the withdrawal was said.

        Raises:
            StoreUnavailable: some may be learnt; repeat the call.
        """
        # What holds on all pages is written before, and asked for after everything else: so of two facts about a
        # person that are learnt at once, in two replicas, one sees the other.
        await self._keep_of_persons(facts)
        await self._make(facts)
        alike: dict[tuple[Any, ...], list[ContactFacts]] = defaultdict(list)
        for fact in facts:
            alike[_form(fact)].append(fact)
        for same in alike.values():
            for start in range(0, len(same), LEARNT_AT_ONCE):
                part = same[start : start + LEARNT_AT_ONCE]
                theirs = {"_id": {"$in": [fact.citizen_key for fact in part]}}
                await patiently(partial(self._contacts.update_many, theirs, _learning(part)))
        await self._hold_on_all_pages(
            {person_of(one.user_id_by_app) for one in facts if one.user_id_by_app is not None}
        )

    async def _make(self, facts: Sequence[ContactFacts]) -> None:
        """Let there be a contact for each fact; what is known of a new one follows."""
        wanted = {fact.citizen_key: fact for fact in facts}
        with store_errors():
            there = await self._contacts.find({"_id": {"$in": list(wanted)}}, {"_id": 1}).to_list(None)
        for contact in there:
            wanted.pop(contact["_id"], None)
        new: list[Document] = [
            {"_id": key, "oa_id": fact.oa_id, "user_id": fact.user_id, "page": fact.page, "person": person_of(key)}
            for key, fact in wanted.items()
        ]
        await patiently(lambda: insert_new(self._contacts, new))

    async def _keep_of_persons(self, facts: Sequence[ContactFacts]) -> None:
        """Keep stops and withdrawals under the person's name, which outlives what a page knows of them."""
        updates = []
        for fact in facts:
            stages = _choosing({key: one for key, one in fact.chosen.items() if key == _STOP})
            if fact.withdrawn_at is not None:
                stages.append({"$set": {"withdrawn_at": {"$max": ["$withdrawn_at", fact.withdrawn_at]}}})
            if stages and fact.user_id_by_app is not None:
                updates.append(UpdateOne({"_id": person_of(fact.user_id_by_app)}, stages, upsert=True))
        await upsert_all(self._persons, updates)

    async def _hold_on_all_pages(self, persons: Collection[str]) -> None:
        """Bring what holds for these persons to all their contacts."""
        if not persons:
            return
        with store_errors():
            known = await self._persons.find({"_id": {"$in": list(persons)}}).to_list(None)
        await self._stop({one["_id"]: contact_choices(one).chosen for one in known})
        await self._forget({one["_id"]: one["withdrawn_at"] for one in known if "withdrawn_at" in one})

    async def _stop(self, chosen: Mapping[str, Mapping[Key, Chosen]]) -> None:
        """Tell contacts whether their person wants no broadcasts: one that withdraws does not take that along."""
        updates = [
            UpdateMany({"person": person, "choices.broadcasts.by": {"$ne": stop[_STOP].by}}, _choosing(stop))
            for person, stop in chosen.items()
            if stop
        ]
        await patiently(lambda: bulk_update(self._contacts, updates))

    async def _forget(self, withdrawals: Mapping[str, datetime]) -> None:
        """Erase what persons chose, on whatever page, before they withdrew on any; their last withdrawals by person."""
        if not withdrawals:
            return
        withdrawn_at = value_of_each(withdrawals, field="person")
        lists = [f"choices.{subject}" for subject in _LISTED]
        theirs: Document = {
            "person": {"$in": list(withdrawals)},
            "$or": [{name: {"$exists": True}} for name in lists],
        }
        erased = {name: _entries_after(withdrawn_at, name, "at") for name in lists}
        await patiently(lambda: self._contacts.update_many(theirs, [{"$set": erased}]))

    async def of(self, citizen_keys: Iterable[str]) -> dict[str, Contact]:
        """What sending needs to know of these citizens; the unknown ones are missing."""
        with store_errors():
            cursor = self._contacts.find(
                {"_id": {"$in": list(citizen_keys)}}, {"last_interaction_at": 1, "withdrawn_at": 1}
            )
            documents = await cursor.to_list(None)
        return {
            document["_id"]: Contact(document.get("last_interaction_at"), document.get("withdrawn_at"))
            for document in documents
        }

    async def name_persons(self) -> int:
        """Give contacts that were kept before persons had names theirs; safe to repeat and to run on every replica.

        Returns:
            How many were given one.

        Raises:
            StoreUnavailable: some have it; repeat the call.
        """
        named = 0
        while True:
            with store_errors():
                cursor = self._contacts.find({"person": None}, {"user_id_by_app": 1}).limit(BACK_FILL)
                documents = await cursor.to_list(None)
            if not documents:
                return named
            # Fenced with the id it is made from: an event may just have taught us another.
            updates = [
                UpdateOne(
                    {"_id": document["_id"], "user_id_by_app": document.get("user_id_by_app"), "person": None},
                    {"$set": {"person": person_of(document.get("user_id_by_app") or document["_id"])}},
                )
                for document in documents
            ]
            await patiently(partial(bulk_update, self._contacts, updates))
            named += len(updates)

    async def back_fill(self) -> None:
        """`name_persons` until it is done once, however long the database is away."""
        while True:
            try:
                named = await self.name_persons()
            except StoreUnavailable:
                await asyncio.sleep(BACK_FILL_PAUSE_SECONDS)
            else:
                log.info("persons.named", count=named)
                return


def person_of(identity: str) -> str:
    """Name one person over all pages, evenly spread, without an id that Zalo knows.

    Args:
        identity: `user_id_by_app`, the same on all pages of an app; where it is unknown, the citizen key.
    """
    return deterministic_id("person", identity)


_MOMENTS = {
    "last_interaction_at": "interaction_at",
    "followed_at": "followed_at",
    "unfollowed_at": "unfollowed_at",
    "withdrawn_at": "withdrawn_at",
}


def _form(fact: ContactFacts) -> tuple[Any, ...]:
    """The same of facts that one update can add: what a citizen told or chose is written for each by itself."""
    if fact.profile is not None or fact.tags or fact.chosen or fact.withdrawn_at is not None:
        return (fact.citizen_key,)
    return (fact.user_id_by_app is None, *(getattr(fact, name) is None for name in _MOMENTS.values()))


def _learning(facts: Sequence[ContactFacts]) -> list[dict[str, Any]]:
    """One update of contacts as stages: moments first, then what follows from them.

    Texts of people are wrapped in `$literal`: one that begins with `$` would otherwise be read as a field's name.

    Args:
        facts: of one form.
    """
    fact = facts[0]

    def each(value: Callable[[ContactFacts], Any]) -> Any:
        if len(facts) == 1:
            return {"$literal": value(fact)}
        return value_of_each({one.citizen_key: value(one) for one in facts})

    first: dict[str, Any] = {
        "page": each(lambda one: one.page),
        **{
            name: {"$max": [f"${name}", each(attrgetter(of_fact))]}
            for name, of_fact in _MOMENTS.items()
            if getattr(fact, of_fact) is not None
        },
    }
    withdrawn = {"$ifNull": ["$withdrawn_at", EPOCH]}
    # What a person told us is erased by a withdrawal, and older facts that come late do not bring it back.
    second: dict[str, Any] = {
        "is_follower": {"$gt": [{"$ifNull": ["$followed_at", EPOCH]}, {"$ifNull": ["$unfollowed_at", EPOCH]}]},
        "person": {"$ifNull": ["$person", each(lambda one: person_of(one.citizen_key))]},
    }
    if fact.user_id_by_app is not None:
        named_at = each(lambda one: one.named_at)
        is_told: dict[str, Any] = {"$gt": [named_at, withdrawn]}
        second["user_id_by_app"] = {"$cond": [is_told, each(lambda one: one.user_id_by_app), "$user_id_by_app"]}
        second["person"] = {"$cond": [is_told, each(lambda one: person_of(one.user_id_by_app or "")), second["person"]]}
        second["named_at"] = {"$cond": [is_told, {"$max": ["$named_at", named_at]}, "$named_at"]}
    if fact.profile is not None:
        is_newer: dict[str, Any] = {
            "$and": [
                {"$gt": [fact.profile.at, withdrawn]},
                {"$gte": [fact.profile.at, {"$ifNull": ["$profile_at", EPOCH]}]},
            ]
        }
        # The values are kept as one literal: a later profile replaces an earlier one whole.
        second["profile"] = {"$cond": [is_newer, {"$literal": fact.profile.details}, "$profile"]}
        second["profile_at"] = {"$cond": [is_newer, fact.profile.at, "$profile_at"]}
    for name, tag in fact.tags.items():
        key = f"tags.{deterministic_id(name)[:_TAG_KEY_LENGTH]}"  # a name may hold dots and dollars
        is_newer_tag: dict[str, Any] = {
            "$and": [
                {"$gt": [tag.at, withdrawn]},
                {"$gte": [tag.at, {"$ifNull": [f"${key}.changed_at", EPOCH]}]},
            ]
        }
        second[key] = {
            "$cond": [is_newer_tag, {"name": {"$literal": name}, "is_set": tag.is_set, "changed_at": tag.at}, f"${key}"]
        }
    stages: list[dict[str, Any]] = [{"$set": first}, {"$set": second}, *_choosing(fact.chosen)]
    if fact.withdrawn_at is not None:
        erased = {name: _unless_withdrawn(f"${since}", f"${name}") for name, since in _ERASED.items()}
        lists = {name: _entries_after("$withdrawn_at", name, since) for name, since in _ERASED_ENTRIES.items()}
        person = _unless_withdrawn("$named_at", "$person", person_of(fact.citizen_key))
        stages += [{"$set": {**erased, **lists, "person": person}}]
    return stages


def _choosing(choices: Mapping[Key, Chosen]) -> list[dict[str, Any]]:
    """Registers: the newest choice stays. What was chosen before a withdrawal and comes after it is not kept."""
    if not choices:
        return []
    fields: dict[str, Any] = {}
    for (subject, value), chosen in choices.items():
        path = f"choices.{subject}.{value}" if value else f"choices.{subject}"
        known_at = {"$ifNull": [f"${path}.at", EPOCH]}
        counts: dict[str, Any] = {
            "$or": [
                {"$gt": [chosen.at, known_at]},
                {"$and": [{"$eq": [chosen.at, known_at]}, {"$gt": [chosen.by, f"${path}.by"]}]},
            ]
        }
        if subject != "broadcasts":
            counts = {"$and": [counts, {"$gt": [chosen.at, {"$ifNull": ["$withdrawn_at", EPOCH]}]}]}
        fields[path] = {"$cond": [counts, {"is_on": chosen.is_on, "at": chosen.at, "by": chosen.by}, f"${path}"]}
    return [{"$set": fields}]


def contact_choices(document: Document) -> ContactChoices:
    """The choices of a stored contact; needs its `choices` and `withdrawn_at`."""
    stored: Document = document.get("choices") or {}
    chosen: dict[Key, Chosen] = {}
    if one := stored.get("broadcasts"):
        chosen["broadcasts", ""] = Chosen(one["is_on"], one["at"], one["by"])
    for subject in _LISTED:
        for value, one in (stored.get(subject) or {}).items():
            chosen[subject, value] = Chosen(one["is_on"], one["at"], one["by"])
    return ContactChoices(chosen, document.get("withdrawn_at"))


_STOP: Key = ("broadcasts", "")
# What a withdrawal erases, with the moment that says how old it is.
_ERASED = {"user_id_by_app": "named_at", "named_at": "named_at", "profile": "profile_at", "profile_at": "profile_at"}
# Of these, the entries that are not newer. A stop stays: it is what keeps us from writing.
_LISTED: tuple[ChoiceSubject, ...] = ("topic", "ward", "language")
_ERASED_ENTRIES = {"tags": "changed_at", **{f"choices.{subject}": "at" for subject in _LISTED}}


def _unless_withdrawn(since: str, value: Any, otherwise: Any = "$$REMOVE") -> Any:
    return {"$cond": [{"$gt": [{"$ifNull": [since, EPOCH]}, "$withdrawn_at"]}, value, otherwise]}


def _entries_after(withdrawn_at: Any, name: str, since: str) -> Any:
    newer = {"$gt": [f"$$this.v.{since}", withdrawn_at]}
    entries = {"$objectToArray": {"$ifNull": [f"${name}", {}]}}
    return {"$arrayToObject": {"$filter": {"input": entries, "cond": newer}}}
