import copy
from collections.abc import Callable
from typing import Any

import pytest

from cli.contract_changes import Change, compare
from shared.asyncapi import asyncapi_document

Document = dict[str, Any]


@pytest.fixture
def document() -> Document:
    return asyncapi_document("router")


def changed(document: Document, change: Callable[[Document], Any]) -> list[Change]:
    new = copy.deepcopy(document)
    change(new)
    return compare(document, new)


def reply(document: Document) -> Document:
    schema: Document = document["components"]["schemas"]["ReplyRequested"]
    return schema


def message(document: Document) -> Document:
    schema: Document = document["components"]["schemas"]["CitizenMessageReceived"]
    return schema


@pytest.mark.parametrize("service", ["intake", "router", "notifier", "officers"])
def test_a_document_does_not_differ_from_itself(service: str) -> None:
    assert compare(asyncapi_document(service), asyncapi_document(service)) == []


def test_a_new_optional_field_is_compatible(document: Document) -> None:
    found = changed(document, lambda d: reply(d)["properties"].update(priority={"type": "integer", "default": 0}))

    assert found == [Change("ReplyRequested.priority", "optional field added", False)]


def test_words_for_people_are_no_change(document: Document) -> None:
    def reword(d: Document) -> None:
        reply(d)["description"] = "Other words."
        reply(d)["properties"]["template"]["title"] = "Other"

    assert changed(document, reword) == []


def test_the_schema_version_may_grow(document: Document) -> None:
    found = changed(document, lambda d: reply(d)["properties"]["schema_version"].update(default=2))

    assert found == [Change("ReplyRequested.schema_version", "default was 1, is 2", False)]


BREAKING: dict[str, tuple[Callable[[Document], Any], str, str]] = {
    "a channel is removed": (lambda d: d["channels"].pop("replies.requested.v1"), "replies.requested.v1", "removed"),
    "an operation is removed": (
        lambda d: d["operations"].pop("send replies.requested.v1"),
        "send replies.requested.v1",
        "removed",
    ),
    "a message is removed from a channel": (
        lambda d: d["channels"]["replies.requested.v1"]["messages"].pop("ReplyRequested"),
        "replies.requested.v1",
        "message ReplyRequested removed",
    ),
    "the partition key changes": (
        lambda d: d["channels"]["replies.requested.v1"].update({"x-key": "event"}),
        "replies.requested.v1",
        "x-key",
    ),
    "the number of partitions changes": (
        lambda d: d["channels"]["replies.requested.v1"]["bindings"]["kafka"].update(partitions=24),
        "replies.requested.v1",
        "partitions were 12, are 24",
    ),
    "the CloudEvents type changes": (
        lambda d: d["components"]["messages"]["ReplyRequested"].update(title="vn.other.v1"),
        "ReplyRequested",
        "title",
    ),
    "a field is removed": (lambda d: reply(d)["properties"].pop("template"), "ReplyRequested.template", "removed"),
    "a required field is added": (
        lambda d: (reply(d)["properties"].update(extra={"type": "string"}), reply(d)["required"].append("extra")),
        "ReplyRequested.extra",
        "required field added",
    ),
    "a field becomes required": (
        lambda d: reply(d)["required"].append("is_emergency"),
        "ReplyRequested.is_emergency",
        "became required",
    ),
    "a field becomes optional": (
        lambda d: reply(d)["required"].remove("template"),
        "ReplyRequested.template",
        "became optional",
    ),
    "a type changes": (
        lambda d: reply(d)["properties"]["is_emergency"].update(type="string"),
        "ReplyRequested.is_emergency",
        "type was boolean, is string",
    ),
    "an enumeration loses a value": (
        lambda d: reply(d)["properties"]["origin"]["enum"].remove("officer"),
        "ReplyRequested.origin",
        "value officer removed",
    ),
    "an enumeration gains a value": (
        lambda d: reply(d)["properties"]["origin"]["enum"].append("broadcast"),
        "ReplyRequested.origin",
        "value broadcast added",
    ),
    "a limit becomes tighter": (
        lambda d: reply(d)["properties"]["template"].update(maxLength=10),
        "ReplyRequested.template",
        "maxLength was 96, is 10",
    ),
    "a limit disappears": (
        lambda d: reply(d)["properties"]["template"].pop("maxLength"),
        "ReplyRequested.template",
        "maxLength was 96, is absent",
    ),
    "a nullable field is null no more": (
        lambda d: reply(d)["properties"]["case_code"].update(anyOf=[{"type": "string"}]),
        "ReplyRequested.case_code",
        "2 alternatives became 1",
    ),
    "a field of a nested object changes": (
        lambda d: reply(d)["$defs"]["ReplyButton"]["properties"]["title"].update(maxLength=5),
        "ReplyRequested.content.buttons[].title",
        "maxLength was 100, is 5",
    ),
    "a nested object loses a field": (
        lambda d: message(d)["$defs"]["Coordinates"]["properties"].pop("latitude"),
        "CitizenMessageReceived.location.latitude",
        "removed",
    ),
    "a header disappears": (
        lambda d: d["components"]["schemas"]["CloudEventHeaders"]["properties"].pop("ce_id"),
        "ReplyRequested headers.ce_id",
        "removed",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_it_is_breaking_when(name: str, document: Document) -> None:
    change, where, what = BREAKING[name]

    found = changed(document, change)

    assert [c for c in found if c.is_breaking and c.where == where and what in c.what], found


def test_a_longer_retention_is_compatible_and_named(document: Document) -> None:
    def longer(d: Document) -> None:
        d["channels"]["replies.requested.v1"]["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] = 1

    [found] = changed(document, longer)

    assert not found.is_breaking


def test_new_channels_and_operations_are_compatible(document: Document) -> None:
    old = copy.deepcopy(document)
    old["channels"].pop("officer.actions.v1")
    assert compare(old, document) == [Change("officer.actions.v1", "channel added", False)]


def test_a_schema_that_contains_itself_is_walked_once() -> None:
    def recursive(limit: int) -> Document:
        document = asyncapi_document("officers")
        [name] = document["components"]["messages"]
        document["components"]["schemas"][name] = {
            "type": "object",
            "properties": {
                "child": {"$ref": f"#/components/schemas/{name}"},
                "text": {"type": "string", "maxLength": limit},
            },
        }
        return document

    assert compare(recursive(5), recursive(5)) == []
    assert [change.what for change in compare(recursive(5), recursive(6))] == ["maxLength was 5, is 6"]
