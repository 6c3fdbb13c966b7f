from pathlib import Path

import pytest

from cli.commands.settings import document
from cli.settings_reference import MEANINGS, Setting, all_settings, as_environment_file, as_markdown

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_of_settings_agrees_with_the_classes() -> None:
    committed = (ROOT / "docs" / "settings.md").read_text("utf-8")

    assert committed == document(all_settings()), "run: ./hub settings --markdown > docs/settings.md"


def test_the_example_environment_agrees_with_the_classes() -> None:
    committed = (ROOT / ".env.example").read_text("utf-8")

    assert committed == as_environment_file(all_settings()), "run: ./hub settings --env-example > .env.example"


def test_every_setting_says_what_it_means() -> None:
    assert [setting.variable for setting in all_settings() if not setting.about] == []


def test_no_meaning_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    borrowed = dict(MEANINGS)
    monkeypatch.setattr("cli.settings_reference.MEANINGS", {})

    silent = {setting.variable for setting in all_settings() if not setting.about}

    assert set(borrowed) == silent, "what a class says itself needs no second text"


def test_settings_of_every_part_are_listed_once() -> None:
    known = all_settings()
    names = [setting.variable for setting in known]

    assert len(names) == len(set(names))
    assert {"MONGO_URI", "ZALO_PAGES", "TOKEN_ENCRYPTION_KEY", "HUB_HOME", "SIMULATOR_SEED", "CRASH_AT"} <= set(names)
    users = {user for setting in known for user in setting.used_by}
    assert {"intake", "router", "notifier", "console", "hub command", "local stack", "simulator"} <= users


def test_secrets_are_marked_and_the_file_form_is_told() -> None:
    secrets = {setting.variable for setting in all_settings() if setting.is_secret}

    assert {"MONGO_URI", "TOKEN_ENCRYPTION_KEY"} <= secrets
    assert "`MONGO_URI` or `MONGO_URI_FILE`" in as_markdown(all_settings())


def test_an_example_line_changes_nothing_when_the_file_is_copied() -> None:
    lines = as_environment_file([Setting("A_THING", "text", "x", False, ("intake",), "What it is.")]).splitlines()

    assert lines[-2:] == ["# What it is.", "#A_THING=x"]
    assert all(line.startswith("#") or not line for line in lines)
