"""Zalo's message API for broadcasts: one content to many people, each body put together from prepared bytes.

Source: reference of the OA Open API v3 (message/cs, message/template) and of the business host (message/template).
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Self

import orjson

from services.notifier.adapters.bulk_http import BulkConnections
from services.notifier.adapters.zalo import (
    KEEP_ALIVE_SECONDS,
    MESSAGE_PATH,
    message_body,
    read_outcome,
    request_head,
    whole_request,
)
from services.notifier.domain.broadcast import TemplateContent
from services.notifier.domain.outcomes import SendOutcome
from services.notifier.domain.rules import ErrorTable
from shared.events import ReplyContent
from shared.zalo_config import ZaloConfig

TEMPLATE_PATH = "/v3.0/oa/message/template"
PHONE_PATH = "/message/template"
_WHOM = "-"


@dataclass(frozen=True)
class Form:
    """A content as Zalo takes it: what comes before and after the person's id, or their number.

    Attributes:
        by_phone: goes to the business host, with our id of the copy, by which Zalo's delivery report names it.
    """

    path: str
    before: bytes
    after: bytes
    by_phone: bool = False

    def body(self, address: "Address") -> bytes:
        """The whole body for one person."""
        whom = f'{address.tracking_id}","phone":"{address.phone}' if self.by_phone else address.user_id
        return self.before + whom.encode("ascii") + self.after


@dataclass(frozen=True, slots=True)
class Address:
    """Whom to send to, and on whose behalf."""

    user_id: str
    app_id: str
    access_token: str
    phone: str | None = None
    tracking_id: str = ""


def message_form(content: ReplyContent) -> Form:
    """A consultation message; its content in NFC and checked."""
    return _form(MESSAGE_PATH, orjson.dumps(message_body(content, user_id=_WHOM)))


def template_form(content: TemplateContent) -> Form:
    """An approved template, by the user id of the page."""
    body = {"user_id": _WHOM, "template_id": content.template_id, "template_data": content.data}
    return _form(TEMPLATE_PATH, orjson.dumps(body))


def phone_form(content: TemplateContent) -> Form:
    """An approved template, by phone number."""
    body = {"tracking_id": _WHOM, "template_id": content.template_id, "template_data": content.data}
    return replace(_form(PHONE_PATH, orjson.dumps(body), hole="tracking_id"), by_phone=True)


def _form(path: str, body: bytes, *, hole: str = "user_id") -> Form:
    name = f'"{hole}":"'.encode()
    before, after = body.split(name + b'-"', 1)
    return Form(path, before + name, b'"' + after)


@dataclass(frozen=True)
class _Host:
    """One of Zalo's two message hosts, and what its error codes mean."""

    url: str
    errors: ErrorTable
    connections: BulkConnections


class CopyClient(AbstractAsyncContextManager["CopyClient", None]):
    """Sends one content to many people and says what each call came to.

    Args:
        config: the addresses and apps.
        errors: what the codes mean.
        business_errors: what those of the business host mean.
        timeout_seconds: of all calls of one `send` together.
        connect_timeout_seconds: of one connection.
        connections: the most at once.
    """

    def __init__(
        self,
        config: ZaloConfig,
        errors: ErrorTable,
        business_errors: ErrorTable,
        *,
        timeout_seconds: float,
        connect_timeout_seconds: float,
        connections: int,
    ) -> None:
        self._apps = {app.app_id: app for app in config.apps}
        self._timeout_seconds = timeout_seconds
        self._oa, self._business = (
            _Host(
                url,
                table,
                BulkConnections(
                    url,
                    connections=connections,
                    connect_timeout_seconds=connect_timeout_seconds,
                    idle_seconds=KEEP_ALIVE_SECONDS,
                ),
            )
            for url, table in ((config.oa_api_url, errors), (config.business_url, business_errors))
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for host in (self._oa, self._business):
            await host.connections.close()

    async def send(self, form: Form, addresses: Sequence[Address]) -> list[SendOutcome]:
        """One call for each address, side by side."""
        host = self._business if form.by_phone else self._oa
        heads: dict[tuple[str, str], bytes] = {}
        requests = []
        for address in addresses:
            sender = (address.app_id, address.access_token)
            head = heads.get(sender)
            if head is None:
                app = self._apps[address.app_id]
                head = heads[sender] = request_head(host.url, form.path, app, address.access_token)
            requests.append(whole_request(head, form.body(address)))
        outcomes = await host.connections.post(requests, timeout_seconds=self._timeout_seconds)
        return [read_outcome(host.errors, outcome) for outcome in outcomes]
