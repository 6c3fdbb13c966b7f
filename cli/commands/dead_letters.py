"""`hub dead-letters`: what could not be handled, and its way back."""

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError
from rich.markup import escape
from rich.progress import Progress

from cli.errors import CommandError, ExitCode
from cli.hub import opened_producer, opened_store
from cli.settings import CliSettings, load_settings
from cli.terminal import Terminal, run, when
from shared.dead_letter import as_record
from shared.errors import BrokerUnavailable
from shared.mongo import Document, Store, patiently

ID_PATTERN = re.compile(r"[0-9a-f]{6,32}")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
REPLAY_BATCH = 200


def list_(
    state: Annotated[str, typer.Option(help="parked, replayed or any.")] = "parked",
    reason: Annotated[str | None, typer.Option(help="Only this reason code.", show_default=False)] = None,
    service: Annotated[str | None, typer.Option(help="Only of this service.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List events that could not be handled, newest first."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _list(terminal, state, reason, service, limit))


async def _list(terminal: Terminal, state: str, reason: str | None, service: str | None, limit: int) -> None:
    query = {
        key: value
        for key, value in (("state", None if state == "any" else state), ("reason", reason), ("service", service))
        if value is not None
    }
    async with opened_store(load_settings()) as store:
        collection = store["dead_letters"]
        letters = (
            await collection.find(query, {"value": 0, "headers": 0}).sort([("last_at", -1)]).limit(limit).to_list()
        )
        total = await collection.count_documents(query)
    if terminal.as_json:
        terminal.document({"total": total, "items": [_summary(letter) for letter in letters]})
        return
    if not letters:
        terminal.say("[green]✓[/green] no dead letters" + ("" if state == "any" else f" that are {escape(state)}"))
        return
    terminal.table(
        ("id", "service", "topic", "reason", "seen", "last", "state", "error"),
        [
            (
                letter["_id"][:12],
                letter["service"],
                f"{letter['topic']}/{letter['partition']}@{letter['offset']}",
                letter["reason"],
                letter["seen"],
                when(letter["last_at"]),
                letter["state"],
                letter["error"][:80],
            )
            for letter in letters
        ],
    )
    terminal.say(
        f"[dim]{len(letters)} of {total}. `hub dead-letters show ID` shows one, `hub dead-letters replay ID` "
        "publishes it again; docs/runbooks/dead-letters.md.[/dim]"
    )


def _summary(letter: Document) -> Document:
    return {
        "id": letter["_id"],
        **{
            key: letter.get(key)
            for key in (
                *("service", "topic", "partition", "offset", "reason", "error", "seen", "state"),
                *("first_at", "last_at", "replayed_at"),
            )
        },
    }


def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The id or its first six or more characters.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole: why, where it stood, its headers and its body."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _show(terminal, letter_id))


async def _show(terminal: Terminal, letter_id: str) -> None:
    async with opened_store(load_settings()) as store:
        letter = await _find(store, letter_id)
    topic, key, headers, value = as_record(letter)
    if terminal.as_json:
        terminal.document(
            {
                **_summary(letter),
                "key": None if key is None else key.decode("utf-8", "replace"),
                "headers": [[name, _as_text(content)] for name, content in headers],
                "value": value.decode("utf-8", "replace"),
            }
        )
        return
    terminal.say(f"[bold]{letter['_id']}[/bold] {escape(letter['state'])}, seen {letter['seen']} times")
    terminal.say(f"reason   [red]{escape(letter['reason'])}[/red] {escape(letter['error'])}")
    terminal.say(f"service  {escape(letter['service'])}")
    terminal.say(f"stood    {topic}, partition {letter['partition']}, offset {letter['offset']}")
    terminal.say(f"first    {when(letter['first_at'])}, last {when(letter['last_at'])}")
    if letter.get("replayed_at"):
        terminal.say(f"replayed {when(letter['replayed_at'])}")
    terminal.say(f"key      {escape(repr(key))}")
    for name, content in headers:
        terminal.say(f"header   {escape(name)}: {escape(_as_text(content))}")
    terminal.say(escape(_pretty(value)))


def _as_text(content: bytes | None) -> str:
    return "(null)" if content is None else content.decode("utf-8", "backslashreplace")


def _pretty(value: bytes) -> str:
    try:
        return json.dumps(json.loads(value), ensure_ascii=False, indent=2)
    except ValueError:
        return value.decode("utf-8", "backslashreplace")


def replay(
    letter_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id or its first six or more characters.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All parked ones that match.")] = False,
    reason: Annotated[str | None, typer.Option(help="With --all: only this reason code.", show_default=False)] = None,
    service: Annotated[str | None, typer.Option(help="With --all: only of this service.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be published.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish dead letters again: the same bytes, key and headers on the same topic.

    Safe to repeat: every reader of the topic gets the event once more, and what was done already is not done twice.
    An event that fails again is parked again, as a new letter. Repair the cause first.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _replay(terminal, letter_id, everything=everything, reason=reason, service=service, dry_run=dry_run))


async def _replay(
    terminal: Terminal,
    letter_id: str | None,
    *,
    everything: bool,
    reason: str | None,
    service: str | None,
    dry_run: bool,
) -> None:
    if everything == (letter_id is not None) or (not everything and (reason or service)):
        raise CommandError(
            "replay_what",
            "Say which dead letters: one ID, or --all (with --reason or --service).",
            "`hub dead-letters list` shows them.",
            exit_code=ExitCode.USAGE,
        )
    settings = load_settings()
    async with opened_store(settings) as store:
        if letter_id is not None:
            letters = [await _find(store, letter_id)]
        else:
            query = {k: v for k, v in (("state", "parked"), ("reason", reason), ("service", service)) if v is not None}
            letters = await store["dead_letters"].find(query).sort([("first_at", 1)]).to_list()
        if not dry_run and letters:
            await _publish(terminal, settings, store, letters)
    if terminal.as_json:
        terminal.document(
            {"replayed": [] if dry_run else _ids(letters), "would_replay": _ids(letters) if dry_run else []}
        )
        return
    if dry_run:
        for letter in letters:
            terminal.say(
                f"would publish {letter['_id'][:12]} to {letter['topic']} [dim]{escape(letter['reason'])}[/dim]"
            )
    mark = "[yellow]nothing was published[/yellow]" if dry_run else "[green]✓[/green] replayed"
    terminal.say(f"{mark}: {len(letters)}")


def _ids(letters: Sequence[Document]) -> list[str]:
    return [letter["_id"] for letter in letters]


async def _publish(terminal: Terminal, settings: CliSettings, store: Store, letters: Sequence[Document]) -> None:
    """Publish in order of their first failure; each letter is marked only after Kafka has its copy."""
    with Progress(console=terminal.err, transient=True, disable=terminal.as_json or len(letters) < 2) as progress:
        task = progress.add_task("replaying", total=len(letters))
        async with opened_producer(settings) as producer:
            for start in range(0, len(letters), REPLAY_BATCH):
                batch = letters[start : start + REPLAY_BATCH]
                await _send(settings, producer, batch)
                await _mark(store, batch)
                progress.advance(task, len(batch))


async def _send(settings: CliSettings, producer: Any, letters: Sequence[Document]) -> None:
    try:
        async with asyncio.timeout(settings.publish_timeout_seconds):
            acknowledgements = []
            for letter in letters:
                topic, key, headers, value = as_record(letter)
                acknowledgements.append(await producer.send(topic, value, key=key, headers=headers))
            await asyncio.gather(*acknowledgements)
    except (TimeoutError, KafkaError, OSError) as error:
        raise BrokerUnavailable(type(error).__name__) from error


async def _mark(store: Store, letters: Sequence[Document]) -> None:
    now = datetime.now(UTC)
    await patiently(
        lambda: store["dead_letters"].update_many(
            {"_id": {"$in": _ids(letters)}}, {"$set": {"state": "replayed", "replayed_at": now}}
        )
    )


async def _find(store: Store, letter_id: str) -> Document:
    if not ID_PATTERN.fullmatch(letter_id):
        raise CommandError(
            "id_malformed",
            f"{letter_id!r} is no id of a dead letter.",
            "Ids have 32 characters 0-9 a-f; the first six are enough. `hub dead-letters list` shows them.",
            exit_code=ExitCode.USAGE,
        )
    # Between the shortest and the longest id with this beginning.
    last = letter_id.ljust(32, "f")
    found = await store["dead_letters"].find({"_id": {"$gte": letter_id, "$lte": last}}).limit(2).to_list()
    if len(found) != 1:
        raise CommandError(
            "dead_letter_not_found" if not found else "id_ambiguous",
            f"{'No' if not found else 'More than one'} dead letter begins with {letter_id}.",
            "`hub dead-letters list --state any` shows all.",
            exit_code=ExitCode.NOT_FOUND,
        )
    return found[0]
