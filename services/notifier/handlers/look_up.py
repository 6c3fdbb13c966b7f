"""Asking Zalo for its own list of a conversation, within the calls that replies leave."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from services.notifier.domain.outcomes import ListedMessage, NotSent, Refused, Unknown
from services.notifier.domain.settlement import Proof
from services.notifier.errors import TokenUnavailable
from services.notifier.handlers.ports import Clock, Rates
from services.notifier.handlers.send_replies import TokenSource
from services.notifier.handlers.throttle import may_call, paused_until
from shared.ids import text_digest
from shared.telemetry import get_logger

log = get_logger()

CALLS_A_CONVERSATION = 10
"""Who wrote more than a hundred messages with a page since the attempt is left to a person."""


class ConversationApi(Protocol):
    """Zalo's conversation API."""

    async def conversation(
        self, user_id: str, *, offset: int, app_id: str, access_token: str
    ) -> list[ListedMessage] | Refused | NotSent | Unknown:
        """Show some messages, from the newest."""
        ...


class LookUp:
    """Reads conversations at Zalo's.

    Args:
        zalo: the API.
        tokens: of the pages.
        rates: shared limits.
        clock: the database's.
        app_by_oa: which app each of our pages belongs to.
        a_call: how many messages one full answer has.
    """

    def __init__(
        self,
        zalo: ConversationApi,
        tokens: TokenSource,
        rates: Rates,
        clock: Clock,
        app_by_oa: Mapping[str, str],
        *,
        a_call: int,
    ) -> None:
        self._zalo = zalo
        self._tokens = tokens
        self._rates = rates
        self._clock = clock
        self._app_by_oa = app_by_oa
        self._a_call = a_call

    async def messages(self, citizen_key: str, *, since: datetime) -> list[Proof] | None:
        """All messages that the page sent to a citizen since a moment.

        Returns:
            None if Zalo does not tell all of them now, for whatever reason: then nothing may be concluded.

        Raises:
            StoreUnavailable: ask again.
        """
        seen: dict[str, ListedMessage] = {}
        oldest: datetime | None = None
        for number in range(CALLS_A_CONVERSATION):
            answer = await self._ask(citizen_key, offset=number * self._a_call)
            if answer is None:
                return None
            for message in answer:
                if oldest is not None and message.at > oldest and message.message_id not in seen:
                    log.warning("conversation.not_in_order", citizen=citizen_key)
                    return None  # the last page of such a list says nothing about its end
                oldest = message.at if oldest is None else min(oldest, message.at)
                seen[message.message_id] = message
            if len(answer) < self._a_call or (oldest is not None and oldest < since):
                return [
                    Proof(message.message_id, citizen_key, "listed", text_digest(message.text), message.at)
                    for message in seen.values()
                    if message.is_from_page and message.at >= since
                ]
        return None

    async def _ask(self, citizen_key: str, *, offset: int) -> list[ListedMessage] | None:
        oa_id, _, user_id = citizen_key.partition(":")
        app_id = self._app_by_oa.get(oa_id)
        if app_id is None or not user_id.isdigit():
            return None
        if not await may_call(self._rates, oa_id=oa_id, app_id=app_id):
            return None
        try:
            token = await self._tokens.access(oa_id)
        except TokenUnavailable:
            return None
        answer = await self._zalo.conversation(user_id, offset=offset, app_id=app_id, access_token=token.value)
        match answer:
            case list():
                return answer
            case Refused(rule=rule):
                log.warning("conversation.refused", citizen=citizen_key, code=answer.code, reason=rule.reason)
                await paused_until(self._rates, answer, oa_id=oa_id, app_id=app_id, now=self._clock.now())
                if rule.error_class == "token":
                    with suppress(TokenUnavailable):
                        await self._tokens.replace(oa_id, token.generation)
            case NotSent(why) | Unknown(why=why):
                log.warning("conversation.not_told", citizen=citizen_key, why=why)
        return None
