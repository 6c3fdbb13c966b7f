"""All commands of `hub`, in the order of its help."""

from typing import Any

import typer

from cli.commands.init import init

app = typer.Typer(
    name="hub",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Bình Yên, a message hub between citizens and their ward police: look into it, try it, repair it.",
    epilog=(
        "Exit codes: 0 done, 1 something is not well, 2 wrong use, 3 not found, 4 a server does not answer, "
        "5 a setting is wrong, 6 refused, 7 no answer in time. Errors end in a stable code in brackets.\n\n"
        "Addresses come from the environment, from .env, or from what `make up` wrote down ($HUB_HOME/state.json)."
    ),
)


@app.callback()
def _root() -> None:
    """Keeps `hub NAME` a command of its own however many there are."""


def _add(command: Any, name: str, *examples: str) -> None:
    app.command(name, epilog="\n\n".join(f"Example: [bold]{example}[/bold]" for example in examples))(command)


_add(init, "init", "hub init", "hub init --replication-factor 3 --strict")
