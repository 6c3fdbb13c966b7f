"""AsyncAPI 3 documents, made from the topics and the event classes.

FastStream's own generator sees `bytes` bodies here, since events are read inside the handler so that an unreadable
one is parked and not lost; so the document is made from the same data that creates the topics. ADR 0001.
"""

from typing import Any

from shared.topics import ALL_TOPICS, Topic

VERSION = "1.0.0"

PUBLISHES_AS = {"console": "officers"}
"""A service that publishes under another owner's name: officers act through the console and the command line alike."""

_CLOUD_EVENT_HEADERS = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "description": "The idempotency key."},
        "ce_source": {"type": "string"},
        "ce_type": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_correlationid": {"type": "string", "description": "event_id of the webhook at the start of the story."},
        "content-type": {"type": "string", "const": "application/json"},
    },
}


def _message(topic: Topic) -> dict[str, Any]:
    schema = topic.event.model_json_schema(ref_template=f"#/components/schemas/{topic.event.__name__}/$defs/{{model}}")
    return {
        "name": topic.event.__name__,
        "title": topic.event.ce_type,
        "summary": (topic.event.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
        "payload": {"$ref": f"#/components/schemas/{topic.event.__name__}"},
        "x-schema": schema,
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": topic.about,
        "messages": {topic.event.__name__: {"$ref": f"#/components/messages/{topic.event.__name__}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {"retention.ms": int(topic.retention.total_seconds() * 1000)},
                "bindingVersion": "0.5.0",
            }
        },
        "x-key": topic.key,
        "x-owner": topic.owner,
    }


def asyncapi_document(service: str) -> dict[str, Any]:
    """The contract of one service: what it sends and what it receives.

    Args:
        service: `intake`, `router`, `notifier`, `console` or `officers`.
    """
    owner = PUBLISHES_AS.get(service, service)
    operations: dict[str, Any] = {}
    used = []
    for topic in ALL_TOPICS:
        reference = {"channel": {"$ref": f"#/channels/{topic.name}"}}
        if topic.owner == owner:
            operations[f"send {topic.name}"] = {"action": "send", **reference}
        for group in topic.readers.get(service, ()):
            operations[f"receive {topic.name} as {group}"] = {
                "action": "receive",
                **reference,
                "bindings": {"kafka": {"groupId": {"type": "string", "enum": [group]}, "bindingVersion": "0.5.0"}},
            }
        if topic.owner == owner or service in topic.readers:
            used.append(topic)
    messages = {topic.event.__name__: _message(topic) for topic in used}
    schemas = {name: message.pop("x-schema") for name, message in messages.items()}
    return {
        "asyncapi": "3.1.0",
        "info": {"title": f"Bình Yên {service}", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in used},
        "operations": operations,
        "components": {"messages": messages, "schemas": {"CloudEventHeaders": _CLOUD_EVENT_HEADERS, **schemas}},
    }
