"""`hub api-token`: a token for one person, and the line that lets them in."""

import re
from typing import Annotated

import typer
import yaml

from cli.errors import CommandError, ExitCode
from cli.terminal import Terminal, run
from shared.api_people import new_person

ROLES = ("reader", "publisher", "approver", "operator")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def api_token(
    person: Annotated[str, typer.Argument(help="Short name, such as an-nguyen; it stands in every history.")],
    role: Annotated[list[str], typer.Option("--role", help=f"Of {', '.join(ROLES)}; repeatable.")],
    name: Annotated[str | None, typer.Option(help="As people write it.", show_default=False)] = None,
    unit: Annotated[
        list[str] | None, typer.Option("--unit", help="Only this unit's broadcasts; repeatable.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """Make a token for one person. Nothing is stored: give the token to them, and add the line to the secret file.

    The notifier reads that file (API_TOKENS_FILE) when it starts. It holds digests only: who reads it cannot sign in.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _make(terminal, person, role, name, unit or []))


async def _make(terminal: Terminal, person: str, roles: list[str], name: str | None, units: list[str]) -> None:
    if strangers := sorted(set(roles) - set(ROLES)):
        raise CommandError(
            "role_unknown", f"There is no role {', '.join(strangers)}.", f"Use {', '.join(ROLES)}.",
            exit_code=ExitCode.USAGE,
        )  # fmt: skip
    if not NAME.fullmatch(person):
        raise CommandError(
            "name_malformed", f"{person!r} is no short name.", "Use small letters, digits and hyphens: an-nguyen.",
            exit_code=ExitCode.USAGE,
        )  # fmt: skip
    token, row = new_person(person, roles, name=name, units=units)
    if terminal.as_json:
        terminal.document({"token": token, "row": row})
        return
    terminal.say(f"token, shown only now:  [bold]{token}[/bold]")
    terminal.say("line for the secret file, under `people`:")
    terminal.out.print(yaml.safe_dump([row], allow_unicode=True, sort_keys=False), end="", markup=False)
