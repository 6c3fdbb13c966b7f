"""Settling uncertain replies by what Zalo reported, whichever came first.

A report is stored before the ledger is asked, and a reply is marked uncertain before the reports are asked: whatever
the order and wherever a process dies, at least one of the two sees the other. What both miss for a crash is found by
the next look (`check_uncertain`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from services.notifier.domain.settlement import OpenSend, settle
from services.notifier.handlers.ports import Clock, Reports, Settleable
from shared.telemetry import get_logger

log = get_logger()
BATCH = 500


class Settlement:
    """Looks for proofs of uncertain replies.

    Args:
        ledger: the send ledger whose uncertain sends these are: of replies or of broadcasts.
        reports: echoes and receipts.
        clock: the database's.
        skew: how far Zalo's clock may be behind ours.
        checks: waits between looks at one uncertain reply.
        others: the other ledgers: what proves a send of theirs, or may, proves nothing about one of this.
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
    ) -> None:
        self._ledger = ledger
        self._reports = reports
        self._clock = clock
        self._skew = skew
        self.checks = checks
        self._others = others

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
        sends = await self._ledger.open_sends(set(citizen_keys))
        uncertain = [send for send in sends if send.state == "uncertain"]
        if not uncertain:
            return set()
        concerned = {send.citizen_key for send in uncertain}
        since = min(send.started_at for send in uncertain) - self._skew
        proofs = await self._reports.proofs(concerned, since=since)
        if not proofs:
            return set()
        owned = await self._ledger.owned({proof.message_id for proof in proofs})
        for other in self._others:
            owned |= await other.owned({proof.message_id for proof in proofs})
            sends += await other.open_sends(concerned)
        matches = settle(sends, proofs, owned=owned, skew=self._skew)
        by_id: dict[str, OpenSend] = {send.id: send for send in uncertain}
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

    async def check_uncertain(self) -> set[str]:
        """Look again at the uncertain replies whose next look is due, then less and less often.

        Returns:
            The ids of the replies that are sent now.

        Raises:
            StoreUnavailable: repeat the call.
        """
        now = self._clock.now()
        due = await self._ledger.uncertain_due(now=now, limit=BATCH)
        if not due:
            return set()
        settled = await self.of_citizens({citizen_key for citizen_key, _ in due.values()})
        again = {}
        for reply_id, (_, checks) in due.items():
            if reply_id not in settled:
                wait = self.checks[checks] if checks < len(self.checks) else timedelta(days=36_500)  # a person's now
                again[reply_id] = (checks + 1, now + wait)
        await self._ledger.check_again(again)
        return settled
