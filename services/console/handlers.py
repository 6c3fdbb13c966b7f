"""What officers do: sign in, decide, take back; and the worker that publishes what is due."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from services.console.domain import (
    Action,
    Case,
    Decision,
    Officer,
    ReplyWindow,
    Session,
    as_sent,
    decision_fault,
    password_fault,
)
from services.console.errors import (
    ActionNotFound,
    ActionRefused,
    PasswordRefused,
    SignInRefused,
    TooLateToUndo,
    TooManyAttempts,
)
from shared.errors import BrokerUnavailable, StoreUnavailable
from shared.events import Event, OfficerActed
from shared.ids import deterministic_id
from shared.telemetry import get_logger
from shared.topics import OFFICER_ACTIONS, Topic

log = get_logger()

PUBLISH_PAUSE_SECONDS = 0.25
OUTAGE_PAUSE_SECONDS = 2.0


class Accounts(Protocol):
    """Accounts as signing in needs them."""

    async def find(self, account: str) -> dict[str, Any] | None:
        """The account, if it may sign in."""

    async def set_password(self, account: str, password_hash: str) -> None:
        """Change the password."""


class Hashes(Protocol):
    """Makes and checks password hashes."""

    async def make(self, password: str) -> str:
        """Hash a password."""

    async def fits(self, password_hash: str | None, password: str) -> bool:
        """Check a password; None never fits."""


class Sessions(Protocol):
    """Sessions as signing in needs them."""

    async def open(
        self, officer: Officer, *, kind: Literal["browser", "api"], address: str, user_agent: str
    ) -> tuple[str, Session]:
        """Start a session."""

    async def close_all(self, account: str, *, except_id: str | None = None) -> int:
        """End the sessions of an account."""


class Attempts(Protocol):
    """Counts sign-ins."""

    async def count(self, key: str) -> tuple[int, int]:
        """Count one more; attempts so far and seconds left."""

    async def forget(self, keys: list[str]) -> None:
        """Start afresh."""


class Actions(Protocol):
    """Decisions that wait."""

    async def put(
        self, action_id: str, decision: Decision, case: Case, officer: Officer, *, wait_seconds: float
    ) -> dict[str, Any]:
        """Keep a decision under its id."""

    async def find(self, action_id: str) -> dict[str, Any] | None:
        """One decision."""

    async def undo(self, action_id: str, *, account: str) -> dict[str, Any] | None:
        """Take it back if it still waits."""

    async def send_now(self, action_id: str, *, account: str) -> bool:
        """Make it due."""

    async def take_due(self) -> list[dict[str, Any]]:
        """Claim what is due."""

    async def published(self, document: dict[str, Any]) -> None:
        """Kafka has it."""

    async def give_back(self, document: dict[str, Any]) -> None:
        """Somebody else may try."""

    async def label(self, document: dict[str, Any]) -> None:
        """Keep a correction to learn from."""


class Publisher(Protocol):
    """Puts an event onto a topic."""

    async def publish(self, topic: Topic, event: Event) -> None:
        """Publish and wait until it is kept."""


@dataclass(frozen=True)
class AttemptLimits:
    """How many sign-ins one window allows."""

    per_account_and_address: int
    per_account: int
    per_address: int


@dataclass(frozen=True)
class SignInDeps:
    """What signing in needs."""

    accounts: Accounts
    hashes: Hashes
    sessions: Sessions
    attempts: Attempts
    limits: AttemptLimits
    allow_demo: bool


async def sign_in(
    account: str,
    password: str,
    *,
    kind: Literal["browser", "api"],
    address: str,
    user_agent: str,
    deps: SignInDeps,
) -> tuple[str, Session]:
    """Open a session for who knows the password.

    Attempts are counted before the password is looked at, so that guessing side by side gains nothing.

    Returns:
        The token and its session.

    Raises:
        TooManyAttempts: whether or not the password was right.
        SignInRefused: unknown account or wrong password.
        StoreUnavailable: try again.
    """
    account = account.strip().lower()[:64]
    here, anywhere, from_address = f"both:{account}:{address}", f"account:{account}", f"address:{address}"
    limits = deps.limits
    for key, limit in (
        (here, limits.per_account_and_address),
        (anywhere, limits.per_account),
        (from_address, limits.per_address),
    ):
        attempts, seconds_left = await deps.attempts.count(key)
        if attempts > limit:
            log.warning("sign_in.too_many", key=key.split(":", 1)[0], attempts=attempts)
            raise TooManyAttempts(seconds_left)
    document = await deps.accounts.find(account)
    if document is not None and document.get("is_demo") and not deps.allow_demo:
        document = None
    fits = await deps.hashes.fits(document["password_hash"] if document else None, password)
    if document is None or not fits:
        log.warning("sign_in.refused", is_known=document is not None)
        raise SignInRefused(account)
    await deps.attempts.forget([here, anywhere])
    officer = Officer(account=account, name=document["name"], unit=document["unit"], role=document["role"])
    token, session = await deps.sessions.open(officer, kind=kind, address=address, user_agent=user_agent)
    log.info("sign_in.done", account=account, unit=officer.unit, role=officer.role, kind=kind)
    return token, session


async def change_password(session: Session, *, old: str, new: str, deps: SignInDeps) -> None:
    """Change one's own password; every other session of the account ends.

    Raises:
        PasswordRefused: the old one is wrong or the new one too simple.
        TooManyAttempts: guessing the old one in a stolen session.
        StoreUnavailable: try again.
    """
    account = session.officer.account
    attempts, seconds_left = await deps.attempts.count(f"password:{account}")
    if attempts > deps.limits.per_account_and_address:
        raise TooManyAttempts(seconds_left)
    document = await deps.accounts.find(account)
    if document is None or not await deps.hashes.fits(document["password_hash"], old):
        raise PasswordRefused("password.wrong")
    if fault := password_fault(new, account=account):
        raise PasswordRefused(fault)
    await deps.accounts.set_password(account, await deps.hashes.make(new))
    ended = await deps.sessions.close_all(account, except_id=session.session_id)
    await deps.attempts.forget([f"password:{account}"])
    log.info("password.changed", account=account, sessions_ended=ended)


async def decide(
    decision: Decision,
    case: Case,
    *,
    officer: Officer,
    key: str,
    window: ReplyWindow,
    units: frozenset[str],
    wait_seconds: float,
    actions: Actions,
) -> dict[str, Any]:
    """Take a decision about a case: it is kept, waits while it can be undone, and is then published.

    Args:
        decision: as the officer gave it.
        case: as the officer may see it.
        officer: who decides.
        key: made with the form or sent by the program; the same key is the same decision, however often it comes.
        window: what Zalo allows now, for a reply.
        units: that exist today.
        wait_seconds: how long it can be undone.
        actions: where it waits.

    Returns:
        The decision as it is kept.

    Raises:
        ActionRefused: it makes no sense for the case as it is.
        StoreUnavailable: try again with the same key.
    """
    action_id = action_id_of(officer, case, key)
    if (known := await actions.find(action_id)) is not None:
        return known
    decision = replace(decision, text=as_sent(decision.text), urgency=_urgency(decision, case))
    if fault := decision_fault(decision, case.summary, window=window, units=units):
        raise ActionRefused(fault)
    kept = await actions.put(action_id, decision, case, officer, wait_seconds=wait_seconds)
    log.info(
        "action.decided",
        action=decision.action,
        action_id=action_id,
        case=case.code,
        unit=case.unit,
        officer=officer.account,
        characters=len(decision.text),
        to_unit=decision.to_unit,
        category=decision.category,
    )
    return kept


def action_id_of(officer: Officer, case: Case, key: str) -> str:
    """The id of a decision, which is its event's id too."""
    return deterministic_id("officer_acted", officer.account, case.code, key)


def _urgency(decision: Decision, case: Case) -> Literal["emergency", "high", "normal"] | None:
    """Urgency follows the category: only an emergency is one, and what no longer is one is still high."""
    if decision.action != "correct" or decision.category in {None, case.summary.category}:
        return decision.urgency
    if decision.category == "emergency":
        return "emergency"
    if case.summary.urgency == "emergency" and decision.urgency in {None, "emergency"}:
        return "high"
    return None if decision.urgency == "emergency" else decision.urgency


async def undo(action_id: str, *, officer: Officer, actions: Actions) -> dict[str, Any]:
    """Take a decision back.

    Returns:
        What it was.

    Raises:
        ActionNotFound: no such decision of this officer.
        TooLateToUndo: it is on its way.
        StoreUnavailable: try again.
    """
    known = await actions.find(action_id)
    if known is None or known["officer"] != officer.account:
        raise ActionNotFound(action_id)
    if known["state"] == "undone":
        return known
    undone = await actions.undo(action_id, account=officer.account)
    if undone is None:
        raise TooLateToUndo(action_id)
    log.info("action.undone", action=undone["action"], action_id=action_id, case=undone["case_code"])
    return undone


async def send_now(action_id: str, *, officer: Officer, actions: Actions) -> None:
    """Publish a decision without waiting for its ten seconds; one that is on its way already stays so.

    Raises:
        ActionNotFound: no such decision of this officer.
        StoreUnavailable: try again.
    """
    known = await actions.find(action_id)
    if known is None or known["officer"] != officer.account or known["state"] == "undone":
        raise ActionNotFound(action_id)
    await actions.send_now(action_id, account=officer.account)


def to_event(document: Mapping[str, Any]) -> OfficerActed:
    """The event of a decision; always the same for the same decision."""
    action: Action = document["action"]
    return OfficerActed(
        event_id=document["_id"],
        occurred_at=document["decided_at"],
        correlation_id=document["correlation_id"],
        channel=document["channel"],
        page=document["page"],
        oa_id=document["oa_id"],
        user_id=document["user_id"],
        user_id_by_app=document.get("user_id_by_app"),
        action=action,
        case_code=document["case_code"],
        officer=document["officer"],
        unit=document["officer_unit"],
        text=document["text"],
        closes_case=document["closes_case"],
        to_unit=document["to_unit"],
        category=document["category"],
        subtopic=document["subtopic"],
        urgency=document["urgency"],
    )


async def publish_due(actions: Actions, publisher: Publisher) -> int:
    """Publish the decisions whose time has come.

    Returns:
        How many Kafka has now.

    Raises:
        StoreUnavailable: nothing is lost; run it again.
        BrokerUnavailable: likewise; the decision keeps its id.
    """
    done = 0
    taken = await actions.take_due()
    for position, document in enumerate(taken):
        event = to_event(document)
        if event.action == "correct":
            await actions.label(document)
        try:
            await publisher.publish(OFFICER_ACTIONS, event)
        except BrokerUnavailable:
            for rest in taken[position:]:
                await actions.give_back(rest)
            raise
        await actions.published(document)
        done += 1
        log.info(
            "action.published",
            action=event.action,
            action_id=event.event_id,
            case=event.case_code,
            waited_seconds=round((datetime.now(UTC) - event.occurred_at).total_seconds(), 1),
        )
    return done


async def keep_publishing(actions: Actions, publisher: Publisher) -> None:
    """Publish what is due until cancelled, through outages of the database and of Kafka."""
    while True:
        try:
            done = await publish_due(actions, publisher)
        except (StoreUnavailable, BrokerUnavailable) as error:
            log.warning("action.waiting", error=type(error).__name__)
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
        else:
            if not done:
                await asyncio.sleep(PUBLISH_PAUSE_SECONDS)
