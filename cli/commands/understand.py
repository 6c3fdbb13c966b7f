"""`hub understand`: what the router makes of messages in a file."""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CommandError, ExitCode
from cli.settings import load_settings
from cli.terminal import Terminal, run
from services.router.offline import BATCH, Line, LineInvalid, OfflineRouter, as_line, parse
from shared.garbage import collect_less_garbage


def understand(
    file: Annotated[
        Path,
        typer.Argument(help="Lines of JSON: id, text, page, location, home_ward, sent_at. - reads standard input."),
    ],
    model: Annotated[str | None, typer.Option("--model", help="Name of a model; the one in use if not given.")] = None,
) -> None:
    """Read messages as the router does and print one line of JSON each; needs no broker and no database.

    Without sent_at the directory before 1 July 2025 counts. A line that is no message is told on standard error with
    its number and a code; the others are answered all the same, and the command ends with 1.
    """
    terminal = Terminal()
    run(terminal, _understand(file, model, terminal))


async def _understand(file: Path, model: str | None, terminal: Terminal) -> None:
    router = OfflineRouter(load_settings().data_dir, model)
    try:
        lines = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise _unreadable(file, error) from error
    collect_less_garbage()
    bad = 0
    with lines:
        numbered = ((number, raw) for number, raw in enumerate(lines, 1) if raw.strip())
        while batch := list(islice(numbered, BATCH)):
            read: list[Line] = []
            for number, raw in batch:
                try:
                    read.append(parse(raw))
                except LineInvalid as error:
                    bad += 1
                    terminal.err.print(f"line {number}: {error} [{error.code}]", markup=False)
            for line, understood in zip(read, router.understand_all(read), strict=True):
                sys.stdout.write(json.dumps(as_line(line, understood), ensure_ascii=False) + "\n")
    if bad:
        raise typer.Exit(ExitCode.NOT_WELL)


def _unreadable(file: Path, error: OSError) -> CommandError:
    return CommandError(
        "file_unreadable",
        f"{file}: {error.strerror}.",
        "Name a file of JSON lines.",
        exit_code=ExitCode.NOT_FOUND,
    )
