"""Values of the notifier's domain with every field that a test is not about already filled."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from services.notifier.domain.gate import Unfinished
from services.notifier.domain.reply import Reply
from services.notifier.domain.settlement import OpenSend, Proof
from shared.events import ReplyContent
from shared.ids import text_digest
from tests.factories import NOW, OA_ID, PAGE

CITIZEN = f"{OA_ID}:2000000000000000001"
APP_ID = "1000000000000000001"


def a_claimed_reply(**changes: Any) -> Reply:
    """A reply that a sender has claimed for its first attempt."""
    filled: dict[str, Any] = {
        "id": "r1",
        "citizen_key": CITIZEN,
        "page": PAGE,
        "oa_id": OA_ID,
        "app_id": APP_ID,
        "user_id": "2000000000000000001",
        "content": ReplyContent(text="Mang theo giấy tờ tùy thân."),
        "conversation_id": None,
        "correlation_id": "c" * 32,
        "traceparent": None,
        "case_code": "Q12-261124-0001",
        "is_emergency": False,
        "interaction_at": NOW - timedelta(minutes=1),
        "requested_at": NOW,
        "attempt": 1,
        "failures": 0,
        "owner": "me-1",
    }
    return Reply(**{**filled, **changes})


def an_unfinished(id: str, order: int, state: str = "queued", **changes: Any) -> Unfinished:
    """A reply that stands in a citizen's gate, due now."""
    filled: dict[str, Any] = {
        "id": id,
        "citizen_key": CITIZEN,
        "order": order,
        "state": state,
        "due_at": NOW,
        "is_emergency": False,
        "uncertain_at": NOW if state == "uncertain" else None,
    }
    return Unfinished(**{**filled, **changes})


def an_open_send(id: str, *, text: str = "chào", started_at: datetime = NOW, state: Any = "uncertain") -> OpenSend:
    """A send whose message id is not known."""
    return OpenSend(id, CITIZEN, text_digest(text), started_at, 1, state, started_at, is_listed=True)


def a_proof(message_id: str, *, text: str | None = "chào", kind: Any = "echo", at: datetime = NOW) -> Proof:
    """Something Zalo reported about the citizen."""
    return Proof(message_id, CITIZEN, kind, None if text is None else text_digest(text), at)


async def eventually(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for a condition; fails when it does not come true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
