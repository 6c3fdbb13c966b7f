"""All commands of `hub`, in the order of its help."""

from collections.abc import Callable
from typing import Any

import typer

from cli.commands import asyncapi, dead_letters, init, settings, topics, webhook

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


def _group(name: str, about: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=about)
    app.add_typer(group, name=name)
    return group


def _add(group: typer.Typer, name: str, command: Callable[..., Any], *examples: str) -> None:
    group.command(name, epilog="\n\n".join(f"Example: [bold]{example}[/bold]" for example in examples))(command)


_add(app, "init", init.init, "hub init", "hub init --replication-factor 3 --strict")
_add(app, "topics", topics.topics, "hub topics", "hub topics --json")
_add(app, "settings", settings.settings, "hub settings", "hub settings --markdown")
_add(
    app,
    "asyncapi",
    asyncapi.asyncapi,
    "hub asyncapi router",
    "hub asyncapi check",
    "hub asyncapi check --write",
)

_webhook = _group("webhook", "Send events to intake as Zalo does.")
_add(
    _webhook,
    "send",
    webhook.send,
    'hub webhook send --page tan-chanh-hiep --text "xin chào"',
    "hub webhook send --event follow --user 2000000000000000042",
    "hub webhook send --file payload.json --repeat 3",
    "hub webhook send --bad-signature",
)

_letters = _group("dead-letters", "Events that could not be handled: look at them, publish them again.")
_add(_letters, "list", dead_letters.list_, "hub dead-letters list", "hub dead-letters list --reason event.unreadable")
_add(_letters, "show", dead_letters.show, "hub dead-letters show 3f9a1c")
_add(
    _letters,
    "replay",
    dead_letters.replay,
    "hub dead-letters replay 3f9a1c",
    "hub dead-letters replay --all --reason handler.failed --dry-run",
)
