"""`hub replies`: the send ledger, for the replies that need a look, and what a person decides about them."""

import getpass
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.hub import opened_store
from cli.settings import load_settings
from cli.terminal import Terminal, run, when
from services.notifier.adapters.reply_decisions import ReplyDecisions
from shared.mongo import Document, Store, store_errors

STATES = ("queued", "sending", "sent", "uncertain", "failed")
ID_PATTERN = re.compile(r"[0-9a-f]{6,32}")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept on the reply with your name.", show_default=False)]
By = Annotated[str, typer.Option("--by", help="Who decides; the name of your login if not given.", show_default=False)]


def list_(
    state: Annotated[str, typer.Option(help=f"One of {', '.join(STATES)}.")] = "uncertain",
    citizen: Annotated[str | None, typer.Option(help="Only of this citizen, as OA:USER.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """List replies in one state of the send ledger; without options those of whose fate nobody knows.

    An uncertain reply is never sent again by itself: docs/runbooks/uncertain-replies.md says how a person settles it.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _list(terminal, state, citizen, limit))


async def _list(terminal: Terminal, state: str, citizen: str | None, limit: int) -> None:
    if state not in STATES:
        raise CommandError(
            "state_unknown",
            f"{state!r} is no state of a reply.",
            f"Use one of {', '.join(STATES)}.",
            exit_code=ExitCode.USAGE,
        )
    query: Document = {"state": state}
    if citizen is not None:
        query["citizen_key"] = citizen
    async with opened_store(load_settings()) as store:
        with store_errors():
            cursor = store["reply_ledger"].find(query, {"content": 0, "text_sha256": 0, "traceparent": 0})
            found = await cursor.sort([("due_at", -1)]).limit(limit).to_list(limit)
    if terminal.as_json:
        terminal.document(found)
    elif not found:
        terminal.say(f"[green]✓[/green] no reply is {state}")
    else:
        terminal.table(
            ("reply", "asked for", "case", "citizen", "template", "attempts", "reason"),
            [
                (
                    reply["_id"][:12],
                    when(reply["requested_at"]),
                    reply.get("case_code"),
                    reply["citizen_key"],
                    reply.get("template"),
                    reply.get("attempt", 0),
                    reply.get("reason") or "",
                )
                for reply in found
            ],
        )


def settle(
    reply_id: Annotated[str, typer.Argument(metavar="ID", help="The id or its first six or more characters.")],
    reason: Why,
    is_sent: Annotated[
        bool, typer.Option("--sent/--not-sent", help="Whether the message stands in the conversation at Zalo.")
    ],
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Say what became of an uncertain reply, after you looked into the conversation in Zalo's own tool.

    --sent ends it as sent. --not-sent ends it as failed: nothing is sent by that; `hub replies requeue ID --yes` sends
    it again, and if you were wrong, the citizen has it twice. Look closely. Later replies of the citizen go on.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _settle(terminal, reply_id, is_sent=is_sent, reason=reason, by=by))


async def _settle(terminal: Terminal, reply_id: str, *, is_sent: bool, reason: str, by: str) -> None:
    _require_reason(reason)
    async with opened_store(load_settings()) as store:
        reply = await _find(store, reply_id)
        decisions = ReplyDecisions(store, by=by or getpass.getuser())
        if not await decisions.settle(reply["_id"], is_sent=is_sent, reason=reason, now=await store.server_now()):
            raise CommandError(
                "reply_not_uncertain",
                f"Reply {reply['_id'][:12]} is {reply['state']}: only an uncertain one can be settled.",
                "If it was uncertain a moment ago, its echo has come. `hub replies list` shows the uncertain ones.",
                exit_code=ExitCode.REFUSED,
            )
        settled = await _find(store, reply["_id"])
    if terminal.as_json:
        terminal.document(settled)
    else:
        terminal.say(f"[green]✓[/green] {reply['_id'][:12]} is {settled['state']}")


def requeue(
    reply_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id or its first six or more characters.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All failed ones that match.")] = False,
    code: Annotated[
        list[str] | None, typer.Option("--code", help="With --all: only this reason code; repeatable.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0, help="With --all: only what was asked for in the last hours.")] = 48,
    reason: Why = "",
    by: By = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try finally failed replies again, for instance after a page was linked anew. Without --yes nothing happens.

    A failed reply is one that Zalo provably does not have, so nothing is sent twice. At the moment of sending every
    rule is asked again: whose window is closed fails again with that reason. Old answers may confuse: see --hours.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _requeue(terminal, reply_id, everything, code or [], hours, reason, by, yes=yes))


async def _requeue(
    terminal: Terminal,
    reply_id: str | None,
    everything: bool,
    codes: list[str],
    hours: float,
    reason: str,
    by: str,
    *,
    yes: bool,
) -> None:
    if everything == (reply_id is not None) or (codes and not everything):
        raise CommandError(
            "requeue_what",
            "Say which replies: one ID, or --all (with --code and --hours).",
            "`hub replies list --state failed` shows them.",
            exit_code=ExitCode.USAGE,
        )
    if yes:
        _require_reason(reason)
    async with opened_store(load_settings()) as store:
        now = await store.server_now()
        ids = [] if reply_id is None else [(await _find(store, reply_id))["_id"]]
        since = now - timedelta(hours=hours) if everything else datetime(1970, 1, 1, tzinfo=UTC)
        decisions = ReplyDecisions(store, by=by or getpass.getuser())
        found, counts = await decisions.failed(since=since, reasons=codes, ids=ids)
        if ids and not found:
            raise CommandError(
                "reply_not_failed",
                f"Reply {ids[0][:12]} is not failed, or there is nothing of it to send.",
                "Only finally failed replies of a page of ours, whose text was not erased, can be tried again.",
                exit_code=ExitCode.REFUSED,
            )
        if yes:
            await decisions.requeue(found, reason=reason, now=now)
    if terminal.as_json:
        terminal.document({"reasons": counts, "requeued": found if yes else [], "would_requeue": [] if yes else found})
        return
    if counts:
        terminal.table(("reason", "replies"), [(escape(code), count) for code, count in counts.items()])
    mark = "[green]✓[/green] queued again" if yes else "[yellow]nothing was done[/yellow] (--yes does it)"
    terminal.say(f"{mark}: {len(found)}")


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise CommandError(
            "reason_missing",
            "A decision needs a reason.",
            'Say why with --reason "…"; it is kept on the reply.',
            exit_code=ExitCode.USAGE,
        )


async def _find(store: Store, reply_id: str) -> Document:
    if not ID_PATTERN.fullmatch(reply_id):
        raise CommandError(
            "id_malformed",
            f"{reply_id!r} is no id of a reply.",
            "Ids have 32 characters 0-9 a-f; the first six are enough. `hub replies list` shows them.",
            exit_code=ExitCode.USAGE,
        )
    beginning = {"_id": {"$gte": reply_id, "$lte": reply_id.ljust(32, "f")}}
    with store_errors():
        found = await store["reply_ledger"].find(beginning, {"content": 0, "text_sha256": 0}).limit(2).to_list(2)
    if len(found) != 1:
        raise CommandError(
            "reply_not_found" if not found else "id_ambiguous",
            f"{'No' if not found else 'More than one'} reply begins with {reply_id}.",
            "`hub replies list` shows those that need a look.",
            exit_code=ExitCode.NOT_FOUND,
        )
    return found[0]
