"""Calls within the limits of page and app; where Zalo refuses one as too many, they pause on all replicas."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.notifier.adapters.rate_bucket import RESERVED_SHARE, app_bucket, page_bucket
from services.notifier.domain.articles import ArticleOutcome
from services.notifier.domain.outcomes import Refused
from services.notifier.handlers.ports import Rates
from shared.errors import StoreUnavailable
from shared.telemetry import get_logger

log = get_logger()


@dataclass(frozen=True)
class Pause:
    """A bucket from which nobody takes for a while.

    Attributes:
        until: by the database's clock.
    """

    bucket: str
    seconds: float
    until: datetime


async def may_call(rates: Rates, *, oa_id: str, app_id: str) -> bool:
    """Whether the page and the app may make one more call now; replies keep their share.

    Raises:
        StoreUnavailable: ask again.
    """
    for bucket in (page_bucket(oa_id), app_bucket(app_id)):
        if not (await rates.take(bucket, 1, reserved_share=RESERVED_SHARE)).tokens:
            return False
    return True


def pause_after(refused: Refused, *, oa_id: str, app_id: str, now: datetime) -> Pause | None:
    """The pause that a refused call asks for; None if it was refused for something else."""
    if refused.rule.error_class != "throttled":
        return None
    seconds = refused.pause_seconds(now)
    bucket = page_bucket(oa_id) if refused.is_page_limit else app_bucket(app_id)
    return Pause(bucket, seconds, now + timedelta(seconds=seconds))


async def keep_pauses(rates: Rates, pauses: Iterable[Pause]) -> None:
    """Tell all replicas, once for each bucket; what cannot be told now, the next refused call tells."""
    longest: dict[str, Pause] = {}
    for pause in pauses:
        known = longest.get(pause.bucket)
        if known is None or pause.seconds > known.seconds:
            longest[pause.bucket] = pause
    for pause in longest.values():
        log.warning("calls.blocked", bucket=pause.bucket, seconds=round(pause.seconds, 1))
        with suppress(StoreUnavailable):
            await rates.block([pause.bucket], seconds=pause.seconds)


async def paused_until(
    rates: Rates, outcome: ArticleOutcome, *, oa_id: str, app_id: str, now: datetime
) -> datetime | None:
    """After one call: until when its page or its app pauses now; None if Zalo did not refuse it as one too many."""
    pause = pause_after(outcome, oa_id=oa_id, app_id=app_id, now=now) if isinstance(outcome, Refused) else None
    if pause is None:
        return None
    await keep_pauses(rates, [pause])
    return pause.until
