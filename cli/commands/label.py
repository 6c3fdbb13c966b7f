"""`hub label`: officers' corrections, reviewed one by one into labelled messages."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.hub import opened_store
from cli.settings import load_settings
from cli.terminal import Terminal, run, when
from services.router.learning.corrections import CorrectionUnusable, Proposal, append, proposal
from shared.mongo import Document, Store, store_errors


def list_(
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """List corrections that nobody has reviewed yet, with what would be learnt from each."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _list(terminal, limit))


async def _list(terminal: Terminal, limit: int) -> None:
    async with opened_store(load_settings()) as store:
        with store_errors():
            found = store["labels"].find({"review": {"$exists": False}}).sort([("labelled_at", 1)])
            labels = await found.limit(limit).to_list(limit)
        rows = [(label, await _proposed(store, label)) for label in labels]
    if terminal.as_json:
        terminal.document(
            [
                {
                    "id": label["_id"],
                    "case_code": label["case_code"],
                    "officer": label["officer"],
                    "learns": _told(found),
                }
                for label, found in rows
            ]
        )
        return
    terminal.table(
        ("correction", "when", "case", "officer", "learns"),
        [(x["_id"], when(x["labelled_at"]), x["case_code"], x["officer"], _told(found)) for x, found in rows],
    )
    terminal.say(f"{len(rows)} to review")


def accept(
    correction: Annotated[str, typer.Argument(help="Id of the correction, from `hub label list`.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder of officers.yaml; by default data/understanding/messages.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be added.")] = False,
) -> None:
    """Add what was corrected to the written messages. Read it first: numbers are replaced, names are not."""
    terminal = Terminal()
    run(terminal, _accept(terminal, correction, to, is_dry=dry_run))


async def _accept(terminal: Terminal, correction: str, to: Path | None, *, is_dry: bool) -> None:
    settings = load_settings()
    async with opened_store(settings) as store:
        label = await _pending(store, correction)
        found = await _proposed(store, label)
        if isinstance(found, CorrectionUnusable):
            raise CommandError(
                "label_unusable", f"{correction}: {found}.", f"`hub label reject {correction}` puts it away."
            )
        terminal.say(escape(_told(found)))
        if found.replaced:
            terminal.err.print(f"! replaced: {', '.join(found.replaced)}; look for names yourself", markup=False)
        if is_dry:
            return
        file = append(to or settings.data_dir / "understanding" / "messages", found)
        await _reviewed(store, correction, "accepted")
    terminal.say(f"added to {escape(str(file))}; `hub model train` learns it")


def reject(correction: Annotated[str, typer.Argument(help="Id of the correction, from `hub label list`.")]) -> None:
    """Put a correction away: nothing is learnt from it."""
    terminal = Terminal()
    run(terminal, _reject(terminal, correction))


async def _reject(terminal: Terminal, correction: str) -> None:
    async with opened_store(load_settings()) as store:
        await _pending(store, correction)
        await _reviewed(store, correction, "rejected")
    terminal.say("rejected")


async def _pending(store: Store, correction: str) -> Document:
    with store_errors():
        label = await store["labels"].find_one({"_id": correction})
    if label is None or "review" in label:
        raise CommandError(
            "label_not_pending",
            f"No correction {correction} waits for a review.",
            "`hub label list` shows those that do.",
            exit_code=ExitCode.NOT_FOUND,
        )
    return label


async def _proposed(store: Store, label: Document) -> Proposal | CorrectionUnusable:
    asked = {"case_code": label["case_code"], "sent_at": {"$lte": label["labelled_at"]}}
    with store_errors():
        messages = await store["messages"].find(asked).sort([("sent_at", 1)]).limit(10).to_list(10)
    try:
        return proposal(label, [message.get("text") or "" for message in messages])
    except CorrectionUnusable as error:
        return error


async def _reviewed(store: Store, correction: str, verdict: str) -> None:
    with store_errors():
        review = {"verdict": verdict, "at": datetime.now(UTC)}
        await store["labels"].update_one({"_id": correction}, {"$set": {"review": review}})


def _told(found: Proposal | CorrectionUnusable) -> str:
    if isinstance(found, CorrectionUnusable):
        return f"unusable: {found}"
    return f"{found.category} {found.subtopic or ''} {found.urgency}: {found.text}".replace("  ", " ")
