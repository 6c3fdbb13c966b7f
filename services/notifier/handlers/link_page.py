"""Linking a page by hand: the code of an administrator's consent is traded for a pair of tokens.

It is a refresh with another grant, and as delicate: the new pair kills the old one. So the same lease keeps replicas
from refreshing meanwhile, the pair is stored before anybody uses it, and a lost answer leaves `refresh_unknown`.
"""

import asyncio
import secrets
from typing import Protocol

from services.notifier.adapters.token_store import PageToken
from services.notifier.domain.outcomes import NotSent, RefreshOutcome, RefreshRefused, TokensGranted, Unknown
from services.notifier.errors import LinkFailed
from services.notifier.handlers.keep_tokens import LEASE_SECONDS, UNKNOWN_PAUSE_SECONDS, WAIT_STEP_SECONDS, Tokens
from shared.crash import crash_point
from shared.errors import StoreUnavailable
from shared.telemetry import get_logger
from shared.zalo_config import ZaloPage

log = get_logger()
STORE_PAUSE_SECONDS = 1.0


class CodeExchange(Protocol):
    """Zalo's token endpoint."""

    async def exchange_code(self, *, app_id: str, code: str, verifier: str) -> RefreshOutcome:
        """Trade the code for a pair."""
        ...


async def link_page(page: ZaloPage, code: str, verifier: str, tokens: Tokens, oauth: CodeExchange) -> None:
    """Give a page the tokens that an administrator has just consented to; senders use them at once.

    Raises:
        LinkFailed: there is no pair; its code says why. The page is as it was, unless the answer was lost.
        StoreUnavailable: nothing has begun; repeat it with the same code.
    """
    configured = page.refresh_token.get_secret_value() if page.refresh_token is not None else None
    await tokens.seed(oa_id=page.oa_id, page=page.page, app_id=page.app_id, refresh_token=configured)
    owner = secrets.token_hex(8)
    token = await _leased(page, owner, tokens)
    crash_point("notifier.link.after_lease")
    outcome = await oauth.exchange_code(app_id=page.app_id, code=code, verifier=verifier)
    crash_point("notifier.link.after_exchange")
    while True:
        try:
            await _note(token, owner, outcome, tokens)
        except StoreUnavailable:  # Zalo has issued the pair: it must not be lost for a database that is away
            log.error("token.storing", page=page.page, outcome=type(outcome).__name__)  # noqa: TRY400
            await asyncio.sleep(STORE_PAUSE_SECONDS)
        else:
            return


async def _leased(page: ZaloPage, owner: str, tokens: Tokens) -> PageToken:
    """Wait until no replica refreshes, and keep the others from it."""
    for _ in range(int(2 * LEASE_SECONDS / WAIT_STEP_SECONDS)):
        token = await tokens.read(page.oa_id)
        if token is None:
            raise LinkFailed("token.page_unknown")
        if token.is_leased:
            await tokens.expire_lease(page.oa_id, pause_seconds=UNKNOWN_PAUSE_SECONDS)
        elif await tokens.lease(token, owner=owner, seconds=LEASE_SECONDS, is_by_hand=True):
            return token
        await asyncio.sleep(WAIT_STEP_SECONDS)
    raise LinkFailed("token.refresh_in_progress")


async def _note(token: PageToken, owner: str, outcome: RefreshOutcome, tokens: Tokens) -> None:
    failed = ""
    match outcome:
        case TokensGranted():
            await tokens.store_pair(token, outcome)
            log.info("token.linked", page=token.page, generation=token.generation + 1)
            return
        case RefreshRefused(code):
            failed = f"link.refused_{abs(code)}"
        case NotSent():
            failed = "link.unreachable"
        case Unknown():
            failed = "link.answer_lost"
    if isinstance(outcome, Unknown):
        await tokens.end_refresh(
            token,
            owner=owner,
            state="refresh_unknown",
            reason="token.refresh_unknown",
            pause_seconds=UNKNOWN_PAUSE_SECONDS,
        )
    else:
        await tokens.give_back(token, owner=owner)
    log.error("token.not_linked", page=token.page, reason=failed)
    raise LinkFailed(failed)
