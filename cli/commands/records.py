"""`hub records list`: webhooks that led to no message, receipt or citizen's state, each with its reason."""

import re
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.hub import opened_store
from cli.settings import load_settings
from cli.terminal import Terminal, run, when
from shared.mongo import Document, store_errors

ID = re.compile(r"[A-Za-z0-9_.\-]{1,128}")


def list_(
    reason: Annotated[
        str | None, typer.Option(help="Only this reason code; `event.*` takes a whole family.", show_default=False)
    ] = None,
    citizen: Annotated[str | None, typer.Option(help="Only of this citizen, as OA:USER.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    body: Annotated[bool, typer.Option("--body", help="Also print what was received.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """List accepted webhooks that went no further, newest first, with the reason; without options also a count of each.

    The messages of a citizen that did become a case are found with `hub cases list --citizen OA:USER`.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _list(terminal, reason, citizen, limit=limit, with_body=body))


async def _list(terminal: Terminal, reason: str | None, citizen: str | None, *, limit: int, with_body: bool) -> None:
    query: Document = {}
    if citizen is not None:
        oa_id, _, user_id = citizen.partition(":")
        if not (ID.fullmatch(oa_id) and ID.fullmatch(user_id)):
            raise CommandError(
                "citizen_malformed",
                f"{citizen!r} is no citizen.",
                "Write OA:USER, such as 4000000000000000008:2000000000000000001; `hub case show` prints it.",
                exit_code=ExitCode.USAGE,
            )
        query |= {"oa_id": oa_id, "user_id": user_id}
    if reason is not None:
        family = reason.removesuffix("*")
        query["reason"] = {"$gte": family, "$lt": family + "\uffff"} if family != reason else reason
    counts: dict[str, int] = {}
    async with opened_store(load_settings()) as store:
        with store_errors():
            found = await store["webhook_records"].find(query).sort([("received_at", -1)]).limit(limit).to_list(limit)
            if not query:
                group: list[dict[str, Any]] = [{"$group": {"_id": "$reason", "count": {"$sum": 1}}}]
                counts = {row["_id"]: row["count"] for row in await store.aggregate("webhook_records", group)}
    if terminal.as_json:
        terminal.document({"counts": counts, "items": [_as_json(record) for record in found]})
        return
    if not found:
        terminal.say("no records")
        return
    if counts:
        often_first = sorted(counts, key=lambda reason: counts[reason], reverse=True)
        terminal.table(("reason", "webhooks"), [(reason, counts[reason]) for reason in often_first])
        terminal.say()
    terminal.table(
        ("received", "reason", "event", "page", "citizen", "bytes"),
        [
            (
                when(record["received_at"]),
                record["reason"],
                record.get("event_name"),
                record.get("oa_id"),
                record.get("user_id"),
                len(record["raw"]),
            )
            for record in found
        ],
    )
    if with_body:
        for record in found:
            terminal.say(
                f"[dim]{record['_id'][:12]}[/dim] {escape(bytes(record['raw']).decode('utf-8', 'backslashreplace'))}"
            )


def _as_json(record: Document) -> Document:
    raw = bytes(record["raw"]).decode("utf-8", "backslashreplace")
    return {"id": record["_id"], **{k: v for k, v in record.items() if k not in {"_id", "raw"}}, "body": raw}
