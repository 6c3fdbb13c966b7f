"""How `hub` speaks: tables and colours for people, JSON for machines, errors that say what to do."""

import asyncio
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.errors import CommandError, ExitCode, as_command_error
from shared.errors import HubError

T = TypeVar("T")
LOCAL = timezone(timedelta(hours=7))
"""Vietnam's clock, which knows no summer time. People read it; machines get UTC."""

QUIET_SECONDS = 2.0
"""A step that is done sooner says nothing."""

PIPE_WIDTH = 200
"""Columns where there is no terminal to ask: a log line is better long than broken."""


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        highlight=False,
        soft_wrap=not stream.isatty(),
        width=None if stream.isatty() else PIPE_WIDTH,
    )


class Terminal:
    """One command's mouth.

    Args:
        as_json: print one JSON document on standard output and nothing else.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def say(self, line: str = "") -> None:
        """Print one line for a person; rich markup is understood, so texts from outside must be escaped."""
        if not self.as_json:
            self.out.print(line)

    def document(self, content: Any) -> None:
        """Print one JSON document."""
        sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2, default=_plain) + "\n")

    def line(self, content: Any) -> None:
        """Print one JSON document on one line, at once: for those who follow."""
        sys.stdout.write(json.dumps(content, ensure_ascii=False, default=_plain) + "\n")
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
        """Print rows; numbers to the right, texts escaped."""
        if self.as_json:
            return
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for index, column in enumerate(columns):
            is_number = all(isinstance(row[index], int | float) for row in rows) and bool(rows)
            table.add_column(column, justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape("-" if cell is None else str(cell)) for cell in row))
        self.out.print(table)

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Show a sign of life on standard error while something takes longer than two seconds."""
        if self.err.is_terminal:
            with self.err.status(f"{escape(doing)} …"):
                yield
            return
        over = threading.Event()

        def sign_of_life() -> None:
            started = time.monotonic()
            wait_seconds = QUIET_SECONDS
            while not over.wait(wait_seconds):
                self.err.print(f"… {escape(doing)} ({time.monotonic() - started:.0f} s)")
                wait_seconds = 10.0

        watcher = threading.Thread(target=sign_of_life, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def fail(self, error: CommandError) -> None:
        """Print an error: for a person on standard error, for a machine as JSON on standard output."""
        if self.as_json:
            self.document({"error": {"code": error.code, "message": error.message, "advice": error.advice}})
            return
        self.err.print(f"[red]✗ {escape(error.message)}[/red] [dim]\\[{error.code}][/dim]")
        self.err.print(f"  {escape(error.advice)}")


def run(terminal: Terminal, work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work and turn what goes wrong into a message and an exit code."""
    for library in ("aiokafka", "faststream", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # our own message says it once and better
    try:
        return asyncio.run(work)
    except CommandError as error:
        terminal.fail(error)
        raise typer.Exit(error.exit_code) from error
    except HubError as error:
        translated = as_command_error(error)
        terminal.fail(translated)
        raise typer.Exit(translated.exit_code) from error
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        if os.environ.get("HUB_DEBUG"):
            traceback.print_exc()
        terminal.fail(
            CommandError(
                "unexpected",
                f"{type(error).__name__}: {error}",
                "This is a fault of the program. HUB_DEBUG=1 shows where; please report it.",
            )
        )
        raise typer.Exit(ExitCode.UNEXPECTED) from error


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def when(moment: datetime | None) -> str:
    """A moment as people here read it."""
    return "-" if moment is None else moment.astimezone(LOCAL).strftime("%d/%m %H:%M:%S")


def seconds_as_text(seconds: float) -> str:
    """A duration in its largest sensible unit."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
