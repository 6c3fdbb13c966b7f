"""The `hub` command against real servers, run as a person runs it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from typer.testing import CliRunner, Result

import cli.commands.init
from cli.app import app
from cli.commands.cases import reply_id
from cli.kafka_admin import KafkaAdmin
from cli.settings import load_settings
from cli.terminal import LOCAL
from shared import topics
from shared.case_codes import case_code
from shared.collections import create_indexes
from shared.dead_letter import DeadLetter, DeadLetters
from shared.events import OfficerActed
from shared.mongo import Binary, Store, open_store
from shared.topics import Topic
from tests.factories import OA_ID, PAGE

Hub = Callable[..., Result]
_consumer: Any = AIOKafkaConsumer
USER = "2000000000000000001"
CITIZEN = f"{OA_ID}:{USER}"


@pytest.fixture(autouse=True)
def _environment(kafka_bootstrap: str, mongo_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("HUB_HOME", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    monkeypatch.setenv("MONGO_URI", mongo_uri)
    monkeypatch.setenv("MONGO_DATABASE", f"test_{uuid.uuid4().hex[:12]}")
    monkeypatch.delenv("HUB_OFFICER", raising=False)


@pytest.fixture
def hub() -> Hub:
    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result

    return run


@asynccontextmanager
async def opened() -> AsyncIterator[Store]:
    store = open_store(load_settings())
    yield store
    await store.close()


def put(**documents: list[dict[str, Any]]) -> None:
    """Insert documents by collection."""

    async def insert() -> None:
        async with opened() as store:
            for collection, rows in documents.items():
                await store[collection].insert_many(rows)

    asyncio.run(insert())


def read_topic(name: str, count: int) -> list[Any]:
    """The first records of a topic, by a plain consumer."""

    async def read() -> list[Any]:
        consumer = _consumer(
            name, bootstrap_servers=load_settings().kafka_bootstrap_servers, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            async with asyncio.timeout(120):
                return [await consumer.getone() for _ in range(count)]
        finally:
            await consumer.stop()

    return asyncio.run(read())


def new_topic(*, partitions: int = 3, **configs: str) -> Topic:
    """A topic of this test's own, really there."""
    topic = replace(topics.OFFICER_ACTIONS, name=f"test.{uuid.uuid4().hex[:10]}.v1", partitions=3)

    async def create() -> None:
        async with KafkaAdmin(load_settings().kafka_bootstrap_servers) as admin:
            await admin.create_topic(topic.name, partitions=partitions, replication_factor=1, configs=configs)

    asyncio.run(create())
    return topic


# -- init


def test_init_makes_what_is_missing_and_may_run_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = (replace(topics.OFFICER_ACTIONS, name=f"test.{uuid.uuid4().hex[:10]}.v1"),)
    monkeypatch.setattr(cli.commands.init, "ALL_TOPICS", declared)

    first = json.loads(hub("init", "--json", "--strict").stdout)
    second = json.loads(hub("init", "--json", "--strict").stdout)

    assert first["topics_created"] == [declared[0].name]
    assert second["topics_created"] == []
    assert first["indexes"] == second["indexes"] != []
    assert first["drift"] == second["drift"] == []

    async def state() -> Any:
        async with KafkaAdmin(load_settings().kafka_bootstrap_servers) as admin:
            return (await admin.topic_states([declared[0].name]))[declared[0].name]

    found = asyncio.run(state())
    assert found.partitions == declared[0].partitions
    assert found.configs["retention.ms"] == str(14 * 86_400_000)
    assert found.configs["unclean.leader.election.enable"] == "false"


def test_init_reports_an_existing_topic_that_differs_and_leaves_it_alone(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(partitions=1, **{"retention.ms": "1000"})
    monkeypatch.setattr(cli.commands.init, "ALL_TOPICS", (topic,))

    drift = json.loads(hub("init", "--json").stdout)["drift"]
    strict = hub("init", "--strict", code=1)

    assert {(one["what"], one["actual"]) for one in drift if one["is_dangerous"]} >= {
        ("partitions", "1"),
        ("retention.ms", "1000"),
    }
    assert "retention.ms is 1000, declared 1209600000" in strict.output


def test_init_wants_as_many_brokers_as_copies(hub: Hub) -> None:
    result = hub("init", "--replication-factor", "3", "--timeout", "1", code=4)

    assert "1 of the 3 brokers that 3 copies need are there. [brokers_missing]" in result.output


def test_init_says_which_server_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    result = hub("init", "--timeout", "1", code=4)

    assert "127.0.0.1:1" in result.output
    assert "[kafka_unreachable]" in result.output


# -- dead letters


def park(topic: Topic, *offsets: int, reason: str = "handler.failed") -> list[str]:
    async def add() -> list[str]:
        async with opened() as store:
            await create_indexes(store)
            letters = DeadLetters(store, "router")
            headers = (("ce_id", b"\xff\xfe"), ("empty", None), ("content-type", b"application/json"))
            return [
                await letters.park(
                    DeadLetter(topic.name, 0, n, b"key", headers, f'{{"n": {n}, "\xe1"'.encode(), reason, "KeyError")
                )
                for n in offsets
            ]

    return asyncio.run(add())


def test_a_dead_letter_is_listed_shown_and_replayed_as_it_was(hub: Hub) -> None:
    topic = new_topic()
    [letter_id] = park(topic, 7)

    listed = json.loads(hub("dead-letters", "list", "--json").stdout)
    shown = hub("dead-letters", "show", letter_id[:8])
    hub("dead-letters", "replay", letter_id[:8])

    assert (listed["total"], listed["items"][0]["id"]) == (1, letter_id)
    assert "handler.failed" in shown.stdout
    assert '{"n": 7, "á"' in shown.stdout
    [record] = read_topic(topic.name, 1)
    assert record.key == b"key"
    assert record.value == '{"n": 7, "á"'.encode()
    assert record.headers == (("ce_id", b"\xff\xfe"), ("empty", None), ("content-type", b"application/json"))
    assert json.loads(hub("dead-letters", "list", "--json").stdout)["total"] == 0
    again = json.loads(hub("dead-letters", "list", "--state", "replayed", "--json").stdout)
    assert again["items"][0]["replayed_at"]


def test_all_letters_of_one_reason_are_replayed_in_order_and_a_dry_run_sends_nothing(hub: Hub) -> None:
    topic = new_topic()
    park(topic, *range(20))
    park(topic, 99, reason="event.unreadable")

    dry = json.loads(hub("dead-letters", "replay", "--all", "--reason", "handler.failed", "--dry-run", "--json").stdout)
    done = json.loads(hub("dead-letters", "replay", "--all", "--reason", "handler.failed", "--json").stdout)

    assert (len(dry["would_replay"]), dry["replayed"], len(done["replayed"])) == (20, [], 20)
    records = read_topic(topic.name, 20)
    assert [record.value for record in records] == [f'{{"n": {n}, "á"'.encode() for n in range(20)]
    assert json.loads(hub("dead-letters", "list", "--json").stdout)["items"][0]["reason"] == "event.unreadable"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("show", "zzz"), 2, "id_malformed"),
        (("show", "abcdef"), 3, "dead_letter_not_found"),
        (("replay",), 2, "replay_what"),
        (("replay", "abcdef", "--all"), 2, "replay_what"),
        (("replay", "abcdef", "--reason", "x"), 2, "replay_what"),
    ],
)
def test_a_wrong_request_about_dead_letters_says_what_is_wrong(
    hub: Hub, arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert f"[{says}]" in hub("dead-letters", *arguments, code=code).output


# -- cases


def a_case(code: str = "Q12-261124-0042", **changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    filled = {
        "_id": uuid.uuid4().hex,
        "code": code,
        "citizen_key": CITIZEN,
        "matter": code,
        "channel": "zalo",
        "page": PAGE,
        "oa_id": OA_ID,
        "user_id": USER,
        "unit": PAGE,
        "category": "tip",
        "urgency": "high",
        "priority": 1,
        "state": "waiting_officer",
        "is_open": True,
        "opened_at": now,
        "last_message_at": now,
        "due_at": now + timedelta(hours=1),
    }
    return {**filled, **changes}


def a_message_document(code: str = "Q12-261124-0042", *, hours_ago: float = 1, **changes: Any) -> dict[str, Any]:
    sent_at = datetime.now(UTC) - timedelta(hours=hours_ago)
    filled = {
        "_id": uuid.uuid4().hex,
        "citizen_key": CITIZEN,
        "case_code": code,
        "message_id": uuid.uuid4().hex[:20],
        "correlation_id": "c" * 32,
        "kind": "text",
        "text": "có người bán ma túy ở đầu hẻm",
        "sent_at": sent_at,
        "received_at": sent_at,
        "decided_at": sent_at,
        "reasons": ["rule.tip.drugs", "unit.page"],
    }
    return {**filled, **changes}


def test_the_story_of_a_case_has_every_step_and_reason(hub: Hub) -> None:
    message = a_message_document()
    reply = {
        "_id": "r" * 32,
        "case_code": "Q12-261124-0042",
        "origin": "automatic",
        "template": "tip.received",
        "state": "failed",
        "reason": "window.closed",
        "requested_at": datetime.now(UTC),
        "content": {"text": "Cảm ơn, cán bộ đã nhận tin."},
        "attempts": [],
    }
    letter = {
        "_id": "d" * 32,
        "key": Binary(CITIZEN.encode()),
        "first_at": datetime.now(UTC),
        "service": "notifier",
        "state": "parked",
        "reason": "handler.failed",
        "topic": "delivery.reports.v1",
        "error": "KeyError",
    }
    case = a_case()
    chosen = {"en": {"is_on": True, "at": datetime.now(UTC), "by": "a"}}
    here: dict[str, Any] = {"_id": f"{case['oa_id']}:{case['user_id']}", "person": "p"}
    on_another_page: dict[str, Any] = {"_id": "4000000000000000009:1", "person": "p", "choices": {"language": chosen}}
    put(cases=[case], messages=[message], reply_ledger=[reply], dead_letters=[letter], contacts=[here, on_another_page])

    told = hub("case", "show", "q12-261124-0042", "--trace")
    story = json.loads(hub("case", "show", "Q12-261124-0042", "--json").stdout)

    assert "Công an phường Tân Chánh Hiệp" in told.stdout
    assert "có người bán ma túy ở đầu hẻm" in told.stdout
    assert "language  en, chosen by the citizen" in told.stdout
    reasons = [reason for line in story["story"] for reason in line["reasons"]]
    assert reasons == ["rule.tip.drugs", "unit.page", "window.closed", "handler.failed"]
    assert story["case"]["code"] == "Q12-261124-0042"


def test_a_number_is_todays_case_or_else_yesterdays_and_a_beginning_lists_closed_cases_too(hub: Hub) -> None:
    today = datetime.now(LOCAL).date()
    todays, yesterdays = (case_code("Q12", today - timedelta(days=ago), 42) for ago in (0, 1))
    last = case_code("Q12", today - timedelta(days=1), 9_999)
    put(cases=[a_case(todays, is_open=False), a_case(yesterdays), a_case(last)])

    def listed(*arguments: str) -> set[str]:
        return {case["code"] for case in json.loads(hub("cases", "list", *arguments, "--json").stdout)["items"]}

    assert todays in hub("case", "show", "42").stdout
    assert last in hub("case", "show", "9999").stdout
    assert listed("0042") == {todays, yesterdays}
    assert listed("0042", "--open") == {yesterdays}
    assert listed(f"{today:%y%m%d}") == {todays}
    assert "[case_not_found]" in hub("case", "show", "9998", code=3).output
    assert "[code_malformed]" in hub("cases", "reply", "42", "x", "--officer", "An", code=2).output, "whole codes only"


def test_the_queue_of_a_unit_has_emergencies_first_then_the_earliest_deadline(hub: Hub) -> None:
    now = datetime.now(UTC)
    put(
        cases=[
            a_case("Q12-261124-0001", due_at=now + timedelta(hours=5)),
            a_case("Q12-261124-0002", due_at=now - timedelta(hours=1)),
            a_case("Q12-261124-0003", priority=0, due_at=now + timedelta(hours=9)),
            a_case("Q12-261124-0004", unit="thanh-loc"),
            a_case("Q12-261124-0005", is_open=False),
        ]
    )

    mine = json.loads(hub("cases", "list", "--unit", PAGE, "--json").stdout)
    everything = json.loads(hub("cases", "list", "--all", "--citizen", CITIZEN, "--json").stdout)

    assert [case["code"][-1] for case in mine["items"]] == ["3", "2", "1"]
    assert everything["total"] == 5
    assert "OVER by" in hub("cases", "list", "--unit", PAGE).stdout


def test_an_officers_answer_is_published_once_however_often_it_is_sent(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic()
    monkeypatch.setattr(topics, "OFFICER_ACTIONS", topic)
    newest = a_message_document(hours_ago=1)
    put(cases=[a_case(user_id_by_app="3")], messages=[a_message_document(hours_ago=30), newest])
    answer = ("cases", "reply", "Q12-261124-0042", "Mời bác đến trụ sở.", "--officer", "Nguyễn Văn An", "--close")

    dry = json.loads(hub(*answer, "--dry-run", "--json").stdout)
    first = json.loads(hub(*answer, "--json").stdout)
    second = json.loads(hub(*answer, "--json").stdout)
    other = json.loads(hub(*answer, "--request-id", "again", "--json").stdout)

    assert (dry["published"], first["published"]) == (False, True)
    assert dry["event_id"] == first["event_id"] == second["event_id"] != other["event_id"]
    assert first["event_id"] == reply_id("Q12-261124-0042", "Nguyễn Văn An", "Mời bác đến trụ sở.", newest["_id"]), (
        "until the citizen writes again it is the same answer"
    )
    assert first["window"]["state"] == "free"
    records = read_topic(topic.name, 3)
    event = OfficerActed.model_validate_json(records[0].value)
    assert event.event_id == first["event_id"]
    assert (event.case_code, event.officer, event.closes_case) == ("Q12-261124-0042", "Nguyễn Văn An", True)
    assert (event.text, event.user_id_by_app, event.correlation_id) == ("Mời bác đến trụ sở.", "3", "c" * 32)
    assert records[0].key == CITIZEN.encode()


@pytest.mark.parametrize(
    ("contact", "hours_ago", "code", "says"),
    [
        (None, 200, 6, "window_closed"),
        ({"withdrawn_at": datetime(2100, 1, 1, tzinfo=UTC)}, 1, 6, "window_withdrawn"),
        ({"last_interaction_at": datetime.now(UTC)}, 200, 0, "nothing was sent"),
        (None, 60, 0, "costs"),
    ],
)
def test_the_window_is_shown_and_checked_before_anything_is_sent(
    hub: Hub, contact: dict[str, Any] | None, hours_ago: float, code: int, says: str
) -> None:
    put(cases=[a_case()], messages=[a_message_document(hours_ago=hours_ago)])
    if contact is not None:
        put(contacts=[{"_id": CITIZEN, **contact}])

    result = hub("cases", "reply", "Q12-261124-0042", "Chào bác.", "--officer", "An", "--dry-run", code=code)

    assert says in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("case", "show", "Q12-000000-0000"), 3, "case_not_found"),
        (("case", "show", "{$ne:1}"), 2, "code_malformed"),
        (("cases", "reply", "Q12-000000-0000", "x"), 2, "officer_missing"),
        (("cases", "reply", "Q12-000000-0000", "x", "--officer", "An"), 3, "case_not_found"),
        (("cases", "reply", "Q12-000000-0000", "x" * 2_001, "--officer", "An"), 2, "text_length"),
        (("cases", "reply", "Q12-000000-0000", "  ", "--officer", "An"), 2, "text_length"),
        (("records", "list", "--citizen", "nobody"), 2, "citizen_malformed"),
        (("cases", "list", "--unit", "tan-chanh-hiep-2"), 3, "unit_unknown"),
    ],
)
def test_a_wrong_request_about_cases_says_what_is_wrong(
    hub: Hub, arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert f"[{says}]" in hub(*arguments, code=code).output


def test_an_error_is_json_where_json_was_asked_for(hub: Hub) -> None:
    answer = json.loads(hub("case", "show", "Q12-000000-0000", "--json", code=3).stdout)

    assert answer["error"]["code"] == "case_not_found"


# -- records, tokens, topics, status


def test_records_are_found_by_reason_family_and_citizen(hub: Hub) -> None:
    now = datetime.now(UTC)
    put(
        webhook_records=[
            {"_id": f"{n}" * 32, "reason": reason, "oa_id": OA_ID, "user_id": user, "raw": b"{}", "received_at": now}
            for n, (reason, user) in enumerate([("event.unknown", "1"), ("event.ignored", "2"), ("page.unknown", "1")])
        ]
    )

    def reasons(*arguments: str) -> list[str]:
        found = json.loads(hub("records", "list", *arguments, "--json").stdout)
        return sorted(item["reason"] for item in found["items"])

    assert reasons("--reason", "event.*") == ["event.ignored", "event.unknown"]
    assert reasons("--reason", "page.unknown") == ["page.unknown"]
    assert reasons("--citizen", f"{OA_ID}:1") == ["event.unknown", "page.unknown"]
    assert json.loads(hub("records", "list", "--json").stdout)["counts"] == {
        "event.unknown": 1,
        "event.ignored": 1,
        "page.unknown": 1,
    }


def test_replies_of_whose_fate_nobody_knows_are_found_without_their_texts(hub: Hub) -> None:
    now = datetime.now(UTC)
    row = {"citizen_key": CITIZEN, "requested_at": now, "due_at": now, "content": {"text": "secret-word"}}
    put(reply_ledger=[{**row, "_id": "a" * 32, "state": "uncertain"}, {**row, "_id": "b" * 32, "state": "sent"}])

    uncertain, sent = hub("replies", "list", "--json"), hub("replies", "list", "--state", "sent", "--citizen", CITIZEN)

    assert [reply["_id"] for reply in json.loads(uncertain.stdout)] == ["a" * 32]
    assert "bbbbbbbbbbbb" in sent.stdout
    assert "secret-word" not in uncertain.output + sent.output
    assert "[state_unknown]" in hub("replies", "list", "--state", "lost", code=2).output


def a_row(letter: str, state: str, **changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    row = {"citizen_key": CITIZEN, "app_id": "1", "requested_at": now, "due_at": now, "message_key": f"m-{letter}"}
    return {**row, "_id": letter * 32, "state": state, "attempt": 1, "content": {"text": "secret-word"}, **changes}


def rows_by_letter() -> dict[str, dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with opened() as store:
            return await store["reply_ledger"].find({}).to_list(None)

    return {row["_id"][0]: row for row in asyncio.run(read())}


def test_a_person_settles_an_uncertain_reply_once_and_it_is_kept_who_and_why(hub: Hub) -> None:
    put(reply_ledger=[a_row("a", "uncertain"), a_row("b", "uncertain"), a_row("c", "sent")])

    hub("replies", "settle", "aaaaaa", "--sent", "--reason", "it stands there", "--by", "an")
    hub("replies", "settle", "bbbbbb", "--not-sent", "--reason", "looked twice", "--by", "an")
    refused = [
        hub("replies", "settle", "aaaaaa", "--not-sent", "--reason", "x", code=6),
        hub("replies", "settle", "cccccc", "--sent", "--reason", "x", code=6),
    ]

    rows = rows_by_letter()
    assert (rows["a"]["state"], rows["a"]["settled_by"]) == ("sent", "person")
    assert (rows["b"]["state"], rows["b"]["reason"]) == ("failed", "send.not_sent_by_person")
    decision = rows["b"]["decisions"][0]
    assert (decision["by"], decision["action"], decision["reason"]) == ("an", "not_sent", "looked twice")
    assert all("[reply_not_uncertain]" in answer.output for answer in refused)
    assert "decisions" not in rows["c"]
    assert "[reason_missing]" in hub("replies", "settle", "aaaaaa", "--sent", "--reason", " ", code=2).output
    assert "[reply_not_found]" in hub("replies", "settle", "dddddd", "--sent", "--reason", "x", code=3).output
    assert "[id_malformed]" in hub("replies", "settle", "x", "--sent", "--reason", "x", code=2).output


def test_failed_replies_are_counted_by_reason_and_queued_again_only_with_yes(hub: Hub) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=30)
    put(
        reply_ledger=[
            a_row("a", "failed", reason="token.refused", failures=9),
            a_row("b", "failed", reason="window.closed"),
            a_row("c", "failed", reason="token.refused", requested_at=long_ago),
            a_row("d", "failed", reason="token.refused", erased_at=long_ago),
            a_row("e", "failed", reason="page.unknown", app_id=None),
            a_row("f", "uncertain", reason="send.lease_expired"),
        ]
    )

    asked = json.loads(hub("replies", "requeue", "--all", "--json").stdout)
    assert asked == {
        "reasons": {"token.refused": 1, "window.closed": 1},
        "requeued": [],
        "would_requeue": ["a" * 32, "b" * 32],
    }
    assert rows_by_letter()["a"]["state"] == "failed"

    hub("replies", "requeue", "--all", "--code", "token.refused", "--yes", "--reason", "linked again")
    hub("replies", "requeue", "cccccc", "--yes", "--reason", "still wanted")

    rows = rows_by_letter()
    assert {letter: row["state"] for letter, row in rows.items()} == {
        "a": "queued",
        "b": "failed",
        "c": "queued",
        "d": "failed",
        "e": "failed",
        "f": "uncertain",
    }
    assert (rows["a"]["failures"], rows["a"]["decisions"][0]["reason"]) == (0, "linked again")
    for letter in "def":
        assert "[reply_not_failed]" in hub("replies", "requeue", letter * 6, code=6).output
    assert "[requeue_what]" in hub("replies", "requeue", code=2).output
    assert "[reason_missing]" in hub("replies", "requeue", "--all", "--yes", code=2).output


def test_tokens_are_judged_and_never_shown(hub: Hub) -> None:
    now = datetime.now(UTC)
    token = {
        "page": PAGE,
        "state": "ok",
        "generation": 2,
        "access_token": b"secret-word",
        "refresh_token": b"secret-word",
        "expires_at": now + timedelta(hours=10),
        "refreshed_at": now,
        "reason": None,
    }
    broken = {**token, "_id": "9", "page": "district", "state": "refused", "reason": "token.refresh_refused"}
    put(page_tokens=[{**token, "_id": OA_ID}, broken])

    shown, as_json = hub("tokens", code=1), hub("tokens", "--json", code=1)

    assert "token.refresh_refused" in shown.stdout
    assert "secret-word" not in shown.output + as_json.output
    assert [page["alarm"] for page in json.loads(as_json.stdout)] == ["token.refresh_refused", None]


def test_topics_are_listed_with_their_readers_and_lag(hub: Hub) -> None:
    hub("init")

    listed = json.loads(hub("topics", "--json").stdout)["topics"]

    assert [topic["name"] for topic in listed] == [topic.name for topic in topics.ALL_TOPICS]
    assert all(topic["state"]["partitions"] == topic["partitions"] for topic in listed)
    assert set(listed[0]["lag"]) == {"router", "notifier-contacts", "intake-attachments"}


def test_status_of_a_hub_that_does_not_run_names_every_problem_and_hides_the_password(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INTAKE", "ROUTER", "NOTIFIER"):
        monkeypatch.setenv(f"{name}_URL", "http://127.0.0.1:1")
    hub("init")

    found = json.loads(hub("status", "--json", code=1).stdout)

    assert not found["well"]
    codes = [problem["code"] for problem in found["problems"]]
    assert codes.count("service_not_ready") == 3
    assert "@" not in found["addresses"]["mongo"]
    monkeypatch.setenv("MONGO_URI", "mongodb://hub:secret-word@127.0.0.1:1/")
    without = hub("status", code=1)
    assert "[mongo_unreachable]" in without.output
    assert "secret-word" not in without.output


async def test_a_correction_is_reviewed_once_into_the_messages_to_learn_from(hub: Hub, tmp_path: Any) -> None:
    now = datetime.now(UTC)
    async with opened() as store:
        await store["messages"].insert_one(
            {
                "_id": "m1",
                "case_code": "Q12-1",
                "sent_at": now - timedelta(minutes=5),
                "text": "bán hàng trắng trong hẻm",
            }
        )
        await store["labels"].insert_one(
            {
                "_id": "c1",
                "case_code": "Q12-1",
                "was": {"category": "security_tip", "urgency": "normal"},
                "right": {"category": "crime_report"},
                "officer": "an",
                "labelled_at": now,
            }
        )

    def learn() -> None:
        assert "crime_report" in hub("label", "list").output
        hub("label", "accept", "c1", "--to", str(tmp_path), "--dry-run")
        assert not (tmp_path / "officers.yaml").exists()
        hub("label", "accept", "c1", "--to", str(tmp_path))
        assert "bán hàng trắng" in (tmp_path / "officers.yaml").read_text("utf-8")
        assert "label_not_pending" in hub("label", "reject", "c1", code=3).output

    await asyncio.to_thread(learn)
