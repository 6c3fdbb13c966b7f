"""Every collection with its owner and indexes, as data. `hub init` creates them; services refuse to start without.

An index is named after its fields, so that `explain` and the checks speak of the same thing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from shared.errors import HubError
from shared.events import Language
from shared.mongo import EPOCH, Collection, Document, IndexConflict, Store, require_indexes, store_errors


class IndexMismatch(HubError):
    """An index of this name is there with other fields or options; only a person can say which one is right."""

    code = "store.index_mismatch"


@dataclass(frozen=True)
class Index:
    """One index; `only` makes it partial, `expires_after` a TTL index (clean-up only, never a rule)."""

    keys: tuple[tuple[str, int | str], ...]
    unique: bool = False
    only: dict[str, Any] | None = None
    expires_after: timedelta | None = None

    @property
    def name(self) -> str:
        """Fields and directions, as MongoDB itself would name it."""
        return "_".join(f"{key}_{direction}" for key, direction in self.keys)


@dataclass(frozen=True)
class CollectionSpec:
    """One collection. `about` says what one document is."""

    name: str
    owner: str
    about: str
    indexes: tuple[Index, ...] = field(default=())


def _index(*fields: str, **options: Any) -> Index:
    return Index(tuple((f.removeprefix("-"), -1 if f.startswith("-") else 1) for f in fields), **options)


ALL_COLLECTIONS: tuple[CollectionSpec, ...] = (
    CollectionSpec(
        "webhook_spool",
        "intake",
        "an accepted event that Kafka could not take yet; relayed in order of `order`",
        (_index("order"),),
    ),
    CollectionSpec(
        "webhook_records",
        "intake",
        "an accepted webhook that led to nothing else, with its reason",
        (_index("reason", "-received_at"), _index("oa_id", "user_id", "-received_at")),
    ),
    CollectionSpec(
        "attachments",
        "intake",
        "one attachment to fetch or fetched; its bytes are in the GridFS bucket of the same name",
        (_index("state", "due_at"), _index("message_event_id")),
    ),
    CollectionSpec(
        "messages",
        "router",
        "one message of a citizen with its reading, its assignment and the replies asked for; also the inbox",
        (
            _index("citizen_key", "-sent_at"),
            _index("case_code", "sent_at"),
            _index("message_id"),
            _index("reasons", "-received_at"),
            _index("small_talk_key"),
            _index("memory_key", only={"memory_key": {"$exists": True}}),
        ),
    ),
    CollectionSpec(
        "cases",
        "router",
        "what an officer works on",
        (
            _index("code", unique=True),
            _index("citizen_key", "matter", unique=True, only={"is_open": True}),
            _index("citizen_key", "-last_message_at"),
            _index("open_key"),
            _index("unit", "is_open", "-last_message_at"),
            _index("unit", "is_open", "priority", "due_at"),
            _index("due_at", only={"state": "waiting_officer"}),
        ),
    ),
    CollectionSpec("case_entries", "router", "one line of a case's history", (_index("case_code", "at"),)),
    CollectionSpec(
        "withdrawals", "router", "until when what a person let us remember is erased, also where it arrives later"
    ),
    CollectionSpec("counters", "router", "the last number given in a series (case codes of a day)"),
    CollectionSpec(
        "reply_ledger",
        "notifier",
        "one reply with everything that happened to it",
        (
            _index("state", "priority", "due_at"),
            _index("citizen_key", "state"),
            _index("case_code", "requested_at"),
            _index("message_key", unique=True),
            _index("answers_event_id"),
        ),
    ),
    CollectionSpec(
        "delivery_reports",
        "notifier",
        "one echo or receipt of Zalo",
        (_index("message_id"), _index("citizen_key", "text_sha256", "reported_at")),
    ),
    CollectionSpec(
        "contacts",
        "notifier",
        "one citizen on one page: follower state, last interaction, opt-outs",
        (_index("oa_id", "is_follower"), _index("user_id_by_app"), _index("person")),
    ),
    CollectionSpec(
        "persons",
        "notifier",
        "what one person said for all pages, also those not known yet: a stop, and when they withdrew",
    ),
    CollectionSpec(
        "broadcasts",
        "notifier",
        "one broadcast: its draft, its life and who did what; its recipients are elsewhere",
        (_index("state", "starts_at"), _index("-created_at"), _index("draft.unit", "-created_at")),
    ),
    CollectionSpec(
        "broadcast_chunks",
        "notifier",
        "the persons of one slice of a broadcast's audience, with counters that add up to them",
        (_index("broadcast_id", "state", "due_at"), _index("state", "is_settled"), _index("in_flight")),
    ),
    CollectionSpec(
        "recipients",
        "notifier",
        "one person's copy of a broadcast, or why there is none",
        (
            _index("broadcast_id", "chunk"),
            _index("citizen_key", "marked_at"),
            _index("message_key", unique=True),
            _index("due_at", only={"state": "uncertain"}),
        ),
    ),
    CollectionSpec(
        "article_sends",
        "notifier",
        "one article on its way to the followers of one page, with what Zalo counted since",
        (
            _index("broadcast_id", "page"),
            _index("state", "due_at"),
            _index("page", "marked_at"),
            _index("collect_at"),
            _index("day_slot", unique=True),
        ),
    ),
    CollectionSpec("page_tokens", "notifier", "the OAuth tokens of one page, encrypted"),
    CollectionSpec("rate_buckets", "notifier", "how many calls a page or an app may still make now"),
    CollectionSpec("accounts", "console", "one person who may sign in: unit, role, password hash", (_index("unit"),)),
    CollectionSpec(
        "sessions",
        "console",
        "one sign-in of an account, in a browser or through the API; deleting it signs out",
        (_index("account", "-created_at"), _index("expires_at", expires_after=timedelta(hours=1))),
    ),
    CollectionSpec(
        "sign_in_attempts",
        "console",
        "how often an account or an address tried to sign in lately",
        (_index("window_ends_at", expires_after=timedelta(hours=1)),),
    ),
    CollectionSpec(
        "pending_actions",
        "console",
        "an officer's decision; it waits for its ten seconds in which it can be undone and is then published once",
        (
            _index("state", "due_at"),
            _index("case_code", "-decided_at"),
            _index("finished_at", expires_after=timedelta(days=30)),
        ),
    ),
    CollectionSpec(
        "labels",
        "console",
        "what an officer said a message really was, to learn from",
        (_index("case_code", "labelled_at"), _index("labelled_at")),
    ),
    CollectionSpec(
        "unit_moves",
        "shared",
        "a case or an account that a change of units moved, with where it came from",
        (_index("change"),),
    ),
    CollectionSpec("leases", "shared", "who may do a thing that only one replica may do"),
    CollectionSpec(
        "trace_spans",
        "shared",
        "one step of one message's story; `trace_id` is the correlation id",
        (_index("trace_id", "started_at"), _index("started_at", expires_after=timedelta(days=7))),
    ),
    CollectionSpec(
        "dead_letters",
        "shared",
        "an event that could not be handled, byte for byte",
        (_index("state", "-last_at"), _index("service", "state")),
    ),
)


def indexes_of(service: str) -> dict[str, list[str]]:
    """Names of the indexes a service needs: its own and the shared ones."""
    return {
        spec.name: [index.name for index in spec.indexes]
        for spec in ALL_COLLECTIONS
        if spec.owner in {service, "shared"} and spec.indexes
    }


async def create_indexes(store: Store) -> list[str]:
    """Create what is missing; safe to repeat.

    Returns:
        `collection.index` of every index, new or old.

    Raises:
        StoreUnavailable: run it again.
        IndexMismatch: one exists with other options; drop it by hand and run it again.
    """
    names = []
    for spec in ALL_COLLECTIONS:
        for index in spec.indexes:
            options: dict[str, Any] = {"name": index.name, "unique": index.unique}
            if index.only is not None:
                options["partialFilterExpression"] = index.only
            if index.expires_after is not None:
                options["expireAfterSeconds"] = int(index.expires_after.total_seconds())
            try:
                with store_errors():
                    await store[spec.name].create_index(list(index.keys), **options)
            except IndexConflict as error:
                raise IndexMismatch(
                    f"collection {spec.name} has an index like {index.name} with other options: drop it, then run "
                    "`hub init` again"
                ) from error
            names.append(f"{spec.name}.{index.name}")
    return names


async def verify_indexes(store: Store, service: str) -> None:
    """Refuse to start before the init job ran.

    Raises:
        NotReady: an index is missing.
        StoreUnavailable: cannot tell; ask again.
    """
    await require_indexes(store, indexes_of(service))


async def contacts_of_persons(contacts: Collection, citizen_keys: Iterable[str]) -> dict[str, list[Document]]:
    """Each citizen's contact and, after it, the same person's on other pages; empty of whom nothing is known.

    Args:
        contacts: `store["contacts"]`, opened by a caller that has rights on it.
        citizen_keys: of `shared.ids`.

    Raises:
        StoreUnavailable: try again.
    """
    of: dict[str, list[Document]] = {key: [] for key in citizen_keys}
    with store_errors():
        found = await contacts.find({"_id": {"$in": list(of)}}).to_list(None) if of else []
        # Contacts of long ago have no person until the notifier names them.
        persons = sorted({contact["person"] for contact in found if contact.get("person") is not None})
        same = await contacts.find({"person": {"$in": persons}}).to_list(None) if persons else []
    for contact in found:
        person = contact.get("person")
        others = [one for one in same if one["person"] == person and one["_id"] != contact["_id"]]
        of[contact["_id"]] = [contact, *others]
    return of


async def contacts_of_person(contacts: Collection, citizen_key: str) -> list[Document]:
    """The same of one citizen."""
    return (await contacts_of_persons(contacts, [citizen_key]))[citizen_key]


def chosen_language(contacts: Iterable[Document]) -> Language | None:
    """The language that a person chose for answers and news, on whatever page; None of who never did.

    A withdrawal on one page ends what was chosen before it on any.

    Args:
        contacts: all of one person.
    """
    contacts = list(contacts)
    since = max((contact.get("withdrawn_at") or EPOCH for contact in contacts), default=EPOCH)
    chosen = [
        (one["at"], one["by"], language)
        for contact in contacts
        for language, one in ((contact.get("choices") or {}).get("language") or {}).items()
        if one["is_on"] and one["at"] > since
    ]
    return max(chosen)[-1] if chosen else None
