"""`hub understand`: lines in, lines out, and what is no message is told without costing the others."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli.app import app
from services.router.adapters.model_files import current_model
from shared.settings import HubSettings


def understand(tmp_path: Path, *lines: Any) -> tuple[int, list[dict[str, Any]], str]:
    file = tmp_path / "messages.jsonl"
    file.write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
    result = CliRunner().invoke(app, ["understand", str(file)])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def test_each_message_gets_one_line_with_every_field(tmp_path: Path) -> None:
    full = {"page": None, "location": {"lat": 10.8552, "lon": 106.6927}, "home_ward": "thoi-an", "sent_at": None}
    code, answers, _ = understand(tmp_path, {"id": "a", "text": "làm căn cước cần giấy tờ gì", **full})

    assert code == 0
    assert set(answers[0]) == {
        "id", "category", "subtopic", "urgency", "ward", "confidence", "needs_person", "reasons",
    }  # fmt: skip
    assert (answers[0]["category"], answers[0]["ward"]) == ("procedure", "an-phu-dong")


def test_a_bad_line_is_told_with_number_and_code_and_the_others_are_answered(tmp_path: Path) -> None:
    hello = {"id": 1, "text": "xin chào"}
    code, answers, told = understand(tmp_path, hello, b"no json", b'{"id": 2, "text": "\xff"}', {"id": 3}, hello)

    assert code == 1
    assert [answer["category"] for answer in answers] == ["greeting", "greeting"]
    assert [line.split(":")[0] for line in told.splitlines()] == ["line 2", "line 3", "line 4"]
    assert told.count("[line.invalid]") == 3


def test_without_a_day_the_directory_before_the_merger_counts(tmp_path: Path) -> None:
    line = {"id": 1, "text": "tụi nó đánh bài ăn tiền ở phường Hiệp Thành"}
    _, answers, _ = understand(tmp_path, line, line | {"sent_at": "2025-06-30T12:00:00+07:00"})

    assert [answer["ward"] for answer in answers] == ["hiep-thanh", "hiep-thanh"]


def test_a_model_that_does_not_exist_is_named() -> None:
    result = CliRunner().invoke(app, ["model", "promote", "000000000000"])

    assert result.exit_code == 3
    assert "model_unknown" in result.stderr
    assert current_model(HubSettings().data_dir) in result.stderr


def test_the_worst_errors_are_told_by_id_and_with_their_texts_only_when_asked(tmp_path: Path) -> None:
    message = {"id": "x-1", "text": "xin chào", "expected": {"category": "complaint"}}
    (tmp_path / "some.jsonl").write_text(json.dumps(message), "utf-8")
    command = ["model", "evaluate", "--held-out", str(tmp_path)]

    plain, asked = (CliRunner().invoke(app, [*command, *more]).stdout for more in ([], ["--texts"]))

    assert "x-1: complaint -> greeting" in plain
    assert "xin chào" not in plain
    assert "'xin chào'" in asked
