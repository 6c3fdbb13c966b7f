"""`hub send --dry-run`: what would happen if this were sent to these people now."""

from typing import Annotated, Any

import typer

from cli.api import opened_api
from cli.commands.broadcast import (
    As,
    AsJson,
    Emergency,
    File,
    FollowersOnly,
    Language,
    Pays,
    Tag,
    Text,
    Topic,
    ToUnit,
    Unit,
    Ward,
    Within,
    a_draft,
    show_forecast,
)
from cli.errors import CommandError, ExitCode
from cli.settings import load_settings
from cli.terminal import Terminal, run


def send(
    file: File = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and send nothing; this is all it does.")] = False,
    unit: Unit = None,
    text: Text = None,
    to_unit: ToUnit = None,
    ward: Ward = None,
    topic: Topic = None,
    language: Language = None,
    tag: Tag = None,
    within_hours: Within = None,
    citizen: Annotated[
        list[str] | None, typer.Option("--citizen", help="Only these, as OA:USER; repeatable.", show_default=False)
    ] = None,
    followers_only: FollowersOnly = False,
    emergency: Emergency = False,
    pays: Pays = False,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Tell what would happen if this were sent to these people now: by lane, and by reason who would not get it.

    Nothing is sent and nothing is kept. Sending to many goes by `hub broadcast`, with a second person's approval.
    """
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        if not dry_run:
            raise CommandError(
                "only_dry_run",
                "`hub send` sends nothing.",
                "Add --dry-run to count; to send, make a draft with `hub broadcast draft`.",
                exit_code=ExitCode.USAGE,
            )
        body: dict[str, Any] = a_draft(
            file, title=None, unit=unit, text=text, to_unit=to_unit, ward=ward, topic=topic, language=language,
            tag=tag, within_hours=within_hours, followers_only=followers_only, emergency=emergency, pays=pays,
        )  # fmt: skip
        if citizen:
            body["citizens"] = citizen
        async with opened_api(load_settings(), person) as api:
            with terminal.step("counting"):
                forecast = await api.post("/v1/send/dry-run", body)
        if terminal.as_json:
            terminal.document(forecast)
            return
        show_forecast(terminal, forecast)
        terminal.say("[dim]nothing was sent[/dim]")

    run(terminal, work())
