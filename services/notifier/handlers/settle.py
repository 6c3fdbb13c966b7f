"""Settling uncertain replies by what Zalo reported, whichever came first.

A report is stored before the ledger is asked, and a reply is marked uncertain before the reports are asked: whatever
the order and wherever a process dies, at least one of the two sees the other. What both miss for a crash is found by
the next look (`check_uncertain`).

Where no report comes (the webhook was away, or the process died before its call), Zalo's list of the conversation is
asked: it finds the message, or shows in the end that there is none.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from services.notifier.domain.next_step import Fail, TryAgain
from services.notifier.domain.rules import LookUpRule
from services.notifier.domain.settlement import OpenSend, Proof, look_up, settle
from services.notifier.handlers.ports import Clock, Reports, Settleable
from shared.telemetry import get_logger

log = get_logger()
BATCH = 500
LOOKED_UP_AT_ONCE = 8
LOOK_UP_LEASE = timedelta(seconds=30)
"""So long other replicas leave the sends alone that one of them looks up; it saves calls, and nothing rests on it."""
NOT_TAKEN = "send.not_taken"
A_PERSONS_NOW = timedelta(days=36_500)


class Conversations(Protocol):
    """Zalo's lists; see `handlers/look_up.py`."""

    async def messages(self, citizen_key: str, *, since: datetime) -> list[Proof] | None:
        """Show what the page sent to a citizen; None if that cannot be told now."""
        ...


@dataclass(frozen=True)
class ByList:
    """How Zalo's lists settle the sends of one ledger."""

    conversations: Conversations
    rule: LookUpRule


class Settlement:
    """Looks for proofs of uncertain replies.

    Args:
        ledger: the send ledger whose uncertain sends these are: of replies or of broadcasts.
        reports: echoes and receipts.
        clock: the database's.
        skew: how far Zalo's clock may be behind ours.
        checks: waits between looks at one uncertain reply.
        others: the other ledgers: what proves a send of theirs, or may, proves nothing about one of this.
        by_list: asks Zalo where no report comes; None does not ask.
    """

    def __init__(
        self,
        ledger: Settleable,
        reports: Reports,
        clock: Clock,
        *,
        skew: timedelta,
        checks: tuple[timedelta, ...],
        others: Sequence[Settleable] = (),
        by_list: ByList | None = None,
    ) -> None:
        self._ledger = ledger
        self._reports = reports
        self._clock = clock
        self._skew = skew
        self.checks = checks
        self._others = others
        self._by_list = by_list

    async def note(self, reports: Mapping[str, Mapping[str, datetime]]) -> set[str]:
        """Note reports on the sends they are about; returns the message ids that sends of this ledger have."""
        return await self._ledger.mark(reports)

    async def of_citizens(self, citizen_keys: Iterable[str]) -> set[str]:
        """Settle what can be settled of these citizens.

        Returns:
            The ids of the replies that are sent now.

        Raises:
            StoreUnavailable: repeat the call.
        """
        uncertain = await self._ledger.uncertain(set(citizen_keys))
        if not uncertain:
            return set()
        concerned = {send.citizen_key for send in uncertain}
        since = min(send.started_at for send in uncertain) - self._skew
        proofs = await self._reports.proofs(concerned, since=since)
        if not proofs:
            return set()
        sends, owned = await self._accounts(concerned, {proof.message_id for proof in proofs})
        matches = settle(sends, proofs, owned=owned, skew=self._skew)
        by_id = {send.id: send for send in uncertain}
        settled: dict[str, str] = {}
        for reply_id, proof in matches.items():
            if reply_id in by_id and await self._ledger.settle(by_id[reply_id], proof):
                settled[reply_id] = proof.message_id
                log.info("send.settled", send=reply_id, message_id=proof.message_id, by=proof.kind)
        if settled:
            await self._ledger.mark(await self._reports.of_messages(settled.values()))
            await self._ledger.let_go(
                list(settled), {by_id[reply_id].citizen_key for reply_id in settled}, now=self._clock.now()
            )
        return set(settled)

    async def _accounts(self, citizen_keys: set[str], message_ids: set[str]) -> tuple[list[OpenSend], set[str]]:
        """Which sends of all ledgers may be meant by messages that Zalo told of, and which of the messages are owned.

        To be asked after Zalo's reports or list were read, and asking in this order: whose message is among them was
        marked before, so it is open here, or its id is owned there. Asked before, a send that begins in between would
        be missing, and its message would prove an older send of the same text.
        """
        ledgers = (self._ledger, *self._others)
        sends = [send for ledger in ledgers for send in await ledger.open_sends(citizen_keys)]
        sends += [send for ledger in ledgers for send in await ledger.nameless(citizen_keys)]
        owned = {message_id for ledger in ledgers for message_id in await ledger.owned(message_ids)}
        return sends, owned

    async def check_uncertain(self) -> set[str]:
        """Look again at the uncertain replies whose next look is due, then less and less often.

        Returns:
            The ids of the replies that are not uncertain any more.

        Raises:
            StoreUnavailable: repeat the call.
        """
        now = self._clock.now()
        due = await self._ledger.uncertain_due(now=now, limit=BATCH)
        if not due:
            return set()
        settled = await self.of_citizens({citizen_key for citizen_key, _ in due.values()})
        still = {send_id: fact for send_id, fact in due.items() if send_id not in settled}
        started_at: dict[str, datetime] = {}
        if self._by_list is not None and still:
            started_at = await self._look_up(still, self._by_list, now)
            settled |= {send_id for send_id in still if send_id not in started_at}
        again = {}
        for send_id, (_, checks) in still.items():
            if send_id not in settled:
                again[send_id] = (checks + 1, self._next_look(checks, started_at.get(send_id), now))
        await self._ledger.check_again(again)
        return settled

    def _next_look(self, checks: int, started_at: datetime | None, now: datetime) -> datetime:
        wait = self.checks[checks] if checks < len(self.checks) else A_PERSONS_NOW
        next_look = now + wait
        if self._by_list is not None and started_at is not None:
            # The moments at which the list is first asked, and first proves absence, are looks of their own.
            rule = self._by_list.rule
            moments = [started_at + rule.after, started_at + rule.absent_after]
            next_look = min([next_look, *(moment for moment in moments if moment > now)])
        return next_look

    # By Zalo's list

    async def _look_up(self, due: Mapping[str, tuple[str, int]], by_list: ByList, now: datetime) -> dict[str, datetime]:
        """Look up those that are old enough; returns when the attempts began of all that stay uncertain."""
        sends = await self._ledger.uncertain({citizen_key for citizen_key, _ in due.values()})
        open_ = {send.id: send for send in sends if send.id in due}
        by_citizen: dict[str, list[OpenSend]] = defaultdict(list)
        for send in open_.values():
            if now - send.started_at >= by_list.rule.after:
                by_citizen[send.citizen_key].append(send)
        asked = {send.id: (due[send.id][1], now + LOOK_UP_LEASE) for theirs in by_citizen.values() for send in theirs}
        await self._ledger.check_again(asked)
        slots = asyncio.Semaphore(LOOKED_UP_AT_ONCE)

        async def one(citizen_key: str, theirs: Sequence[OpenSend]) -> set[str]:
            async with slots:
                return await self._of_conversation(citizen_key, theirs, by_list)

        for ended in await asyncio.gather(*(one(key, theirs) for key, theirs in by_citizen.items())):
            for send_id in ended:
                open_.pop(send_id, None)
        return {send_id: send.started_at for send_id, send in open_.items()}

    async def _of_conversation(self, citizen_key: str, theirs: Sequence[OpenSend], by_list: ByList) -> set[str]:
        """Settle uncertain sends to one citizen by Zalo's list of the conversation; returns those that it ended."""
        since = min(send.started_at for send in theirs) - self._skew
        listed = await by_list.conversations.messages(citizen_key, since=since)
        if listed is None:
            return set()
        message_ids = {message.message_id for message in listed}
        sends, owned = await self._accounts({citizen_key}, message_ids)
        by_people = await self._reports.by_people(message_ids)
        looked_up = look_up(sends, listed, owned=owned, by_people=by_people, skew=self._skew)
        now, ours, ended = self._clock.now(), {send.id: send for send in theirs}, set[str]()
        for send_id, proof in looked_up.found.items():
            if send_id in ours and await self._ledger.settle(ours[send_id], proof):
                ended.add(send_id)
                log.info("send.settled", send=send_id, message_id=proof.message_id, by=proof.kind)
        for send in looked_up.absent:
            if send.id not in ours or now - send.started_at < by_list.rule.absent_after:
                continue
            is_late = now - send.requested_at >= by_list.rule.retry_within
            step = Fail(NOT_TAKEN) if is_late else TryAgain(now, NOT_TAKEN, 0)
            if await self._ledger.not_taken(send, step, now=now):
                ended.add(send.id)
                log.warning("send.not_taken", send=send.id, citizen=citizen_key, step=type(step).__name__)
        if ended:
            await self._ledger.let_go(list(ended), {citizen_key}, now=now)
        return ended
