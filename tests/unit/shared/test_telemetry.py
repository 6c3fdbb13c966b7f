import asyncio
import json
import logging
import time
from collections.abc import Iterator

import pytest
import structlog

from shared.errors import StoreUnavailable
from shared.telemetry import LoopLag, RepeatFilter, configure_logging, get_logger


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_log_line_is_one_json_object_with_its_service(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("router", level="INFO", log_format="json")

    get_logger().info("message.assigned", case_code="Q12-261124-0042", unit="tân-chánh-hiệp")

    line = json.loads(capsys.readouterr().out)
    assert line.pop("at")
    assert line == {
        "event": "message.assigned",
        "level": "info",
        "service": "router",
        "case_code": "Q12-261124-0042",
        "unit": "tân-chánh-hiệp",
    }


@pytest.mark.parametrize("field", ["text", "original_text", "phone", "name", "access_token", "refresh_token", "body"])
def test_personal_data_never_reaches_a_line(field: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("router", level="INFO", log_format="json")

    get_logger().info("something", **{field: "0909123456 secret-word"})
    get_logger().bind(**{field: "secret-word"}).warning("else")

    printed = capsys.readouterr().out
    assert "secret-word" not in printed
    assert printed.count("[withheld]") == 2


def test_an_exception_is_told_by_kind_and_place_and_not_by_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("router", level="INFO", log_format="json")

    def fails_on(text: str) -> None:
        try:
            int(text)
        except ValueError as error:
            raise ExceptionGroup(text, [KeyError(text), StoreUnavailable("code 91")]) from error

    try:
        fails_on("Chị Lan 0909123456")
    except ExceptionGroup as error:
        get_logger().exception("event.parked")
        get_logger().error("again", exc_info=error)
        logging.getLogger("a.library").exception("in a library")

    printed = capsys.readouterr().out
    assert "Lan" not in printed
    lines = [json.loads(line)["exception"] for line in printed.splitlines()]
    assert len(lines) == 3
    for told in lines:
        for words in ("ExceptionGroup", "KeyError", "ValueError", "StoreUnavailable: code 91", "in fails_on"):
            assert words in told


def test_lines_below_the_level_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("router", level="WARNING", log_format="json")

    get_logger().info("quiet")
    get_logger().warning("loud")

    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["loud"]


def test_a_librarys_line_has_the_same_shape_and_repeats_are_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("router", level="INFO", log_format="json")
    logging.getLogger("aiokafka").setLevel(logging.NOTSET)  # the command line, tested in this process too, quiets it

    for number in range(5):
        logging.getLogger("aiokafka").warning("Unable to connect to node %s", number)
    logging.getLogger("aiokafka").warning("Something else")
    logging.getLogger("aiokafka").info("chatter")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["service"]) for line in lines] == [
        ("Unable to connect to node 0", "router"),
        ("Something else", "router"),
    ]


def test_the_memory_of_the_repeat_filter_is_bounded() -> None:
    repeat_filter = RepeatFilter()
    for number in range(5_000):
        repeat_filter.filter(logging.LogRecord("a", logging.WARNING, "", 0, f"line {number}", None, None))

    assert len(repeat_filter._last) <= 1_001


async def test_a_blocked_loop_shows_as_lag() -> None:
    lag = LoopLag("test", every_seconds=0.01)
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - blocking is what is measured
    seen = []
    for _ in range(50):  # the measuring task wakes now, late
        await asyncio.sleep(0)
        seen.append(lag.seconds)
    measuring.cancel()

    assert max(seen) > 0.1
