"""`hub replies list`: the send ledger, for the replies that need a look."""

from typing import Annotated

import typer

from cli.errors import CommandError, ExitCode
from cli.hub import opened_store
from cli.settings import load_settings
from cli.terminal import Terminal, run, when
from shared.mongo import Document, store_errors

STATES = ("queued", "sending", "sent", "uncertain", "failed")


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
