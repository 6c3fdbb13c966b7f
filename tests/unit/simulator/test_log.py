"""The log: bounded in memory, whole on disk, exact in its filters."""

from __future__ import annotations

from pathlib import Path

import orjson

from simulator.log import Log


def a_log(folder: Path, *, keep: int = 1000, file_max_bytes: int = 10_000_000) -> Log:
    return Log(folder / "log.jsonl", keep=keep, file_max_bytes=file_max_bytes)


def seqs(lines: list[bytes]) -> list[int]:
    return [orjson.loads(line)["seq"] for line in lines]


def test_memory_is_bounded_and_numbers_go_on(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    for number in range(5000):
        log.add(kind="api", text=str(number))
    assert log.last_seq == 5000
    assert 1000 <= log.last_seq - log.first_seq + 1 <= 1100
    lines, following = log.read(after=4990)
    assert seqs(lines) == list(range(4991, 5001))
    assert following == 5000
    lines, _ = log.read(after=0, limit=1)
    assert seqs(lines) == [log.first_seq]


def test_a_filter_is_not_fooled_by_what_people_write(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.add(kind="webhook", user_id="1", text='"user_id":"2"', msg_id="a")
    log.add(kind="webhook", user_id="2", text="", msg_id="b")
    log.add(kind="api", user_id="2", message_id="b")
    assert seqs(log.read(user_id="2")[0]) == [2, 3]
    assert seqs(log.read(user_id="2", kind="webhook")[0]) == [2]
    assert seqs(log.read(any_id="b")[0]) == [2, 3]
    assert seqs(log.read(user_id="22")[0]) == []


async def test_the_file_holds_everything_in_order_and_is_set_aside_when_it_grows(tmp_path: Path) -> None:
    log = a_log(tmp_path, file_max_bytes=20_000)
    log.open()
    for number in range(300):
        log.add(kind="api", text="x" * 50, number=number)
        if number == 250:
            log.flush()
    await log.close()
    older = (tmp_path / "log.jsonl.1").read_bytes().splitlines()
    newer = (tmp_path / "log.jsonl").read_bytes().splitlines()
    assert seqs(older + newer) == list(range(1, 301))
