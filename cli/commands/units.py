"""`hub units`: a change of units as a dated file: look at it, apply it, take it back."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cli.errors import CommandError, ExitCode
from cli.hub import opened_store
from cli.settings import CliSettings, load_settings
from cli.terminal import LOCAL, Terminal, run, when
from cli.unit_moves import move, move_back
from shared.directory import load_change, load_changes, load_directory, with_change
from shared.mongo import Document, Store, store_errors

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
PlanFile = Annotated[Path, typer.Argument(help="The change, such as data/directory/plans/merger-2025.yaml.")]
RESTART = (
    "Restart router, notifier and console, so that they read the directory again; then apply once more for what came "
    "meanwhile."
)


def plan(file: PlanFile, as_json: AsJson = False) -> None:
    """Show what a change would move: cases, deadlines, accounts and followers. Nothing is written."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _plan(terminal, file))


def apply(file: PlanFile, as_json: AsJson = False) -> None:
    """Put a change into the directory; from its day on also move cases and accounts. Repeating it is safe."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _apply(terminal, file))


def undo(
    name: Annotated[str, typer.Argument(help="Name of the change that was applied last.")], as_json: AsJson = False
) -> None:
    """Give cases and accounts back and take the change out of the directory. Safe to repeat."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _undo(terminal, name))


async def _plan(terminal: Terminal, file: Path) -> None:
    settings = load_settings()
    change = load_change(file)
    if not _applied(settings, change.name).exists():
        with_change(load_directory(settings.data_dir), change)
    async with opened_store(settings) as store:
        rows = [await _row(store, old, new) for old, new in sorted(change.closes.items())]
        pages = sorted(set(change.pages) | set(change.closes))
        with store_errors():
            followers = await store["contacts"].count_documents({"page": {"$in": pages}, "is_follower": True})
    if terminal.as_json:
        terminal.document({"change": change.name, "day": str(change.day), "moves": rows, "followers": followers})
        return
    terminal.say(f"[bold]{change.name}[/bold], from {change.day:%d/%m/%Y}; nothing was written")
    heads = ("from", "to", "cases", "open", "with deadline", "first deadline", "accounts")
    terminal.table(heads, [(*list(row.values())[:5], when(row["first_due_at"]), row["accounts"]) for row in rows])
    terminal.say(f"{followers} followers are on pages that change hands")


async def _row(store: Store, old: str, new: str) -> Document:
    waiting = {"unit": old, "is_open": True, "due_at": {"$ne": None}}
    with store_errors():
        first = await store["cases"].find(waiting, {"due_at": 1}).sort([("due_at", 1)]).limit(1).to_list(1)
        return {
            "from": old,
            "to": new,
            "cases": await store["cases"].count_documents({"unit": old}),
            "open": await store["cases"].count_documents({"unit": old, "is_open": True}),
            "deadlines": await store["cases"].count_documents(waiting),
            "first_due_at": first[0]["due_at"] if first else None,
            "accounts": await store["accounts"].count_documents({"unit": old}),
        }


async def _apply(terminal: Terminal, file: Path) -> None:
    settings = load_settings()
    change = load_change(file)
    target = _applied(settings, change.name)
    if target.exists() and load_change(target) != change:
        raise CommandError(
            "change_differs",
            f"Another change named {change.name} is applied.",
            f"`hub units undo {change.name}` first, or give the new one another name.",
            exit_code=ExitCode.REFUSED,
        )
    if not target.exists():
        with_change(load_directory(settings.data_dir), change)  # refuses what would leave somebody without a unit
        with _writable(settings):
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_suffix(".part")
            shutil.copyfile(file, half)
            half.replace(target)
    is_due = change.day <= datetime.now(LOCAL).date()
    moved = 0
    if is_due:
        async with opened_store(settings) as store:
            with store_errors(), Progress(console=terminal.err, transient=True) as bar:
                task = bar.add_task("moving", total=None)
                moved = await move(store, change.name, change.closes, lambda n: bar.advance(task, n))
    if terminal.as_json:
        terminal.document({"change": change.name, "moved": moved, "is_due": is_due})
        return
    terminal.say(f"[green]✓[/green] {change.name} is in the directory; {moved} cases and accounts moved")
    terminal.say(
        RESTART if is_due else f"Cases move when you apply it again on {change.day:%d/%m/%Y} or later. {RESTART}"
    )


async def _undo(terminal: Terminal, name: str) -> None:
    settings = load_settings()
    target = _applied(settings, name)
    applied = load_changes(settings.data_dir)
    if not target.exists() or not applied or applied[-1].name != name:
        raise CommandError(
            "change_not_last",
            f"{name} is not the change that was applied last.",
            f"Undo the later ones first. Applied: {', '.join(c.name for c in applied) or 'none'}.",
            exit_code=ExitCode.REFUSED,
        )
    change = applied[-1]
    before = load_directory(settings.data_dir, changes=applied[:-1]).as_of(datetime.now(LOCAL).date())
    async with opened_store(settings) as store:
        with store_errors(), Progress(console=terminal.err, transient=True) as bar:
            task = bar.add_task("moving back", total=None)
            opened = {unit.slug for unit in change.opens}
            moved = await move_back(store, name, before, opened, lambda n: bar.advance(task, n))
    with _writable(settings):
        target.unlink()
    if terminal.as_json:
        terminal.document({"change": name, "moved": moved})
        return
    terminal.say(f"[green]✓[/green] {name} is out of the directory; {moved} cases and accounts went back")
    terminal.say("Restart router, notifier and console, so that they read the directory again.")


@contextmanager
def _writable(settings: CliSettings) -> Iterator[None]:
    """A directory inside an image cannot be changed from here: say how it is done there."""
    try:
        yield
    except OSError as error:
        raise CommandError(
            "directory_read_only",
            f"{settings.data_dir / 'directory' / 'changes'} cannot be written: {error.strerror}.",
            "Put the change there in the release, or take it out, roll the services out, then repeat this command.",
            exit_code=ExitCode.CONFIGURATION,
        ) from error


def _applied(settings: CliSettings, name: str) -> Path:
    return settings.data_dir / "directory" / "changes" / f"{name}.yaml"
