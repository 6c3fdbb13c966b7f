"""`hub settings`: every setting of every part."""

from typing import Annotated

import typer

from cli.settings_reference import Setting, all_settings, as_environment_file, as_markdown
from cli.terminal import Terminal

DOCUMENT_HEAD = """# Settings

Every part reads its settings once, when it starts, from the environment. A secret `NAME` may be given as `NAME_FILE`
instead: the path of a file that holds it. `make` and the `hub` command also read `.env` in the checkout; what is set in
the environment wins. The table comes from the settings classes (`hub settings --markdown`) and a test keeps it equal.

"""


def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page docs/settings.md.")] = False,
    env_example: Annotated[bool, typer.Option("--env-example", help="As the file .env.example.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """List every setting with its default and meaning; values in use are not shown, since some are secret."""
    terminal = Terminal(as_json=as_json)
    known = all_settings()
    if markdown:
        typer.echo(document(known), nl=False)
    elif env_example:
        typer.echo(as_environment_file(known), nl=False)
    elif as_json:
        terminal.document([vars(setting) for setting in known])
    else:
        terminal.table(
            ("variable", "default", "read by", "meaning"),
            [
                (s.variable, "required" if s.default is None else s.default, ", ".join(s.used_by), s.about)
                for s in known
            ],
        )


def document(known: list[Setting]) -> str:
    """The whole page."""
    return DOCUMENT_HEAD + as_markdown(known)
