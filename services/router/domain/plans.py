"""Plans: a decision in the form in which it is stored, so that applying it can be repeated after any crash.

A plan is written under the message's event_id before anything else happens. Whoever finds a plan carries it out
again: every step says which version of the case it leads to, and a case that is already there is left alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from services.router.domain.cases import CASE_FIELDS, Case, Citizen, Decision, Desk, Entry, to_choice, to_reply
from shared.events import CitizenChose, CitizenMessageReceived, ReplyRequested
from shared.ids import deterministic_id


@dataclass(frozen=True, slots=True)
class CaseStep:
    """One step of one case: absolute values and the version they lead to."""

    case_id: str
    version: int
    opens: bool
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """One line of a case's history, ready to be written; the id derives from what caused it and from its kind.

    Attributes:
        event_id: of the message or the officer's action; None of what the operator did to many cases.
    """

    entry_id: str
    case_id: str
    case_code: str
    kind: str
    at: datetime
    event_id: str | None
    reasons: tuple[str, ...]
    changes: tuple[tuple[str, str | None, str | None], ...] = ()
    reply_id: str | None = None
    template: str | None = None
    by: str = "router"
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All effects of one message."""

    event_id: str
    citizen_key: str
    case_id: str | None
    case_code: str | None
    steps: tuple[CaseStep, ...] = ()
    entries: tuple[CaseEntry, ...] = ()
    reply: ReplyRequested | None = None
    choice: CitizenChose | None = None


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """A message with the decision about it and the plan of its effects: one document of the inbox."""

    message: CitizenMessageReceived
    decision: Decision
    plan: Plan
    decided_at: datetime


def to_plan(decision: Decision, desk: Desk, codes: Mapping[str, str], decided_at: datetime) -> PlannedMessage:
    """Fill in the codes and write the effects down.

    Args:
        decision: what was decided.
        desk: whose texts the reply is made of.
        codes: of every case the decision touches.
        decided_at: when it was decided; goes into the events.
    """
    message = decision.message
    reply = to_reply(decision, desk.answers, codes, decided_at)
    steps = []
    for change in decision.changes:
        values = change.changed()
        if change.before is None:
            values["code"] = codes[change.after.case_id]
        steps.append(CaseStep(change.after.case_id, change.after.citizen_version, change.before is None, values))
    plan = Plan(
        event_id=message.event_id,
        citizen_key=message.citizen_key,
        case_id=decision.case_id,
        case_code=codes[decision.case_id] if decision.case_id else None,
        steps=tuple(steps),
        entries=tuple(_entry(entry, message, codes, reply) for entry in decision.entries),
        reply=reply,
        choice=to_choice(decision, decided_at),
    )
    return PlannedMessage(message, decision, plan, decided_at)


def _entry(
    entry: Entry, message: CitizenMessageReceived, codes: Mapping[str, str], reply: ReplyRequested | None
) -> CaseEntry:
    answered = reply if entry.kind != "closed_by_itself" else None
    return CaseEntry(
        entry_id=deterministic_id("entry", message.event_id, entry.case_id, entry.kind),
        case_id=entry.case_id,
        case_code=codes[entry.case_id],
        kind=entry.kind,
        at=message.received_at,
        event_id=message.event_id,
        reasons=entry.reasons,
        changes=entry.changes,
        reply_id=answered.event_id if answered else None,
        template=answered.template if answered else None,
    )


def carry_over(plan: Plan, citizen: Citizen) -> None:
    """Bring a citizen up to what an earlier, interrupted delivery decided."""
    for step in plan.steps:
        case = citizen.cases.get(step.case_id)
        if step.opens and case is None:
            citizen.cases[step.case_id] = Case(**step.values)
        elif case is not None and case.citizen_version < step.version:
            citizen.cases[step.case_id] = replace(case, **step.values)


@dataclass
class CaseWrites:
    """What a batch writes to the cases: one write a case.

    Attributes:
        inserts: new cases by id.
        updates: (case, version it must have now) to the fields to set.
    """

    inserts: dict[str, dict[str, Any]] = field(default_factory=dict)
    updates: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)


def case_writes(plans: Iterable[Plan], stored: Mapping[str, int]) -> CaseWrites:
    """Merge the steps of a batch, leaving out what is stored already.

    Args:
        plans: in the order of their messages.
        stored: version of each case as it was read at the start of the batch.
    """
    writes = CaseWrites()
    for plan in plans:
        for step in plan.steps:
            have = stored.get(step.case_id)
            if have is None:
                writes.inserts.setdefault(step.case_id, {}).update(step.values)
            elif step.version > have:
                writes.updates.setdefault((step.case_id, have), {}).update(step.values)
    return writes


def broken_inserts(writes: CaseWrites) -> Sequence[str]:
    """New cases whose opening step is missing: somebody else has just written them; read again."""
    return [case_id for case_id, values in writes.inserts.items() if not set(CASE_FIELDS) <= set(values)]
