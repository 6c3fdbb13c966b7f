"""What the frame around every page of a signed-in officer shows."""

from typing import Any

from services.console.domain import scope_of
from services.console.web import Visit


async def frame(visit: Visit, *, code: str | None = None) -> dict[str, Any]:
    """The address of the live stream, what burns, and one's own decisions that can still be undone.

    Args:
        visit: of a signed-in officer.
        code: the case on the page.

    Raises:
        StoreUnavailable: try again.
    """
    scope, account = scope_of(visit.officer), visit.officer.account
    # First the fingerprint, then the page: a change in between makes a signal too many, never one too few.
    seen = await visit.deps.live.fingerprints(scope, account=account, code=code)
    query = "&".join(f"{topic}={mark}" for topic, mark in seen.items())
    return {
        "live": f"/live?{query}" + (f"&code={code}" if code else ""),
        "counts": await visit.cases.counts(),
        "pending": await visit.deps.actions.waiting_of([account]),
    }
