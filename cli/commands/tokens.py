"""`hub tokens`: whether each page can speak, and until when. Never a token."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cli.hub import opened_store
from cli.settings import load_settings
from cli.terminal import Terminal, run, seconds_as_text, when
from shared.mongo import Document, Store, store_errors

REFRESH_TOKEN_LIFE = timedelta(days=90)
ALARM_BEFORE = timedelta(days=14)
"""A refresh token works for three months; a page that nobody uses must be linked again in time."""

WORKING = frozenset({"ok", "new"})


@dataclass(frozen=True)
class PageToken:
    """What an operator may know of a page's tokens.

    Attributes:
        state: the notifier's word for it.
        expires_at: of the access token; the notifier renews it before.
        refresh_expires_at: when only a person can link the page again.
        alarm: what is wrong, or None.
    """

    page: str
    oa_id: str
    state: str
    expires_at: datetime | None
    refreshed_at: datetime | None
    refresh_expires_at: datetime | None
    reason: str | None
    alarm: str | None


def tokens(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """List the pages' OAuth tokens: state, how long they last, last refresh, alarm. No token is ever shown."""
    if context.invoked_subcommand is None:
        terminal = Terminal(as_json=as_json)
        run(terminal, _tokens(terminal))


async def _tokens(terminal: Terminal) -> None:
    async with opened_store(load_settings()) as store:
        found = await read_tokens(store)
    if terminal.as_json:
        terminal.document([vars(token) for token in found])
    elif not found:
        terminal.say("no page has a token yet: the notifier makes them when it starts")
    else:
        now = datetime.now(UTC)
        terminal.table(
            ("page", "state", "access token", "refreshed", "refresh token", "alarm"),
            [
                (
                    token.page,
                    token.state,
                    _left(token.expires_at, now),
                    when(token.refreshed_at),
                    _left(token.refresh_expires_at, now),
                    token.alarm or "",
                )
                for token in found
            ],
        )
    if any(token.alarm for token in found):
        terminal.say("[red]! docs/runbooks/token-broken.md says what to do[/red]")
        raise typer.Exit(1)


async def read_tokens(store: Store) -> list[PageToken]:
    """The state of every page's tokens, by page."""
    with store_errors():
        # Only these fields: a token must not even reach this process.
        fields = ("page", "state", "expires_at", "refreshed_at", "reason", "generation")
        documents = await store["page_tokens"].find({}, dict.fromkeys(fields, 1)).to_list()
    now = datetime.now(UTC)
    return sorted((as_page_token(document, now) for document in documents), key=lambda token: token.page)


def as_page_token(document: Document, now: datetime) -> PageToken:
    """Judge one page's document."""
    has_tokens = bool(document.get("generation"))
    refreshed_at = document.get("refreshed_at")
    refresh_expires_at = None if refreshed_at is None else refreshed_at + REFRESH_TOKEN_LIFE
    expires_at = document.get("expires_at") if has_tokens else None
    return PageToken(
        page=str(document.get("page") or document["_id"]),
        oa_id=document["_id"],
        state=document["state"],
        expires_at=expires_at,
        refreshed_at=refreshed_at if has_tokens else None,
        refresh_expires_at=refresh_expires_at,
        reason=document.get("reason"),
        alarm=_alarm(document, expires_at, refresh_expires_at, now),
    )


def _alarm(
    document: Document, expires_at: datetime | None, refresh_expires_at: datetime | None, now: datetime
) -> str | None:
    if document["state"] not in WORKING:
        return str(document.get("reason") or f"token.{document['state']}")
    if expires_at is not None and expires_at <= now:
        return "token.access_expired"
    if refresh_expires_at is not None and refresh_expires_at - now < ALARM_BEFORE:
        return "token.refresh_ends_soon"
    return None


def _left(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "-"
    seconds = (moment - now).total_seconds()
    return f"{seconds_as_text(seconds)} left" if seconds > 0 else "expired"
