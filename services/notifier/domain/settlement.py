"""Settling uncertain sends: Zalo's echo of a message, or a receipt for it, proves that it was taken.

The answer that carried the message id was lost, so the echo is recognised by citizen and text. Each echo proves one
send, and an echo whose message id another reply owns proves nothing about this one.

Where no echo comes, Zalo's own list of the conversation is asked: a message in it is like an echo, and one that is
not in it after all this time was never taken.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

_WITH_TEXT = ("echo", "listed")
NOT_SENT = "send.not_sent_by_person"
"""Reason of what a person looked for at Zalo's and did not find."""


@dataclass(frozen=True)
class OpenSend:
    """A send whose message id is not known.

    Attributes:
        started_at: when the attempt began, by the database's clock.
        requested_at: when it was asked for, or first tried.
        state: `sending` still hopes for its own answer; `sent` is what Zalo has by a person's word, or by an answer
            without an id.
        is_listed: Zalo's list of the conversation shows this kind of message, so that it is not there without a trace.
    """

    id: str
    citizen_key: str
    text_sha256: str
    started_at: datetime
    attempt: int
    state: Literal["sending", "uncertain", "sent"]
    requested_at: datetime
    is_listed: bool


@dataclass(frozen=True)
class Proof:
    """What Zalo told of a message that no person wrote in its own tool: an echo, a receipt, or a place in its list.

    Attributes:
        text_sha256: of an echo's or a listed message's text; None for a receipt.
        at: by Zalo's clock.
        send_id: of our send, where Zalo repeats it: then it proves this one and no other.
    """

    message_id: str
    citizen_key: str
    kind: Literal["echo", "received", "seen", "listed"]
    text_sha256: str | None
    at: datetime
    send_id: str | None = None


def settle(
    sends: Sequence[OpenSend], proofs: Iterable[Proof], *, owned: Collection[str], skew: timedelta
) -> dict[str, Proof]:
    """Match uncertain sends with what proves them.

    Two sends of one text to one citizen cannot be told apart, and need not be: as many are proven as there are
    echoes. While one of them is still being sent nothing is concluded, since the echo may be of that one. One that is
    known to be sent comes before those of which nobody knows: an echo of its own is still to be expected.

    Args:
        sends: all open sends of the citizens concerned, `sending` and `sent` ones included.
        proofs: everything Zalo reported of these citizens since the oldest attempt.
        owned: message ids that a reply has already.
        skew: how far Zalo's clock may be behind ours.

    Returns:
        The proof by id of the send it belongs to.
    """
    unowned = [proof for proof in proofs if proof.message_id not in owned]
    by_name = {proof.send_id: proof for proof in unowned if proof.send_id is not None}
    free = [proof for proof in unowned if proof.send_id is None]
    echoes = {
        proof.message_id: proof for proof in sorted(free, key=lambda p: p.at, reverse=True) if proof.kind in _WITH_TEXT
    }
    receipts: dict[str, dict[str, Proof]] = defaultdict(dict)
    for proof in sorted(free, key=lambda p: p.at, reverse=True):
        if proof.kind not in _WITH_TEXT and proof.message_id not in echoes:
            receipts[proof.citizen_key][proof.message_id] = proof

    by_citizen: dict[str, list[OpenSend]] = defaultdict(list)
    for send in sorted(sends, key=lambda s: (s.started_at, s.id)):
        by_citizen[send.citizen_key].append(send)

    settled = {send.id: by_name[send.id] for send in sends if send.state == "uncertain" and send.id in by_name}
    for citizen_key, theirs in by_citizen.items():
        busy_texts = {send.text_sha256 for send in theirs if send.state == "sending"}
        waiting = [send for send in theirs if send.state != "sending" and send.id not in settled]
        waiting.sort(key=lambda send: send.state != "sent")
        for echo in sorted(echoes.values(), key=lambda p: (p.at, p.message_id)):
            if echo.citizen_key == citizen_key and echo.text_sha256 not in busy_texts:
                match = next((s for s in waiting if _is_proven(s, echo, skew)), None)
                if match is not None:
                    settled[match.id] = echo
                    waiting.remove(match)
        # A receipt carries no text. It proves only where no other send can be meant: Zalo sends receipts to the app
        # that sent the message, and every message of ours but this one has its id in the ledger.
        if len(waiting) == 1 and not busy_texts and len(receipts[citizen_key]) == 1:
            (receipt,) = receipts[citizen_key].values()
            if receipt.at >= waiting[0].started_at - skew:
                settled[waiting[0].id] = receipt
    return settled


def _is_proven(send: OpenSend, echo: Proof, skew: timedelta) -> bool:
    return echo.text_sha256 == send.text_sha256 and echo.at >= send.started_at - skew


@dataclass(frozen=True)
class LookedUp:
    """What Zalo's list of one conversation says.

    Attributes:
        found: the message by id of the send that it is.
        absent: uncertain sends that Zalo does not have.
    """

    found: dict[str, Proof]
    absent: tuple[OpenSend, ...]


def look_up(
    sends: Sequence[OpenSend],
    listed: Iterable[Proof],
    *,
    owned: Collection[str],
    by_people: Collection[str],
    skew: timedelta,
) -> LookedUp:
    """Match one citizen's uncertain sends with the page's messages in the conversation.

    Absence must be beyond doubt, since what follows may be another send. So nothing is absent while something is being
    sent, nor while the list shows a message that nobody accounts for: it may be ours in a form that we do not know. A
    message that would account for one which is `sent` by a person's word may as well be this one.

    Args:
        sends: all open sends to the citizen, `sent` ones included, read after the list.
        listed: all messages of the page since the oldest attempt.
        owned: message ids that a send has already, read after the open sends.
        by_people: message ids that a person sent in Zalo's own tool.
        skew: how far Zalo's clock may be behind ours.
    """
    messages = [proof for proof in listed if proof.message_id not in by_people]
    found = settle(sends, messages, owned=owned, skew=skew)
    by_word = {send.id for send in sends if send.state == "sent"}
    accounted = {proof.message_id for send_id, proof in found.items() if send_id not in by_word}.union(owned)
    strange = [proof.at for proof in messages if proof.message_id not in accounted]
    if any(send.state == "sending" for send in sends):
        return LookedUp(found, ())
    absent = tuple(
        send
        for send in sends
        if send.state == "uncertain"
        and send.is_listed
        and send.id not in found
        and not any(at >= send.started_at - skew for at in strange)
    )
    return LookedUp(found, absent)
