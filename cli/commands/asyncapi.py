"""`hub asyncapi`: the services' contracts, printed and guarded."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.contract_changes import Change, compare
from cli.errors import CommandError, ExitCode
from cli.settings import ROOT
from cli.terminal import Terminal, run
from shared.asyncapi import asyncapi_document
from shared.topics import ALL_TOPICS

DOCUMENTS = ROOT / "docs" / "asyncapi"


def services() -> list[str]:
    """Everybody who publishes or reads a topic."""
    return sorted({topic.owner for topic in ALL_TOPICS} | {reader for topic in ALL_TOPICS for reader in topic.readers})


def asyncapi(
    what: Annotated[
        str, typer.Argument(metavar="SERVICE|check", help="A service whose document to print, or `check`.")
    ],
    write: Annotated[
        bool, typer.Option("--write", help="With check: update the committed documents if nothing breaks.")
    ] = False,
    accept_breaking: Annotated[
        bool, typer.Option("--accept-breaking", help="With --write: write even what breaks; for a new topic version.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With check: print one JSON document for machines.")] = False,
) -> None:
    """Print a service's AsyncAPI document, or check all against the committed ones.

    The check fails when a committed document is out of date, and names every change that readers or writers of the
    version before cannot live with.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _asyncapi(terminal, what, write=write, accept_breaking=accept_breaking))


async def _asyncapi(terminal: Terminal, what: str, *, write: bool, accept_breaking: bool) -> None:
    if what == "check":
        _check(terminal, DOCUMENTS, write=write, accept_breaking=accept_breaking)
    elif what in services():
        terminal.document(asyncapi_document(what))
    else:
        raise CommandError(
            "service_unknown",
            f"There is no service {what!r}.",
            f"Use check or one of {', '.join(services())}.",
            exit_code=ExitCode.NOT_FOUND,
        )


def _check(terminal: Terminal, folder: Path, *, write: bool, accept_breaking: bool) -> None:
    changes: dict[str, list[Change]] = {}
    outdated = []
    for service in services():
        file = folder / f"{service}.json"
        generated = asyncapi_document(service)
        committed = _committed(file)
        changes[service] = compare(committed, generated) if committed is not None else []
        if committed != generated:
            outdated.append(service)
    breaking = sum(change.is_breaking for found in changes.values() for change in found)
    if write and (not breaking or accept_breaking):
        folder.mkdir(parents=True, exist_ok=True)
        for service in outdated:
            text = json.dumps(asyncapi_document(service), ensure_ascii=False, indent=2)
            (folder / f"{service}.json").write_text(text + "\n", encoding="utf-8")
    written = write and (not breaking or accept_breaking)
    if terminal.as_json:
        terminal.document(
            {
                "outdated": [] if written else outdated,
                "written": outdated if written else [],
                "changes": {service: [vars(change) for change in found] for service, found in changes.items()},
            }
        )
    else:
        _report(terminal, changes, outdated, breaking, written=written)
    if outdated and not written:
        raise typer.Exit(ExitCode.NOT_WELL)


def _report(
    terminal: Terminal, changes: dict[str, list[Change]], outdated: list[str], breaking: int, *, written: bool
) -> None:
    for service, found in changes.items():
        for change in found:
            mark = "[red]breaking[/red]" if change.is_breaking else "[green]compatible[/green]"
            terminal.say(f"{service}: {mark} {escape(change.where)}: {escape(change.what)}")
    if not outdated:
        terminal.say(f"[green]✓[/green] {len(changes)} documents agree with the code")
    elif written:
        terminal.say(f"[green]✓[/green] written: {', '.join(outdated)}")
    elif breaking:
        terminal.say(
            f"[red]✗ {breaking} breaking changes.[/red] A topic keeps its shape: make a new version of it "
            "(name.v2) beside the old one, or undo the change."
        )
    else:
        terminal.say(
            f"[red]✗ out of date: {', '.join(outdated)}.[/red] `hub asyncapi check --write` updates docs/asyncapi/."
        )


def _committed(file: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return document
