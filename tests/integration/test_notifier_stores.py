"""Contacts, reports and rate limits on the real store, with both drivers."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.notifier.adapters.contact_store import ContactStore, person_of
from services.notifier.adapters.rate_bucket import RateBuckets
from services.notifier.adapters.reply_ledger import LedgerRow, ReplyLedger, due_filter
from services.notifier.adapters.report_store import ReportStore
from services.notifier.domain.contacts import facts_of_change, facts_of_message, merged
from services.notifier.domain.reply import ORDINARY, Contact
from shared.events import CitizenChanged
from shared.ids import deterministic_id, text_digest
from shared.mongo import Document, Store
from tests.factories import NOW, a_change, a_message, a_reply, a_report, a_template_delivery
from tests.unit.notifier.samples import CITIZEN
from tests.unit.notifier.stores import fresh_store

HOUR = timedelta(hours=1)
BY_APP = "3000000000000000001"


@pytest.fixture(params=["motor", "pymongo"])
async def store(request: pytest.FixtureRequest, mongo_uri: str) -> AsyncIterator[Store]:
    async with fresh_store(mongo_uri, request.param) as fresh:
        yield fresh


async def contact(store: Store) -> Document:
    document = await store["contacts"].find_one({"_id": CITIZEN})
    assert document is not None
    return document


async def learn(store: Store, *changes: CitizenChanged) -> None:
    for change in changes:
        await ContactStore(store).learn([facts_of_change(change)])


async def test_the_latest_message_opens_the_window_whatever_the_order(store: Store) -> None:
    contacts = ContactStore(store)
    for hours in (2, 5, 1):
        await contacts.learn([facts_of_message(a_message(sent_at=NOW + hours * HOUR))])

    assert await contacts.of([CITIZEN, "4:unknown"]) == {CITIZEN: Contact(NOW + 5 * HOUR)}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_follower_is_one_whose_last_word_was_follow(store: Store, order: tuple[int, ...]) -> None:
    events = [
        a_change(change="followed", changed_at=NOW),
        a_change(change="unfollowed", changed_at=NOW + HOUR),
        a_change(change="followed", changed_at=NOW + 2 * HOUR),
    ]
    await learn(store, *(events[place] for place in order), events[order[0]])

    assert (await contact(store))["is_follower"] is True


async def test_an_unfollow_that_is_repeated_after_a_new_follow_changes_nothing(store: Store) -> None:
    unfollowed = a_change(change="unfollowed", changed_at=NOW)
    await learn(store, unfollowed, a_change(change="followed", changed_at=NOW + HOUR), unfollowed)

    assert (await contact(store))["is_follower"] is True


async def test_a_withdrawal_erases_what_the_citizen_told_and_older_facts_do_not_bring_it_back(store: Store) -> None:
    shared = a_change(
        change="profile_shared",
        changed_at=NOW,
        details={"name": "$where", "phone": "84900000001"},
        user_id_by_app="3000000000000000001",
    )
    tagged = a_change(change="tag_added", changed_at=NOW, details={"tag": "hộ nghèo"})
    await learn(store, shared, tagged)
    before = await contact(store)
    assert before["profile"] == {"name": "$where", "phone": "84900000001"}
    assert [tag["name"] for tag in before["tags"].values()] == ["hộ nghèo"]

    await learn(store, a_change(change="withdrawn", changed_at=NOW + HOUR), shared)

    after = await contact(store)
    assert not any(after.get(name) for name in ("profile", "profile_at", "tags", "user_id_by_app", "named_at"))
    assert after["withdrawn_at"] == NOW + HOUR


async def test_what_a_citizen_tells_after_a_withdrawal_is_kept(store: Store) -> None:
    again = a_change(change="profile_shared", changed_at=NOW + 2 * HOUR, details={"phone": "84900000002"})
    await learn(store, again, a_change(change="withdrawn", changed_at=NOW + HOUR))

    assert (await contact(store))["profile"] == {"phone": "84900000002"}


async def test_a_person_is_named_alike_on_all_pages_once_zalo_tells_who_it_is(store: Store) -> None:
    contacts = ContactStore(store)
    await contacts.learn([facts_of_message(a_message(user_id_by_app=None))])
    assert (await contact(store))["person"] == person_of(CITIZEN)

    await contacts.learn([facts_of_message(a_message(user_id_by_app=BY_APP, sent_at=NOW + HOUR))])
    await contacts.learn([facts_of_message(a_message(user_id_by_app=None, sent_at=NOW + 2 * HOUR))])
    assert (await contact(store))["person"] == person_of(BY_APP)

    await learn(store, a_change(change="withdrawn", changed_at=NOW + 3 * HOUR))
    await contacts.learn([facts_of_message(a_message(user_id_by_app=BY_APP, sent_at=NOW + HOUR))])
    assert (await contact(store))["person"] == person_of(CITIZEN)


async def test_contacts_from_before_persons_had_names_are_given_one(store: Store) -> None:
    for citizen, by_app in [("4:1", BY_APP), ("4:2", None), ("4:3", None)]:
        known = {"user_id_by_app": by_app} if by_app else {}
        await store["contacts"].insert_one({"_id": citizen, "page": "p", "oa_id": "4", "user_id": "1", **known})
    await store["contacts"].update_one({"_id": "4:3"}, {"$set": {"person": "has one"}})

    assert [await ContactStore(store).name_persons(), await ContactStore(store).name_persons()] == [2, 0]

    found = await store["contacts"].find({}).sort([("_id", 1)]).to_list(None)
    assert [document["person"] for document in found] == [person_of(BY_APP), person_of("4:2"), "has one"]


async def test_an_older_profile_does_not_replace_a_newer_one(store: Store) -> None:
    newer = a_change(change="profile_updated", changed_at=NOW + HOUR, details={"phone": "2"})
    await learn(store, newer, a_change(change="profile_shared", changed_at=NOW, details={"phone": "1"}))

    assert (await contact(store))["profile"] == {"phone": "2"}


async def test_two_replicas_can_make_the_same_new_contact_at_once(store: Store) -> None:
    contacts = ContactStore(store)
    facts = [merged([facts_of_message(a_message(sent_at=NOW + n * HOUR))]) for n in range(8)]

    await asyncio.gather(*(contacts.learn(one) for one in facts))

    assert (await contact(store))["last_interaction_at"] == NOW + 7 * HOUR


async def test_a_repeated_report_is_kept_once_and_one_message_id_each(store: Store) -> None:
    reports = ReportStore(store)
    seen = a_report(report="seen", message_ids=("m1", "m2"))

    await reports.add([seen])
    await reports.add([seen, a_report(message_ids=("m1",), reported_at=NOW + HOUR)])

    assert await reports.of_messages(["m1", "m2", "m3"]) == {
        "m1": {"seen": NOW, "echo": NOW + HOUR},
        "m2": {"seen": NOW},
    }


async def test_a_delivery_that_names_a_send_is_kept_once_and_proves_it(store: Store) -> None:
    reports = ReportStore(store)
    delivery = a_template_delivery(message_id="m1", tracking_id="s1")

    for _ in range(2):
        await reports.add_deliveries([(delivery, CITIZEN)])
    await reports.add_deliveries([])

    (proof,) = await reports.proofs([CITIZEN], since=NOW)
    assert (proof.message_id, proof.kind, proof.send_id, proof.at) == ("m1", "received", "s1", NOW)
    assert await reports.of_messages(["m1"]) == {"m1": {"received": NOW}}


async def test_proofs_are_what_zalo_reported_since_then_without_what_people_wrote(store: Store) -> None:
    reports = ReportStore(store)
    await reports.add(
        [
            a_report(event_id="1" * 32, message_ids=("old",), reported_at=NOW - HOUR),
            a_report(event_id="2" * 32, message_ids=("mine",), text_sha256=text_digest("a")),
            a_report(event_id="3" * 32, message_ids=("theirs",), admin_id="7"),
            a_report(event_id="4" * 32, message_ids=("theirs",), report="seen"),
            a_report(event_id="5" * 32, message_ids=("liked",), report="reacted"),
            a_report(event_id="6" * 32, message_ids=("other",), user_id="2000000000000000002"),
            a_report(event_id="7" * 32, message_ids=("picture",), text_sha256=None),
        ]
    )

    proofs = await reports.proofs([CITIZEN], since=NOW)

    assert {proof.message_id: proof.text_sha256 for proof in proofs} == {
        "mine": text_digest("a"),
        "picture": text_digest(""),
    }


async def test_replicas_together_take_no_more_than_the_limit(store: Store) -> None:
    limits = {"page:1": 600}
    replicas = [RateBuckets(store, calls_per_minute=limits) for _ in range(3)]
    await asyncio.gather(*(replica.create() for replica in replicas))

    async def take(replica: RateBuckets, until: float) -> int:
        taken = 0
        while time.monotonic() < until:
            taken += (await replica.take("page:1", 3)).tokens
        return taken

    started = time.monotonic()
    taken = sum(await asyncio.gather(*(take(replica, started + 1.5) for replica in replicas)))

    elapsed = time.monotonic() - started
    assert taken <= 4 + 10 * elapsed, "a full bucket and what flowed in"
    assert taken >= 4, "the full bucket at least"


async def test_bulk_leaves_replies_their_share_and_small_buckets_have_none(store: Store) -> None:
    buckets = RateBuckets(store, calls_per_minute={"page:1": 6_000, "page:2": 60})  # 40 tokens, and one
    await buckets.create()

    bulk = await buckets.take("page:1", 1_000, reserved_share=0.5)
    replies = await buckets.take("page:1", 1_000)

    assert 20 <= bulk.tokens < 40
    assert bulk.wait_seconds > 0
    assert replies.tokens >= 20
    assert (await buckets.take("page:2", 1, reserved_share=0.5)).tokens == 1


async def test_a_block_stops_every_replica_until_it_ends(store: Store) -> None:
    one, other = (RateBuckets(store, calls_per_minute={"page:1": 60_000}) for _ in range(2))
    await one.create()
    assert (await other.take("page:1", 1)).tokens == 1

    await one.block(["page:1"], seconds=30)
    await one.block(["page:1"], seconds=1)

    grant = await other.take("page:1", 5)
    assert grant.tokens == 0
    assert grant.blocked_until is not None
    assert 25 < (grant.blocked_until - await store.server_now()).total_seconds() <= 30


async def test_unused_tokens_are_used_first(store: Store) -> None:
    buckets = RateBuckets(store, calls_per_minute={"page:1": 1_500})
    await buckets.create()
    assert (await buckets.take("page:1", 10)).tokens == 10

    buckets.give_back("page:1", 4)

    assert (await buckets.take("page:1", 4)).tokens == 4


async def test_the_search_for_due_replies_uses_its_index(store: Store) -> None:
    rows = [
        LedgerRow(a_reply(event_id=deterministic_id(str(n)), user_id=f"2{n:018}"), "1000000000000000001", n, None)
        for n in range(300)
    ]
    await ReplyLedger(store, lease=timedelta(minutes=1)).add(rows, now=NOW)

    plan = await store["reply_ledger"].find(due_filter(ORDINARY, NOW)).sort([("due_at", 1)]).limit(64).explain()

    assert "state_1_priority_1_due_at_1" in str(plan["queryPlanner"]["winningPlan"])
    assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])
