"""`hub topics`: what travels, from whom to whom, and how far behind the readers are."""

from typing import Annotated

import typer
from rich.markup import escape

from cli.kafka_admin import GroupLag, KafkaAdmin
from cli.settings import load_settings
from cli.terminal import Terminal, run, seconds_as_text
from cli.topic_drift import TopicState, drift_of
from shared.topics import ALL_TOPICS, Topic

READERS = [(group, topic.name) for topic in ALL_TOPICS for groups in topic.readers.values() for group in groups]


def topics(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """List the topics with key, owner, readers, real state and lag."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _topics(terminal))


async def _topics(terminal: Terminal) -> None:
    async with KafkaAdmin(load_settings().kafka_bootstrap_servers) as admin:
        states = await admin.topic_states([topic.name for topic in ALL_TOPICS])
        copies = await admin.default_replication_factor()
        lags = await admin.lags(READERS)
    if terminal.as_json:
        terminal.document({"topics": [_described(topic, states.get(topic.name), lags, copies) for topic in ALL_TOPICS]})
        return
    terminal.table(
        ("topic", "key", "partitions", "kept", "owner", "state"),
        [
            (
                topic.name,
                topic.key,
                states[topic.name].partitions if topic.name in states else topic.partitions,
                seconds_as_text(topic.retention.total_seconds()),
                topic.owner,
                _state_in_words(topic, states.get(topic.name), copies),
            )
            for topic in ALL_TOPICS
        ],
    )
    terminal.say()
    terminal.table(
        ("group", "reads", "lag", "consumers"), [(lag.group, lag.topic, lag.lag, lag.members) for lag in lags]
    )
    if len(states) < len(ALL_TOPICS):
        terminal.say(f"[yellow]! {escape('Some topics are missing: run `hub init`.')}[/yellow]")


def _state_in_words(topic: Topic, state: TopicState | None, copies: int) -> str:
    if state is None:
        return "missing"
    if state.partitions_without_leader:
        return f"{state.partitions_without_leader} partitions without a leader"
    if state.partitions_under_replicated:
        return f"{state.partitions_under_replicated} partitions lack copies"
    drift = drift_of(topic, state, replication_factor=copies)
    return "; ".join(f"{one.what} {one.actual}, declared {one.declared}" for one in drift) or "ok"


def _described(topic: Topic, state: TopicState | None, lags: list[GroupLag], copies: int) -> dict[str, object]:
    return {
        "name": topic.name,
        "about": topic.about,
        "event": topic.event.__name__,
        "key": topic.key,
        "partitions": topic.partitions,
        "retention_seconds": int(topic.retention.total_seconds()),
        "owner": topic.owner,
        "readers": {service: list(groups) for service, groups in topic.readers.items()},
        "state": None if state is None else vars(state),
        "drift": [] if state is None else [vars(one) for one in drift_of(topic, state, replication_factor=copies)],
        "lag": {
            lag.group: {"lag": lag.lag, "consumers": lag.members, "uncommitted": lag.partitions_without_offset}
            for lag in lags
            if lag.topic == topic.name
        },
    }
