"""The committed contracts are what the code makes, and hang together."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.commands.asyncapi import services
from cli.contract_changes import compare
from shared.asyncapi import asyncapi_document
from shared.topics import ALL_TOPICS
from tests.factories import one_of_each

DOCUMENTS = Path(__file__).resolve().parents[3] / "docs" / "asyncapi"


@pytest.mark.parametrize("service", services())
def test_the_committed_document_is_up_to_date_and_nothing_breaks(service: str) -> None:
    committed = json.loads((DOCUMENTS / f"{service}.json").read_text("utf-8"))
    generated = asyncapi_document(service)

    assert [change for change in compare(committed, generated) if change.is_breaking] == []
    assert committed == generated, "run: ./hub asyncapi check --write"


@pytest.mark.parametrize("service", services())
def test_every_reference_of_a_document_leads_somewhere(service: str) -> None:
    document = asyncapi_document(service)

    for reference in references_in(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert isinstance(target, dict), reference


@pytest.mark.parametrize("service", services())
def test_a_document_names_what_the_service_sends_and_receives(service: str) -> None:
    operations = asyncapi_document(service)["operations"]

    sends = {name.removeprefix("send ") for name in operations if name.startswith("send ")}
    assert sends == {topic.name for topic in ALL_TOPICS if topic.owner == service}
    receives = [name for name in operations if name.startswith("receive ")]
    assert len(receives) == sum(len(topic.readers.get(service, ())) for topic in ALL_TOPICS)


def test_the_console_sends_what_officers_do() -> None:
    operations = asyncapi_document("console")["operations"]

    assert operations == asyncapi_document("officers")["operations"]
    assert "send officer.actions.v1" in operations


def test_the_events_of_the_tests_fit_the_schemas_in_the_documents() -> None:
    schemas: dict[str, Any] = {}
    for service in services():
        schemas |= asyncapi_document(service)["components"]["schemas"]
    for event in one_of_each():
        body = json.loads(event.model_dump_json(exclude_none=True))
        schema = schemas[type(event).__name__]
        assert set(schema["required"]) <= body.keys() <= schema["properties"].keys()


def references_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)
