"""The difference between two AsyncAPI documents, judged by our rule: a new optional field is compatible, nothing else.

Topics live longer than a deployment and are read by services of the version before and after, so a document is
compared in both directions: what a new reader refuses of an old event breaks, and so does what an old reader refuses
of a new one (a new value of an enumeration, a longer text).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_ANNOTATIONS = frozenset({"title", "description", "examples", "$defs", "deprecated"})
_STRUCTURE = frozenset(
    {"properties", "required", "items", "prefixItems", "anyOf", "enum", "$ref", "additionalProperties"}
)


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        where: address of the part, such as `ReplyRequested.content.buttons[].title`.
        what: what became different, in words.
        is_breaking: whether it needs a new version of the topic.
    """

    where: str
    what: str
    is_breaking: bool


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """List what differs between two AsyncAPI 3 documents of one service, breaking changes first."""
    changes = [
        *_named(old, new, "channels", "channel", _channel),
        *_named(old, new, "operations", "operation", _operation),
        *_messages(old, new),
    ]
    return sorted(changes, key=lambda change: (not change.is_breaking, change.where))


def _named(old: dict[str, Any], new: dict[str, Any], section: str, kind: str, compare_one: Any) -> Iterator[Change]:
    before, after = old.get(section, {}), new.get(section, {})
    for name in sorted(before.keys() - after.keys()):
        yield Change(name, f"{kind} removed", True)
    for name in sorted(after.keys() - before.keys()):
        yield Change(name, f"{kind} added", False)
    for name in sorted(before.keys() & after.keys()):
        yield from compare_one(name, before[name], after[name])


def _channel(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    for attribute in ("address", "x-key", "x-owner"):
        if old.get(attribute) != new.get(attribute):
            yield Change(name, f"{attribute} was {old.get(attribute)}, is {new.get(attribute)}", True)
    before, after = old["bindings"]["kafka"], new["bindings"]["kafka"]
    if before["partitions"] != after["partitions"]:
        # Kafka cannot take partitions away, and a key moves when there are more: order is lost across the change.
        yield Change(name, f"partitions were {before['partitions']}, are {after['partitions']}", True)
    if before["topicConfiguration"] != after["topicConfiguration"]:
        yield Change(name, f"settings were {before['topicConfiguration']}, are {after['topicConfiguration']}", False)
    for message in sorted(old["messages"].keys() - new["messages"].keys()):
        yield Change(name, f"message {message} removed", True)
    for message in sorted(new["messages"].keys() - old["messages"].keys()):
        yield Change(name, f"message {message} added: readers of this topic expect one kind", True)


def _operation(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    for attribute in ("action", "channel", "bindings"):
        if old.get(attribute) != new.get(attribute):
            yield Change(name, f"{attribute} changed", True)


def _messages(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    before = old.get("components", {}).get("messages", {})
    after = new.get("components", {}).get("messages", {})
    for name in sorted(before.keys() & after.keys()):
        for attribute in ("title", "contentType"):  # the title is the CloudEvents type that readers select by
            if before[name].get(attribute) != after[name].get(attribute):
                yield Change(
                    name, f"{attribute} was {before[name].get(attribute)}, is {after[name].get(attribute)}", True
                )
        walk = _Walk(old, new)
        yield from walk.schema(name, before[name]["payload"], after[name]["payload"])
        yield from walk.schema(f"{name} headers", before[name]["headers"], after[name]["headers"])


class _Walk:
    """Goes through two schemas side by side and resolves each one's references in its own document."""

    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._old = old
        self._new = new
        self._open: set[tuple[str, str]] = set()

    def schema(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        references = (str(old.get("$ref")), str(new.get("$ref")))
        if "$ref" in old or "$ref" in new:
            if references in self._open:
                return  # a schema inside itself; its difference is being reported already
            self._open.add(references)
        old, new = _resolve(self._old, old), _resolve(self._new, new)
        yield from self._plain(where, old, new)
        yield from self._enumeration(where, old, new)
        yield from self._alternatives(where, old, new)
        yield from self._properties(where, old, new)
        for keyword in ("items", "additionalProperties"):
            yield from self._nested(where, keyword, old.get(keyword), new.get(keyword))
        yield from self._fixed_items(where, old.get("prefixItems", []), new.get("prefixItems", []))
        self._open.discard(references)

    def _plain(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        for keyword in sorted((old.keys() | new.keys()) - _ANNOTATIONS - _STRUCTURE):
            if old.get(keyword) == new.get(keyword):
                continue
            is_own_version = keyword == "default" and where.endswith(".schema_version")
            yield Change(
                where,
                f"{keyword} was {old.get(keyword, 'absent')}, is {new.get(keyword, 'absent')}",
                not is_own_version,
            )

    def _enumeration(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        if ("enum" in old) != ("enum" in new):
            yield Change(where, "became an enumeration" if "enum" in new else "is no enumeration any more", True)
            return
        for value in [v for v in old.get("enum", []) if v not in new.get("enum", [])]:
            yield Change(where, f"value {value} removed", True)
        for value in [v for v in new.get("enum", []) if v not in old.get("enum", [])]:
            yield Change(where, f"value {value} added: readers of the version before park it", True)

    def _alternatives(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        before, after = old.get("anyOf", []), new.get("anyOf", [])
        if len(before) != len(after):
            yield Change(where, f"{len(before)} alternatives became {len(after)}", True)
            return
        for one, other in zip(before, after, strict=True):
            yield from self.schema(where, one, other)

    def _properties(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        was_required, is_required = set(old.get("required", [])), set(new.get("required", []))
        for name in sorted(before.keys() - after.keys()):
            yield Change(f"{where}.{name}", "field removed", True)
        for name in sorted(after.keys() - before.keys()):
            yield Change(
                f"{where}.{name}",
                "required field added" if name in is_required else "optional field added",
                name in is_required,
            )
        for name in sorted(before.keys() & after.keys()):
            if (name in was_required) != (name in is_required):
                yield Change(f"{where}.{name}", "became required" if name in is_required else "became optional", True)
            yield from self.schema(f"{where}.{name}", before[name], after[name])

    def _nested(self, where: str, keyword: str, old: Any, new: Any) -> Iterator[Change]:
        if isinstance(old, dict) and isinstance(new, dict):
            yield from self.schema(f"{where}[]", old, new)
        elif old != new:
            yield Change(where, f"{keyword} changed", True)

    def _fixed_items(self, where: str, old: list[Schema], new: list[Schema]) -> Iterator[Change]:
        if len(old) != len(new):
            yield Change(where, f"{len(old)} fixed items became {len(new)}", True)
            return
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from self.schema(f"{where}[{index}]", one, other)


def _resolve(document: dict[str, Any], schema: Schema) -> Schema:
    """Follow a local reference; keywords beside it stay."""
    while "$ref" in schema:
        target: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema
