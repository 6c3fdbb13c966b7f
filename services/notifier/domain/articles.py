"""An article on its way to the followers of one page: created, verified, broadcast. Pure.

Creating and broadcasting have no idempotency key at Zalo, so each is called once; an answer that is lost leaves the
page `uncertain` for a person. Verifying may be repeated: asking again answers the same id.

Source: docs/architecture/broadcasts.md; Zalo's article API (v2.0).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from services.notifier.domain.copies import Progress
from services.notifier.domain.next_step import Fail, Park, Sent, TryAgain, next_step
from services.notifier.domain.outcomes import Accepted, Got, NotSent, Refused, Unknown
from services.notifier.domain.rules import RetrySchedule

ArticleStep = Literal["create", "verify", "broadcast"]
ArticleState = Literal["queued", "calling", "sent", "failed", "uncertain", "skipped"]
OPEN: frozenset[ArticleState] = frozenset({"queued", "calling"})
TOO_LATE = "article.too_late"
"""Reason of a page whose article Zalo proved to have made only hours after the broadcast ended: nobody is shown it."""
FIRST_LOOK = timedelta(seconds=3)
"""Zalo works some seconds on a new article before it has an id."""
_LOOKS = (
    (timedelta(hours=1), timedelta(minutes=2)),
    (timedelta(days=1), timedelta(minutes=15)),
    (timedelta(days=7), timedelta(hours=2)),
    (timedelta(days=30), timedelta(days=1)),
)
"""How often views and shares are looked up, by the age of the broadcast; then never again."""


@dataclass(frozen=True)
class ArticleSend:
    """One article for one page.

    Attributes:
        followers: of the page, as far as we know them, when the audience was fixed.
        step_at: since when it has been at this step; failures are counted from then.
        token: what `create` answered; `verify` trades it for the article's id.
        views: as Zalo counted them last; likewise shares.
    """

    id: str
    broadcast_id: str
    page: str
    oa_id: str
    app_id: str
    followers: int
    step_at: datetime
    step: ArticleStep = "create"
    state: ArticleState = "queued"
    reason: str | None = None
    owner: str | None = None
    failures: int = 0
    token: str | None = None
    article_id: str | None = None
    message_id: str | None = None
    sent_at: datetime | None = None
    views: int | None = None
    shares: int | None = None
    collected_at: datetime | None = None

    @property
    def requested_at(self) -> datetime:
        """When this step was first asked for."""
        return self.step_at


ArticleOutcome = Got | Accepted | Refused | NotSent | Unknown


def after(
    send: ArticleSend,
    outcome: ArticleOutcome,
    *,
    schedules: Mapping[str, RetrySchedule],
    now: datetime,
    not_before: datetime | None = None,
) -> dict[str, Any]:
    """What a call leaves in the row.

    Args:
        send: as it was claimed.
        outcome: what the call came to.
        schedules: of retries.
        now: by the database's clock.
        not_before: end of a shared block of the page or the app.

    Returns:
        The fields that change.
    """
    if isinstance(outcome, Got):
        if send.step == "create":
            return {**_next_step("verify", now, now + FIRST_LOOK), "token": outcome.value}
        return {**_next_step("broadcast", now, now), "article_id": outcome.value}
    if send.step == "verify" and isinstance(outcome, Unknown):
        outcome = NotSent(outcome.why)
    match next_step(outcome, send, schedules=dict(schedules), now=now, not_before=not_before):
        case Sent(message_id, _):
            return {
                "state": "sent",
                "reason": None,
                "message_id": message_id,
                "sent_at": now,
                "collect_at": next_look(now, now),
            }
        case TryAgain(at, reason, failures):
            return {"state": "queued", "reason": reason, "failures": failures, "due_at": at}
        case Fail(reason):
            return {"state": "failed", "reason": reason}
        case Park(reason, why):
            return {"state": "uncertain", "reason": reason, "why": why}


def _next_step(step: ArticleStep, now: datetime, due_at: datetime) -> dict[str, Any]:
    return {"state": "queued", "step": step, "step_at": now, "reason": None, "failures": 0, "due_at": due_at}


def next_look(sent_at: datetime, now: datetime) -> datetime | None:
    """When views and shares are looked up next; None when they do not change any more."""
    for age, pause in _LOOKS:
        if now - sent_at < age:
            return now + pause
    return None


def article_progress(sends: Iterable[ArticleSend]) -> Progress:
    """How far an article is, counted in followers: pages are its chunks."""
    sends = list(sends)
    states, reasons = Counter[Any](), Counter[tuple[Any, str]]()
    for send in sends:
        state = "sending" if send.state == "calling" else send.state
        states[state] += send.followers
        if send.reason is not None:
            reasons[state, send.reason] += send.followers
    return Progress(
        people=sum(send.followers for send in sends),
        chunks=len(sends),
        chunks_done=sum(send.state not in OPEN for send in sends),
        states=states,
        reasons=reasons,
    )
