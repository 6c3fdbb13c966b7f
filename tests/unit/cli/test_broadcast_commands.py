"""What `hub broadcast` and `hub send` make of files, options, moments, answers and refusals."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from cli.api import read_document, refusal, token_for
from cli.app import app
from cli.commands.broadcast import _path, a_draft, a_moment, facts, settled
from cli.errors import CommandError, ExitCode
from cli.settings import CliSettings
from cli.terminal import LOCAL

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=LOCAL)
NOTHING: dict[str, Any] = {
    "title": None,
    "unit": None,
    "text": None,
    "to_unit": None,
    "ward": None,
    "topic": None,
    "language": None,
    "tag": None,
    "within_hours": None,
    "followers_only": False,
    "emergency": False,
    "pays": False,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-28 07:30", datetime(2026, 11, 28, 7, 30, tzinfo=LOCAL)),
        ("28/11/2026 07:30", datetime(2026, 11, 28, 7, 30, tzinfo=LOCAL)),
        ("13:05", datetime(2026, 11, 27, 13, 5, tzinfo=LOCAL)),
        ("07:30", datetime(2026, 11, 28, 7, 30, tzinfo=LOCAL)),
        ("2026-11-28T00:30:00+00:00", datetime(2026, 11, 28, 7, 30, tzinfo=LOCAL)),
        ("2026-11-28T07:30:00", datetime(2026, 11, 28, 7, 30, tzinfo=LOCAL)),
    ],
)
def test_moments_are_vietnams_time(text: str, expected: datetime) -> None:
    assert a_moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "tomorrow", "32/11/2026 07:30", "25:00"])
def test_what_is_no_moment_is_told_with_examples(text: str) -> None:
    with pytest.raises(CommandError) as refused:
        a_moment(text, NOW)

    assert refused.value.code == "moment_unreadable"
    assert "07:30" in refused.value.advice


def test_options_make_a_draft_and_win_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "draft.yaml"
    file.write_text(
        "title: Nhắc hạn\nunit: hiep-thanh\ncontent: {message: {text: cũ}}\n"
        "audience: {units: [hiep-thanh], followed_before: 2026-01-01T00:00:00+07:00}\n",
        "utf-8",
    )

    draft = a_draft(file, **{**NOTHING, "text": "mới", "tag": ["chủ trọ"], "pays": True})

    assert draft == {
        "title": "Nhắc hạn",
        "unit": "hiep-thanh",
        "content": {"message": {"text": "mới"}},
        # As it was written: YAML's own dates lose the zone.
        "audience": {"units": ["hiep-thanh"], "followed_before": "2026-01-01T00:00:00+07:00", "tags": ["chủ trọ"]},
        "pays": True,
    }


@pytest.mark.parametrize("name", ["abc", "4000000000000000002", "../tokens", "0123456789ag", ""])
def test_what_is_no_id_of_a_broadcast_is_told_before_anybody_is_asked(name: str) -> None:
    with pytest.raises(CommandError) as refused:
        _path(name)
    assert refused.value.code == "id_malformed"
    assert _path("0123456789ab", "pause") == "/v1/broadcasts/0123456789ab/pause"


def test_a_draft_without_content_is_refused_with_an_example() -> None:
    with pytest.raises(CommandError) as refused:
        a_draft(None, **{**NOTHING, "unit": "hiep-thanh"})

    assert (refused.value.code, refused.value.exit_code) == ("draft_incomplete", ExitCode.USAGE)


@pytest.mark.parametrize("text", ["[", "just words", "- a\n- b\n", ""])
def test_a_file_without_fields_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="file_unreadable"):
        read_document(Path("x.yaml"), text)


@pytest.mark.parametrize(
    ("status", "problem", "code", "exit_code"),
    [
        (401, {"code": "access.unknown_token", "message": "Nobody."}, "access.unknown_token", ExitCode.REFUSED),
        (404, {"code": "broadcast.not_found", "message": ""}, "broadcast.not_found", ExitCode.NOT_FOUND),
        (409, {"code": "broadcast.is_done", "message": "broadcast.is_done"}, "broadcast.is_done", ExitCode.REFUSED),
        (
            422,
            {"code": "request.invalid", "message": "unit: missing"},
            "request.invalid",
            ExitCode.USAGE,
        ),
        (503, {"code": "store.unavailable", "message": "…"}, "store.unavailable", ExitCode.UNREACHABLE),
        (502, None, "notifier_strange", ExitCode.UNREACHABLE),
        (200, None, "notifier_strange", ExitCode.UNREACHABLE),
    ],
)
def test_every_refusal_says_what_to_do(status: int, problem: Any, code: str, exit_code: ExitCode) -> None:
    error = refusal(status, problem)

    assert (error.code, error.exit_code) == (code, exit_code)
    assert error.message.endswith(".")
    assert error.advice


def test_a_state_that_forbids_it_is_told_in_words() -> None:
    error = refusal(409, {"code": "broadcast.is_paused", "message": "broadcast.is_paused"})

    assert error.message == "The broadcast is paused, so this cannot be done."


def settings(home: Path, **given: Any) -> CliSettings:
    return CliSettings(hub_home=home, **given)


def test_a_named_person_wins_over_the_environments_token(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "an.token").write_text("an's\n")
    (tmp_path / "people" / "binh.token").write_text("binh's\n")

    assert token_for(settings(tmp_path, hub_api_token=SecretStr("mine")), "an") == "an's"
    assert token_for(settings(tmp_path, hub_api_token=SecretStr("mine")), None) == "mine"
    assert token_for(settings(tmp_path, hub_person="binh"), None) == "binh's"
    with pytest.raises(CommandError, match="person_missing") as nobody:
        token_for(settings(tmp_path), None)
    assert "--as an" in nobody.value.advice
    for name in ("../people/an", "chi"):
        with pytest.raises(CommandError, match="person_unknown"):
            token_for(settings(tmp_path), name)


STANDING: dict[str, Any] = {
    "people": 100,
    "states": {"queued": 40, "sending": 4, "sent": 50, "skipped": 6, "failed": 0},
    "in_flight": 4,
    "per_second": 12.3,
    "seconds_left": 200.0,
}


def test_the_line_of_a_watcher_tells_counts_flight_pace_and_rest() -> None:
    assert settled(STANDING) == 56
    assert facts(STANDING) == "50 sent · 6 skipped · 4 in flight · 12/s · 3 min left"


LIFE = ("draft", "preview", "test", "approve", "schedule", "start", "watch", "pause", "resume", "cancel")


def test_each_command_teaches_with_an_example() -> None:
    runner = CliRunner(env={"COLUMNS": "200"})
    listed = runner.invoke(app, ["broadcast", "--help"]).output
    for command in (*LIFE, "copies", "uncertain", "settle", "abandon"):
        assert command in listed
        shown = runner.invoke(app, ["broadcast", command, "--help"])
        assert shown.exit_code == 0
        assert "Example: hub broadcast" in shown.output.replace("\n", " "), command


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["send", "--unit", "x", "--text", "y"], "only_dry_run"),
        (["broadcast", "show", "../../etc"], "person_missing"),
        (["broadcast", "draft", "nowhere.yaml"], "file_unreadable"),
        (["api-token", "An", "--role", "reader"], "name_malformed"),
        (["api-token", "an", "--role", "king"], "role_unknown"),
    ],
)
def test_a_wrong_use_is_told_with_its_code(
    arguments: list[str], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_HOME", str(tmp_path))
    for name in ("HUB_API_TOKEN", "HUB_PERSON"):
        monkeypatch.delenv(name, raising=False)

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == ExitCode.USAGE
    assert code in result.output + (result.stderr or "")


@pytest.mark.parametrize("command", [["settle", "--sent"], ["abandon"]])
@pytest.mark.parametrize(
    ("copies", "code"),
    [
        ([], "persons_missing"),
        (["--all", "--person", "a" * 32], "persons_missing"),
        (["--person", "a" * 32, "--person", "abc"], "person_malformed"),
    ],
)
def test_which_copies_are_meant_is_clear_before_anything_is_asked(
    command: list[str], copies: list[str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_API_TOKEN", "nobody-is-asked")

    result = CliRunner().invoke(app, ["broadcast", *command, "0123456789ab", *copies])

    assert result.exit_code == ExitCode.USAGE
    assert code in result.output + (result.stderr or "")


def test_a_token_is_shown_once_with_the_line_that_lets_its_person_in() -> None:
    result = CliRunner().invoke(app, ["api-token", "an", "--role", "publisher", "--unit", "hiep-thanh"])

    assert result.exit_code == 0
    assert "token_sha256" in result.output
    assert "person: an" in result.output
