"""What the person at the prompt sees: one line per step, a sign of life on anything that takes over two seconds."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from stack.errors import StackError

QUIET_SECONDS = 2.0
"""A step that is done sooner prints nothing but its result."""


class Terminal:
    """Prints steps and errors; in a pipe or a CI log it prints plain lines and never redraws."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=False, quiet=quiet, highlight=False, soft_wrap=True)
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line; rich markup is understood."""
        self.console.print(text)

    @contextmanager
    def step(self, doing: str, done: str | None = None) -> Iterator[None]:
        """Show that something is going on; with `done` a closing line with the seconds it took.

        Args:
            doing: what is going on, without a full stop ("starting Kafka").
            done: what is true afterwards ("Kafka answers"); without it a quick step stays silent.
        """
        started = time.monotonic()
        over = threading.Event()

        def sign_of_life() -> None:
            if not over.wait(QUIET_SECONDS):
                self.say(f"  [dim]… {escape(doing)}[/dim]")

        watcher = None
        if self.console.is_terminal:
            status = self.console.status(f"{escape(doing)} …")
            status.start()
        else:
            status = None
            watcher = threading.Thread(target=sign_of_life, daemon=True)
            watcher.start()
        try:
            yield
        finally:
            over.set()
            if status is not None:
                status.stop()
            if watcher is not None:
                watcher.join()
        if done is not None:
            self.say(f"  [green]✓[/green] {escape(done)} [dim]({time.monotonic() - started:.1f} s)[/dim]")

    def fail(self, error: StackError) -> None:
        """Print an error so that its reader knows what happened and what to do."""
        self._errors.print(f"[red]✗ {escape(error.message)}[/red] [dim]\\[{error.code}][/dim]")
        if error.log_tail:
            self._errors.print(f"[dim]{escape(error.log_tail.rstrip())}[/dim]")
        self._errors.print(f"  {escape(error.advice)}")


def is_interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()
