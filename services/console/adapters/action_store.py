"""Decisions that wait for their ten seconds and are then published once, whoever dies in between.

A decision is one document. `waiting` can still be undone, which ends it. A publisher takes a due one (`publishing`,
its own claim, a lease by the database's clock), publishes it under the document's id as event id, and marks it
`published`. Killed after publishing and before marking, the next publisher publishes the same event again under the
same id, which the router takes for the redelivery it is. Decisions about one case leave in the order they were taken.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.console.domain import Case, Decision, Officer
from shared.mongo import Document, Store, insert_new, patiently, server_time_in, store_errors

LEASE_MS = 30_000
BATCH = 50


class ActionStore:
    """The `pending_actions` and `labels` collections."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._actions = store["pending_actions"]
        self._labels = store["labels"]

    async def put(
        self, action_id: str, decision: Decision, case: Case, officer: Officer, *, wait_seconds: float
    ) -> Document:
        """Keep a decision until it is due; the same id again changes nothing.

        Returns:
            The decision as it is kept, by this call or an earlier one.

        Raises:
            StoreUnavailable: perhaps kept; try again under the same id.
        """
        now = datetime.now(UTC)
        document: Document = {
            "_id": action_id,
            "state": "waiting",
            "case_code": case.code,
            "case_unit": case.unit,
            "correlation_id": case.correlation_id or action_id,
            "channel": case.citizen.channel,
            "page": case.citizen.page,
            "oa_id": case.citizen.oa_id,
            "user_id": case.citizen.user_id,
            "user_id_by_app": case.citizen.user_id_by_app,
            "action": decision.action,
            "officer": officer.account,
            "officer_name": officer.name,
            "officer_unit": officer.unit,
            "text": decision.text,
            "closes_case": decision.closes_case,
            "to_unit": decision.to_unit,
            "category": decision.category,
            "subtopic": decision.subtopic,
            "urgency": decision.urgency,
            "before": {
                "unit": case.unit,
                "category": case.summary.category,
                "subtopic": case.summary.subtopic,
                "urgency": case.summary.urgency,
            },
            "decided_at": now,
            "due_at": now + timedelta(seconds=wait_seconds),
        }
        await patiently(lambda: insert_new(self._actions, [document]))
        return await self.find(action_id) or document

    async def find(self, action_id: str) -> Document | None:
        """One decision; None when there is none or it was undone."""
        with store_errors():
            return await self._actions.find_one({"_id": action_id})

    async def undo(self, action_id: str, *, account: str) -> Document | None:
        """Take a decision back before anybody heard of it; its text stays for its officer, to be written anew.

        Returns:
            What it was, or None when it is on its way already or is not this officer's.
        """
        document = await self.find(action_id)
        if document is None or document["officer"] != account:
            return None
        done = await patiently(
            lambda: self._actions.update_one(
                {"_id": action_id, "officer": account, "state": "waiting"},
                {"$set": {"state": "undone", "finished_at": datetime.now(UTC)}},
            )
        )
        return document if done.modified_count else None

    async def send_now(self, action_id: str, *, account: str) -> bool:
        """Do not wait any longer.

        Returns:
            Whether it was still waiting.
        """
        done = await patiently(
            lambda: self._actions.update_one(
                {"_id": action_id, "officer": account, "state": "waiting"}, [{"$set": {"due_at": "$$NOW"}}]
            )
        )
        return bool(done.matched_count)

    async def take_due(self) -> list[Document]:
        """Claim decisions that are due, and those whose publisher died; the oldest of each case only."""
        now = await self._store.server_now()
        with store_errors():
            due = (
                await self._actions.find({"state": {"$in": ["waiting", "publishing"]}, "due_at": {"$lte": now}})
                .sort([("due_at", 1)])
                .limit(BATCH)
                .to_list(BATCH)
            )
        taken = []
        for document in due:
            if await self._has_older(document):
                continue
            if claimed := await self._claim(document["_id"]):
                taken.append(claimed)
        return taken

    async def _has_older(self, document: Document) -> bool:
        with store_errors():
            older = await self._actions.find_one(
                {
                    "case_code": document["case_code"],
                    "decided_at": {"$lt": document["decided_at"]},
                    "state": {"$in": ["waiting", "publishing"]},
                },
                {"_id": 1},
            )
        return older is not None

    async def _claim(self, action_id: str) -> Document | None:
        claim = secrets.token_hex(16)
        now_ms = {"$toLong": "$$NOW"}  # as a number: not every server compares its clock with a stored date
        is_free = {
            "$or": [
                {"$and": [{"$eq": ["$state", "waiting"]}, {"$lte": [{"$toLong": "$due_at"}, now_ms]}]},
                {"$and": [{"$eq": ["$state", "publishing"]}, {"$lte": [{"$toLong": "$lease_until"}, now_ms]}]},
            ]
        }
        step = {
            "state": {"$cond": [is_free, "publishing", "$state"]},
            "claim": {"$cond": [is_free, claim, "$claim"]},
            "lease_until": {"$cond": [is_free, server_time_in(LEASE_MS), "$lease_until"]},
        }
        with store_errors():
            await self._actions.update_one(
                {"_id": action_id, "state": {"$in": ["waiting", "publishing"]}}, [{"$set": step}]
            )
            return await self._actions.find_one({"_id": action_id, "state": "publishing", "claim": claim})

    async def published(self, document: Document) -> None:
        """Remember that Kafka has it; only the claim that took it may say so."""
        await patiently(
            lambda: self._actions.update_one(
                {"_id": document["_id"], "state": "publishing", "claim": document["claim"]},
                {"$set": {"state": "published", "finished_at": datetime.now(UTC)}},
            )
        )

    async def give_back(self, document: Document) -> None:
        """Let the next round try again: Kafka did not answer, and may have it all the same, so no undo any more."""
        await patiently(
            lambda: self._actions.update_one(
                {"_id": document["_id"], "state": "publishing", "claim": document["claim"]},
                [{"$set": {"lease_until": "$$NOW"}}],
            )
        )

    async def label(self, document: Document) -> None:
        """Keep a correction as something to learn from; once for each decision."""
        right = {k: document[k] for k in ("category", "subtopic", "urgency") if document.get(k) is not None}
        if document.get("to_unit") is not None:
            right["unit"] = document["to_unit"]
        label: Document = {
            "_id": document["_id"],
            "case_code": document["case_code"],
            "was": document["before"],
            "right": right,
            "officer": document["officer"],
            "labelled_at": document["decided_at"],
        }
        await patiently(lambda: insert_new(self._labels, [label]))

    async def of_cases(self, codes: Sequence[str], *, since: datetime) -> list[Document]:
        """Decisions about these cases since a moment, in the order they were taken."""
        with store_errors():
            found = self._actions.find({"case_code": {"$in": list(codes)}, "decided_at": {"$gte": since}})
            return await found.sort([("decided_at", 1)]).limit(200).to_list(200)

    async def waiting_of(self, accounts: Sequence[str]) -> list[Document]:
        """Decisions of these officers that can still be undone, in the order they were taken."""
        with store_errors():
            found = self._actions.find({"state": "waiting", "officer": {"$in": list(accounts)}})
            return await found.sort([("decided_at", 1)]).limit(200).to_list(200)
