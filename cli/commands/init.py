"""`hub init`: topics and indexes, before any service starts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.kafka_admin import KafkaAdmin
from cli.settings import CliSettings, load_settings
from cli.terminal import Terminal, run
from cli.topic_drift import Drift, declared_configs, drift_of
from shared.collections import create_indexes
from shared.errors import StoreUnavailable
from shared.mongo import open_store
from shared.topics import ALL_TOPICS

T = TypeVar("T")

RETRY_SECONDS = 0.5


def init(
    replication_factor: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=9,
            envvar="HUB_REPLICATION_FACTOR",
            help="Copies of every record. Without it the cluster's own default.replication.factor is taken.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds to wait for Kafka and MongoDB to answer.")
    ] = 120,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 when an existing topic differs from its declaration.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """Create the topics and indexes that the services need; safe to repeat at any time.

    Waits until Kafka and MongoDB answer. What exists already is left alone and compared with its declaration.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _init(terminal, replication_factor, timeout, strict=strict))


async def _init(terminal: Terminal, replication_factor: int | None, timeout_seconds: float, *, strict: bool) -> None:
    settings = load_settings()
    deadline = time.monotonic() + timeout_seconds
    with terminal.step(f"waiting for Kafka at {settings.kafka_bootstrap_servers}"):
        copies = await _when_reachable(lambda: _replication_factor(settings, replication_factor), deadline)
    created, drift = await _topics(terminal, settings, copies, deadline)
    with terminal.step("waiting for MongoDB and its indexes"):
        indexes = await _when_reachable(lambda: _indexes(settings), deadline)
    if settings.hub_environment == "production" and copies == 1:
        terminal.err.print(
            "[yellow]! Each record has one copy only: losing one disk loses accepted messages. "
            "Run three brokers and `hub init --replication-factor 3`.[/yellow]"
        )
    if terminal.as_json:
        terminal.document(
            {
                "topics": [topic.name for topic in ALL_TOPICS],
                "topics_created": created,
                "replication_factor": copies,
                "indexes": indexes,
                "drift": [{**vars(one)} for one in drift],
            }
        )
    else:
        _report(terminal, created, drift, len(indexes), copies)
    if strict and drift:
        raise typer.Exit(ExitCode.NOT_WELL)


def _report(terminal: Terminal, created: list[str], drift: list[Drift], indexes: int, copies: int) -> None:
    known = len(ALL_TOPICS) - len(created)
    terminal.say(
        f"[green]✓[/green] topics: {len(created)} created, {known} were there "
        f"({copies} {'copy' if copies == 1 else 'copies'} of each record)"
    )
    terminal.say(f"[green]✓[/green] indexes: {indexes} present")
    for one in drift:
        colour = "red" if one.is_dangerous else "yellow"
        terminal.err.print(f"[{colour}]! {escape(str(one))}[/{colour}]")
    if drift:
        terminal.err.print(
            "  Kafka's own kafka-configs and kafka-topics change an existing topic; docs/runbooks/topic-drift.md has "
            "the commands and what each change costs."
        )


async def _when_reachable(call: Callable[[], Awaitable[T]], deadline: float) -> T:
    """Repeat until the server answers; the last refusal is raised when the time is over."""
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
        except CommandError as error:
            if error.exit_code is not ExitCode.UNREACHABLE or time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _replication_factor(settings: CliSettings, wanted: int | None) -> int:
    async with KafkaAdmin(settings.kafka_bootstrap_servers) as admin:
        copies = wanted or await admin.default_replication_factor()
        brokers = await admin.broker_count()
    if brokers < copies:
        raise CommandError(
            "brokers_missing",
            f"{brokers} of the {copies} brokers that {copies} copies need are there.",
            "Start the other brokers, or pass a smaller --replication-factor.",
            exit_code=ExitCode.UNREACHABLE,
        )
    return copies


async def _topics(
    terminal: Terminal, settings: CliSettings, copies: int, deadline: float
) -> tuple[list[str], list[Drift]]:
    names = [topic.name for topic in ALL_TOPICS]
    async with KafkaAdmin(settings.kafka_bootstrap_servers) as admin:
        before = await admin.topic_states(names)
        created = [
            topic.name
            for topic in ALL_TOPICS
            if topic.name not in before
            and await admin.create_topic(
                topic.name,
                partitions=topic.partitions,
                replication_factor=copies,
                configs=declared_configs(topic, replication_factor=copies),
            )
        ]
        with terminal.step("waiting for a leader of every partition"):
            while True:
                states = await admin.topic_states(names)
                missing = [n for n in names if n not in states or states[n].partitions_without_leader]
                if not missing:
                    break
                if time.monotonic() > deadline:
                    raise CommandError(
                        "topics_without_leader",
                        f"No leader yet for {', '.join(missing)}.",
                        "Look whether all brokers are up, then run `hub init` again.",
                        exit_code=ExitCode.UNREACHABLE,
                    )
                await asyncio.sleep(RETRY_SECONDS)
    drift = [one for topic in ALL_TOPICS for one in drift_of(topic, states[topic.name], replication_factor=copies)]
    return created, drift


async def _indexes(settings: CliSettings) -> list[str]:
    store = open_store(settings)
    try:
        return await create_indexes(store)
    finally:
        await store.close()
