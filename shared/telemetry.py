"""Logs and metrics. One wide line for each event; never a text, a name, a phone number or a token."""

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from shared.errors import HubError

EVENTS_HANDLED = Counter("hub_events_handled", "Events handled, by outcome", ["service", "topic", "outcome"])
HANDLING_SECONDS = Histogram("hub_batch_seconds", "Time to handle one batch, seconds", ["service", "topic"])
DEAD_LETTERS = Counter("hub_dead_letters", "Events parked as dead letters", ["service", "reason"])
CONSUMER_LAG = Gauge("hub_consumer_lag", "Events a replica has not handled yet", ["service", "topic", "group"])
LOOP_LAG_SECONDS = Gauge("hub_event_loop_lag_seconds", "How late the event loop wakes, seconds", ["service"])

MAX_FRAMES = 12
MAX_EXCEPTIONS = 5
MIN_SECONDS_BETWEEN_REPEATS = 10.0

_FORBIDDEN_FIELDS = frozenset(
    {"text", "original_text", "phone", "name", "access_token", "refresh_token", "body", "raw", "secret", "address"}
)


def _without_personal_data(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in _FORBIDDEN_FIELDS & event.keys():
        event[key] = "[withheld]"
    return event


def _exceptions_without_content(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say what failed and where. Texts of exceptions are left out but for our own: they like to quote what they got."""
    exc_info = event.pop("exc_info", None)
    if exc_info:
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        if isinstance(exc_info, tuple):
            error = exc_info[1]
        if error is not None:
            event["exception"] = "\n".join(_in_words(error))
    return event


def _in_words(error: BaseException, *, level: int = 0) -> Iterator[str]:
    """The chain of an exception: kind and place of each, the innermost frames last."""
    words = f"{type(error).__name__}: {error}" if isinstance(error, HubError | OSError) else type(error).__name__
    yield f"{'  ' * level}{words}"
    for frame in traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]:
        yield f"{'  ' * level}  at {frame.filename}:{frame.lineno} in {frame.name}"
    inner = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for one in [*inner[:MAX_EXCEPTIONS], *([before] if before is not None else [])]:
        if level < MAX_EXCEPTIONS:
            yield from _in_words(one, level=level + 1)


class RepeatFilter(logging.Filter):
    """Lets each distinct message of a noisy library through once in `MIN_SECONDS_BETWEEN_REPEATS`."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is logged."""
        key = (record.name, str(record.msg)[:80])
        now = time.monotonic()
        if now - self._last.get(key, -MIN_SECONDS_BETWEEN_REPEATS) < MIN_SECONDS_BETWEEN_REPEATS:
            return False
        if len(self._last) > 1_000:
            self._last.clear()
        self._last[key] = now
        return True


def configure_logging(service: str, *, level: str, log_format: str) -> None:
    """Set up structured logs on standard output, for our code and for the libraries.

    Args:
        service: bound to every line.
        level: of our own lines; libraries log from WARNING.
        log_format: `json` for machines, `console` for people.
    """
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _without_personal_data,
        _exceptions_without_content,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *processors],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(RepeatFilter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in ("faststream", "faststream.access.kafka"):  # FastStream brings a handler with a format of its own
        library = logging.getLogger(name)
        library.handlers.clear()
        library.setLevel(logging.WARNING)
        library.propagate = True
    structlog.contextvars.bind_contextvars(service=service)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The logger of all our code: `log.info("reply.sent", case_code=..., ...)`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


class LoopLag:
    """Measures how late the event loop wakes; a loop that is blocked stops heartbeats and answers."""

    def __init__(self, service: str, *, every_seconds: float = 0.25) -> None:
        self._gauge = LOOP_LAG_SECONDS.labels(service)
        self._every_seconds = every_seconds
        self.seconds = 0.0
        self.beats = 0

    async def run(self) -> None:
        """Measure until cancelled."""
        self.beats += 1
        while True:
            before = time.monotonic()
            await asyncio.sleep(self._every_seconds)
            self.seconds = max(0.0, time.monotonic() - before - self._every_seconds)
            self._gauge.set(self.seconds)
            self.beats += 1
