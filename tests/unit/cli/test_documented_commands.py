"""Every `hub` command and `make` target that README, docs and runbooks print exists, with the options they show."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.app import app

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "simulator" / "README.md"])
HUB: Any = typer.main.get_command(app)
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def printed(page: Path, program: str) -> Iterator[str]:
    """What follows a program's name, in code: at the start of a line of a block, or of a code span."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", prose)
    for line in (*(line for block in blocks for line in block.splitlines()), *spans):
        if found := re.match(rf"(?:\$ )?(?:\./)?{program} +([a-z-].*)", line.strip(), re.DOTALL):
            yield found.group(1)


HUB_COMMANDS = sorted({(page.name, command) for page in PAGES for command in printed(page, "hub")})
MAKE_COMMANDS = sorted({(page.name, command) for page in PAGES for command in printed(page, "make")})


@pytest.mark.parametrize(("page", "command"), HUB_COMMANDS, ids=lambda value: str(value)[:60])
def test_a_printed_hub_command_exists_with_its_options(page: str, command: str) -> None:
    words = shlex.split(re.split(r"(?:^| )#| \| | > |;", command)[0], posix=True)
    here = HUB
    while hasattr(here, "commands") and words and not words[0].startswith("-"):
        known = here.commands.get(words[0])
        assert known is not None, f"{page}: hub {command}: no {words[0]!r}"
        here, words = known, words[1:]
    options = {name for parameter in here.params for name in (*parameter.opts, *parameter.secondary_opts)}
    shown = [one for word in words for one in word.split("|") if one.startswith("--")]
    wrong = [one for one in shown if one.split("=")[0] not in {*options, "--help"}]
    assert not wrong, f"{page}: hub {command}"


@pytest.mark.parametrize(("page", "command"), MAKE_COMMANDS, ids=lambda value: str(value)[:60])
def test_a_printed_make_target_exists(page: str, command: str) -> None:
    target = next((word for word in command.split() if "=" not in word and not word.startswith("-")), None)
    assert target is None or target.strip("…`") in TARGETS, f"{page}: make {command}"


def test_the_pages_print_commands_at_all() -> None:
    """Guards the search: a change of its patterns must not make it find nothing."""
    assert len(HUB_COMMANDS) > 50
    assert len(MAKE_COMMANDS) > 20
