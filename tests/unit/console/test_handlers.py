"""Signing in, deciding, taking back and publishing, with hand-written fakes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.console.domain import Case, CaseSummary, Citizen, Decision, Officer, ReplyWindow, Session
from services.console.errors import (
    ActionNotFound,
    ActionRefused,
    PasswordRefused,
    SignInRefused,
    TooLateToUndo,
    TooManyAttempts,
)
from services.console.handlers import (
    AttemptLimits,
    SignInDeps,
    action_id_of,
    change_password,
    decide,
    publish_due,
    sign_in,
    to_event,
    undo,
)
from shared.errors import BrokerUnavailable
from shared.events import Event
from shared.topics import Topic

NOW = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)
RIGHT = "đúng"
OFFICER = Officer("thoi-an", "Trực ban", "thoi-an", "officer")
FREE = ReplyWindow("free", NOW)


class FakeHashes:
    def __init__(self) -> None:
        self.checked: list[str | None] = []

    async def make(self, password: str) -> str:
        return f"hash of {password}"

    async def fits(self, password_hash: str | None, password: str) -> bool:
        self.checked.append(password_hash)
        return password_hash == f"hash of {password}"


@dataclass
class FakeAccounts:
    documents: dict[str, dict[str, Any]]

    async def find(self, account: str) -> dict[str, Any] | None:
        return self.documents.get(account)

    async def set_password(self, account: str, password_hash: str) -> None:
        self.documents[account]["password_hash"] = password_hash


@dataclass
class FakeSessions:
    opened: list[str] = field(default_factory=list)
    closed_for: list[str] = field(default_factory=list)

    async def open(self, officer: Officer, **_: Any) -> tuple[str, Session]:
        self.opened.append(officer.account)
        return "token", a_session(officer)

    async def close_all(self, account: str, **_: Any) -> int:
        self.closed_for.append(account)
        return 1


class FakeAttempts:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    async def count(self, key: str) -> tuple[int, int]:
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.counts[key], 60

    async def forget(self, keys: list[str]) -> None:
        for key in keys:
            self.counts.pop(key, None)


class FakeActions:
    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.labels: list[str] = []

    async def put(self, action_id: str, decision: Decision, case: Case, officer: Officer, **_: Any) -> dict[str, Any]:
        return self.documents.setdefault(action_id, an_action(action_id, decision, case, officer))

    async def find(self, action_id: str) -> dict[str, Any] | None:
        return self.documents.get(action_id)

    async def undo(self, action_id: str, **_: Any) -> dict[str, Any] | None:
        document = self.documents[action_id]
        if document["state"] != "waiting":
            return None
        document["state"] = "undone"
        return document

    async def send_now(self, action_id: str, **_: Any) -> bool:
        return action_id in self.documents

    async def take_due(self) -> list[dict[str, Any]]:
        due = [document for document in self.documents.values() if document["state"] == "waiting"]
        for document in due:
            document["state"] = "publishing"
        return due

    async def published(self, document: dict[str, Any]) -> None:
        document["state"] = "published"

    async def give_back(self, document: dict[str, Any]) -> None:
        document["given_back"] = True

    async def label(self, document: dict[str, Any]) -> None:
        self.labels.append(document["_id"])


@dataclass
class FakePublisher:
    is_away: bool = False
    events: list[Event] = field(default_factory=list)

    async def publish(self, topic: Topic, event: Event) -> None:
        if self.is_away:
            raise BrokerUnavailable(topic.name)
        self.events.append(event)


def a_session(officer: Officer = OFFICER) -> Session:
    return Session("session", "browser", officer, "csrf", NOW, NOW, NOW + timedelta(hours=1))


def a_case(category: str = "security_tip", urgency: str = "normal") -> Case:
    summary = CaseSummary(
        "Q12-261124-0001", "thoi-an", "thoi-an", category, None, urgency, True, "officer", NOW, NOW, NOW
    )
    return Case(summary, Citizen("zalo", "thoi-an", "400", "900"), "c" * 32)


def an_action(action_id: str, decision: Decision, case: Case, officer: Officer) -> dict[str, Any]:
    return {
        "_id": action_id,
        "state": "waiting",
        "case_code": case.code,
        "correlation_id": case.correlation_id,
        "officer": officer.account,
        "officer_unit": officer.unit,
        "decided_at": NOW,
        **vars(case.citizen),
        **vars(decision),
    }


def sign_in_deps(**values: Any) -> SignInDeps:
    account = {
        "password_hash": "hash of đúng",
        "name": "Trực ban",
        "unit": "thoi-an",
        "role": "officer",
        "is_demo": True,
    }
    fields: dict[str, Any] = {
        "accounts": FakeAccounts({"thoi-an": account}),
        "hashes": FakeHashes(),
        "sessions": FakeSessions(),
        "attempts": FakeAttempts(),
        "limits": AttemptLimits(per_account_and_address=3, per_account=5, per_address=8),
        "allow_demo": True,
    }
    return SignInDeps(**(fields | values))


async def enter(deps: SignInDeps, account: str = "thoi-an", password: str = RIGHT, address: str = "10.0.0.1") -> None:
    await sign_in(account, password, kind="browser", address=address, user_agent="", deps=deps)


async def take(decision: Decision, case: Case, actions: FakeActions, key: str = "key") -> dict[str, Any]:
    return await decide(
        decision, case, officer=OFFICER, key=key, window=FREE, units=frozenset({"thoi-an", "district"}),
        wait_seconds=10, actions=actions,
    )  # fmt: skip


async def test_the_right_password_opens_a_session_whatever_the_case_of_the_name() -> None:
    deps = sign_in_deps()
    await enter(deps, account=" Thoi-An ")
    assert deps.sessions.opened == ["thoi-an"]  # type: ignore[attr-defined]


async def test_an_unknown_account_costs_as_much_as_a_wrong_password() -> None:
    deps = sign_in_deps()
    with pytest.raises(SignInRefused):
        await enter(deps, account="nobody")
    assert deps.hashes.checked == [None]  # type: ignore[attr-defined]


async def test_demo_accounts_open_nothing_outside_the_demo() -> None:
    with pytest.raises(SignInRefused):
        await enter(sign_in_deps(allow_demo=False))


async def test_after_too_many_attempts_even_the_right_password_waits() -> None:
    deps = sign_in_deps()
    for _ in range(3):
        with pytest.raises(SignInRefused):
            await enter(deps, password="sai")
    with pytest.raises(TooManyAttempts):
        await enter(deps)
    await enter(deps, address="10.0.0.2")  # the officer's own PC is not locked out by somebody elsewhere


async def test_guessing_one_account_from_many_addresses_is_stopped_too() -> None:
    deps = sign_in_deps()
    for number in range(5):
        with pytest.raises(SignInRefused):
            await enter(deps, password="sai", address=f"10.0.0.{number}")
    with pytest.raises(TooManyAttempts):
        await enter(deps, address="10.0.0.99")


async def test_guessing_many_accounts_from_one_address_is_stopped_too() -> None:
    deps = sign_in_deps()
    for number in range(8):
        with pytest.raises(SignInRefused):
            await enter(deps, account=f"nobody-{number}")
    with pytest.raises(TooManyAttempts):
        await enter(deps)


async def test_a_sign_in_that_worked_clears_the_account_but_not_the_address() -> None:
    deps = sign_in_deps()
    await enter(deps)
    assert deps.attempts.counts == {"address:10.0.0.1": 1}  # type: ignore[attr-defined]


async def test_changing_the_password_ends_the_other_sessions() -> None:
    deps = sign_in_deps()
    await change_password(a_session(), old="đúng", new="con mèo trên mái", deps=deps)
    assert deps.sessions.closed_for == ["thoi-an"]  # type: ignore[attr-defined]
    await enter(deps, password="con mèo trên mái")


@pytest.mark.parametrize(
    ("old", "new", "reason"), [("sai", "con mèo trên mái", "password.wrong"), ("đúng", "ngắn", "password.too_short")]
)
async def test_a_password_that_cannot_be_changed_says_why(old: str, new: str, reason: str) -> None:
    with pytest.raises(PasswordRefused) as refused:
        await change_password(a_session(), old=old, new=new, deps=sign_in_deps())
    assert refused.value.reason == reason


async def test_the_same_form_sent_twice_is_one_decision() -> None:
    actions = FakeActions()
    first = await take(Decision("reply", "có"), a_case(), actions)
    second = await take(Decision("reply", "có"), a_case(), actions)
    assert first is second
    assert len(actions.documents) == 1
    await take(Decision("reply", "có"), a_case(), actions, key="another form")
    assert len(actions.documents) == 2


async def test_a_refused_decision_is_not_kept() -> None:
    actions = FakeActions()
    with pytest.raises(ActionRefused) as refused:
        await take(Decision("reply", "   "), a_case(), actions)
    assert refused.value.reason == "reply.empty"
    assert actions.documents == {}


@pytest.mark.parametrize(
    ("was", "urgency_was", "category", "urgency"),
    [
        ("security_tip", "normal", "emergency", "emergency"),
        ("emergency", "emergency", "crime_report", "high"),
        ("procedure", "normal", "complaint", None),
        ("crime_report", "high", "crime_report", None),
    ],
)
async def test_urgency_follows_the_corrected_category(
    was: str, urgency_was: str, category: str, urgency: str | None
) -> None:
    kept = await take(
        Decision("correct", category=category, to_unit="district"), a_case(was, urgency_was), FakeActions()
    )
    assert kept["urgency"] == urgency


async def test_an_undone_decision_is_never_published_and_can_be_undone_again() -> None:
    actions, publisher = FakeActions(), FakePublisher()
    kept = await take(Decision("reply", "có"), a_case(), actions)
    await undo(kept["_id"], officer=OFFICER, actions=actions)
    await undo(kept["_id"], officer=OFFICER, actions=actions)
    assert await publish_due(actions, publisher) == 0


async def test_nobody_undoes_what_is_on_its_way_or_is_another_officers() -> None:
    actions = FakeActions()
    kept = await take(Decision("reply", "có"), a_case(), actions)
    with pytest.raises(ActionNotFound):
        await undo(kept["_id"], officer=Officer("other", "O", "thoi-an", "officer"), actions=actions)
    await publish_due(actions, FakePublisher())
    with pytest.raises(TooLateToUndo):
        await undo(kept["_id"], officer=OFFICER, actions=actions)


async def test_a_decision_becomes_one_event_under_its_own_id() -> None:
    actions, publisher = FakeActions(), FakePublisher()
    kept = await take(Decision("hand_over", "biết rõ hẻm", to_unit="district"), a_case(), actions)
    assert await publish_due(actions, publisher) == 1
    (event,) = publisher.events
    assert event.event_id == kept["_id"] == action_id_of(OFFICER, a_case(), "key")
    assert event == to_event(kept)
    assert event.partition_key == "400:900"


async def test_with_kafka_away_every_taken_decision_is_given_back() -> None:
    actions = FakeActions()
    for number in range(3):
        await take(Decision("reply", "có"), a_case(), actions, key=f"key {number}")
    with pytest.raises(BrokerUnavailable):
        await publish_due(actions, FakePublisher(is_away=True))
    assert all(document.get("given_back") for document in actions.documents.values())


async def test_a_correction_is_kept_as_a_label_and_a_reply_is_not() -> None:
    actions = FakeActions()
    kept = await take(Decision("correct", category="crime_report"), a_case(), actions)
    await take(Decision("reply", "có"), a_case(), actions, key="another")
    await publish_due(actions, FakePublisher())
    assert actions.labels == [kept["_id"]]
