"""The watchdog: ends a process that stands still, so that its supervisor starts it afresh.

Compose and supervisord restart a process that has ended, never one that is only unhealthy. A thread of the service's
own process therefore watches the event loop and the consumers, and leaves at once, without clean-up, when one of them
had work and made no progress for too long. That is as safe as any kill: offsets are committed after the effects.

It counts the time in which the process itself ran, so a machine that slept or a container that was paused is not
taken for a process that hangs. A standstill that holds Python's global lock (a regular expression that backtracks
without end) stops this thread too; for that `faulthandler` keeps a timer outside of Python, at twice the bound.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from shared.telemetry import get_logger

log = get_logger()

LOOP_STANDS_STILL = 86
CONSUMER_STANDS_STILL = 87
"""Exit codes. A process stopped by faulthandler's timer ends with 1, after the stack of every thread."""

TICK_SECONDS = 0.5
LAST_WORDS_SECONDS = 2.0
_DEBUGGERS = ("bdb", "pydevd", "debugpy")


@dataclass(frozen=True)
class Watched:
    """Something that must go on.

    Attributes:
        name: for the last line in the log.
        mark: None while there is nothing to do; otherwise a value that is another one after every step forward.
        bound_seconds: how long the mark may stay the same.
        exit_code: of a process in which it did.
    """

    name: str
    mark: Callable[[], Hashable | None]
    bound_seconds: float
    exit_code: int


class Watchdog:
    """Watches until it is told that the process is being stopped.

    Args:
        watched: what must go on.
        is_stopping: whether the process is being stopped in order; the supervisor waits for that, and ends it too.
        leave: ends the process; for tests.
    """

    def __init__(
        self, watched: Sequence[Watched], *, is_stopping: Callable[[], bool], leave: Callable[[int], None] = os._exit
    ) -> None:
        self._watched = [one for one in watched if one.bound_seconds > 0]
        self._longest_seconds = max((one.bound_seconds for one in self._watched), default=0.0)
        self._is_stopping = is_stopping
        self._leave = leave
        self._still: dict[str, tuple[Hashable, float]] = {}
        self._end = threading.Event()

    def start(self) -> None:
        """Begin to watch; does nothing where every bound is 0 or a debugger may hold the process."""
        if self._watched and sys.gettrace() is None and not _is_debugged():
            self._put_off_the_timer()
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._end.set()

    def _run(self) -> None:
        last = time.monotonic()
        while not (self._end.wait(TICK_SECONDS) or self._is_stopping() or _is_debugged()):
            self._put_off_the_timer()
            now = time.monotonic()
            if (stuck := self.look(min(now - last, 2 * TICK_SECONDS))) is not None:
                self._say(stuck)
                self._leave(stuck.exit_code)
            last = now
        faulthandler.cancel_dump_traceback_later()

    def _put_off_the_timer(self) -> None:
        """It goes off when this thread could not run for so long."""
        faulthandler.dump_traceback_later(2 * self._longest_seconds, exit=True)

    def look(self, seconds: float) -> Watched | None:
        """Look once.

        Args:
            seconds: that the process ran since the last look.

        Returns:
            What stands still, if anything does.
        """
        for one in self._watched:
            mark = one.mark()
            before, still_seconds = self._still.get(one.name, (None, 0.0))
            still_seconds = still_seconds + seconds if mark is not None and mark == before else 0.0
            self._still[one.name] = (mark, still_seconds)
            if still_seconds >= one.bound_seconds:
                return one
        return None

    def _say(self, stuck: Watched) -> None:
        """Name what stands still and where every thread is, in a thread of its own: the log itself may hang."""

        def say() -> None:
            log.critical("watchdog.exits", standing_still=stuck.name, seconds=stuck.bound_seconds, code=stuck.exit_code)
            faulthandler.dump_traceback(all_threads=True)

        words = threading.Thread(target=say, daemon=True)
        words.start()
        words.join(LAST_WORDS_SECONDS)


def _is_debugged() -> bool:
    return any(name in sys.modules for name in _DEBUGGERS)
