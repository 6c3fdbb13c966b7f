"""The story of a case, put together from what each service keeps of it. Pure: documents in, lines out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class StoryLine:
    """One thing that happened.

    Attributes:
        at: when, aware UTC.
        who: `citizen`, `machine`, `officer`, `zalo` or the service that noted it.
        what: a fact in a few words, such as `message` or `reply sent`.
        text: what was said; an officer runs this, so it is shown.
        reasons: every reason code that was kept with it.
        details: other values worth a look.
    """

    at: datetime
    who: str
    what: str
    text: str = ""
    reasons: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> Document:
        """For machines."""
        return {**vars(self), "reasons": list(self.reasons)}


def tell(
    *,
    messages: Iterable[Document] = (),
    replies: Iterable[Document] = (),
    entries: Iterable[Document] = (),
    reports: Iterable[Document] = (),
    attachments: Iterable[Document] = (),
    dead_letters: Iterable[Document] = (),
) -> list[StoryLine]:
    """Everything in the order in which it happened; at one moment, causes come before what they caused."""
    lines = [
        *(line for message in messages for line in _of_message(message)),
        *(_of_attachment(attachment) for attachment in attachments),
        *(_of_entry(entry) for entry in entries),
        *(line for reply in replies for line in _of_reply(reply)),
        *(_of_report(report) for report in reports if report.get("admin_id")),
        *(_of_dead_letter(letter) for letter in dead_letters),
    ]
    return sorted(lines, key=lambda line: line.at)


_MESSAGE_KNOWN = frozenset(
    {
        *("_id", "citizen_key", "text", "sent_at", "received_at", "case_code", "case_id", "page", "oa_id", "user_id"),
        *("user_id_by_app", "channel", "schema_version", "occurred_at", "correlation_id", "traceparent", "attachments"),
        *("original_text", "message_id", "conversation_id", "matter", "event_id", "decided_at"),
        # What the router was about to do; the case's history and the ledger tell what it did.
        *("plan", "small_talk_key"),
        *("kind", "location", "text_was_cut", "quoted_message_id"),
    }
)


def _of_message(message: Document) -> list[StoryLine]:
    said = StoryLine(
        message["sent_at"],
        "citizen",
        str(message.get("kind", "message")),
        str(message.get("text") or ""),
        details=_present(
            {
                "message_id": message.get("message_id"),
                "attachments": len(message.get("attachments") or ()),
                "location": message.get("location"),
                "text_was_cut": message.get("text_was_cut") or None,
            }
        ),
    )
    decided = decision_of(message)
    at = message.get("decided_at") or message.get("received_at") or message["sent_at"]
    return [said, StoryLine(at, "router", "decision", reasons=reasons_in(decided), details=_flat(decided))]


def _of_reply(reply: Document) -> list[StoryLine]:
    who = "officer" if reply.get("origin") == "officer" else "machine"
    content = reply.get("content") or {}
    lines = [
        StoryLine(
            reply["requested_at"],
            who,
            "reply asked for",
            str(content.get("text") or ""),
            details=_present(
                {
                    "reply": reply["_id"],
                    "template": reply.get("template"),
                    "buttons": len(content.get("buttons") or ()),
                    "state": reply["state"],
                }
            ),
        )
    ]
    lines += [
        StoryLine(
            attempt.get("ended_at") or attempt["started_at"],
            "notifier",
            f"attempt {attempt['number']}: {attempt.get('outcome', 'unknown')}",
            reasons=reasons_in(attempt),
            details=_present({"reply": reply["_id"][:12], "why": attempt.get("why")}),
        )
        for attempt in reply.get("attempts") or ()
    ]
    if reply["state"] in {"failed", "uncertain"}:
        at = reply.get("finished_at") or reply.get("uncertain_at") or reply["requested_at"]
        lines.append(StoryLine(at, "notifier", f"reply {reply['state']}", reasons=reasons_in(reply)))
    for name, what in (("echoed_at", "echo"), ("received_at", "received"), ("seen_at", "seen")):
        if reply.get(name) is not None:
            lines.append(StoryLine(reply[name], "zalo", what, details={"reply": reply["_id"][:12]}))
    return lines


_ENTRY_KNOWN = frozenset(
    {"_id", "case_id", "case_code", "at", "kind", "by", "text", "reasons", "event_id", "changes", "details"}
)


def _change(old: Any, new: Any) -> Any:
    return _moment(new) if old is None else f"{_moment(old)} → {'-' if new is None else _moment(new)}"


def _moment(value: Any) -> Any:
    """A history keeps moments as texts; they are moments again here, so that they are shown like all others."""
    if not isinstance(value, str) or not value[:4].isdigit() or "T" not in value:
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return value


def _of_entry(entry: Document) -> StoryLine:
    changes = {
        str(change["field"]): _change(change.get("from"), change.get("to")) for change in entry.get("changes", ())
    }
    rest = {name: value for name, value in entry.items() if name not in _ENTRY_KNOWN} | (entry.get("details") or {})
    return StoryLine(
        entry["at"],
        str(entry.get("by") or "router"),
        str(entry.get("kind", "entry")),
        str(entry.get("text") or (entry.get("details") or {}).get("text") or ""),
        reasons_in(entry),
        changes | _flat(rest),
    )


def _of_report(report: Document) -> StoryLine:
    return StoryLine(
        report["reported_at"],
        "zalo",
        "written by a person in Zalo's own tool",
        details=_present({"admin_id": report.get("admin_id"), "message_id": report.get("message_id")}),
    )


def _of_attachment(attachment: Document) -> StoryLine:
    at = next(
        attachment[k] for k in ("fetched_at", "finished_at", "noted_at", "due_at", "sent_at") if attachment.get(k)
    )
    names = ("kind", "state", "name", "content_type", "size_bytes", "sha256", "attempts")
    return StoryLine(
        at,
        "intake",
        f"attachment {attachment.get('state', '')}".rstrip(),
        reasons=reasons_in(attachment),
        details=_present({name: attachment.get(name) for name in names}),
    )


def _of_dead_letter(letter: Document) -> StoryLine:
    return StoryLine(
        letter["first_at"],
        str(letter["service"]),
        f"event parked, {letter['state']}",
        reasons=(str(letter["reason"]),),
        details={"dead_letter": letter["_id"][:12], "topic": letter["topic"], "error": letter["error"]},
    )


def decision_of(message: Document) -> Document:
    """What the router decided about a message, without the message itself."""
    return {name: value for name, value in message.items() if name not in _MESSAGE_KNOWN}


def reasons_in(value: Any) -> tuple[str, ...]:
    """Every reason code anywhere in a document, in order, once: under `reason`, `reasons`, `doubts`."""
    found: dict[str, None] = {}
    _collect(value, found)
    return tuple(found)


def _collect(value: Any, found: dict[str, None]) -> None:
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        match inner:
            case str() if name == "reason":
                found[inner] = None
            case list() | tuple() if name in {"reasons", "doubts"}:
                for one in inner:
                    found[one["code"] if isinstance(one, dict) and "code" in one else str(one)] = None
            case dict():
                _collect(inner, found)
            case _:
                pass


def _present(values: Document) -> Document:
    return {name: value for name, value in values.items() if value not in (None, 0, "", [], ())}


def _flat(values: Document, prefix: str = "") -> Document:
    """Nested values under dotted names, without the reasons, which stand by themselves."""
    flat: Document = {}
    for name, value in values.items():
        if name in {"reason", "reasons", "doubts"} or value in (None, "", [], {}, False):
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{name}"] = ", ".join(map(str, value)) if all(_is_plain(v) for v in value) else len(value)
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


@dataclass(frozen=True)
class Bar:
    """One row of a waterfall."""

    service: str
    name: str
    start_ms: float
    duration_ms: float
    depth: int
    drawing: str


EPISODE_GAP_NS = 2_000_000_000


def episodes(spans: Sequence[Document]) -> list[list[Document]]:
    """Cut a trace where nothing happened for two seconds, such as until an officer answered.

    On one scale the pauses between people would leave nothing to see of the milliseconds between machines.
    """
    cut: list[list[Document]] = []
    end_ns = 0.0
    for span in sorted(spans, key=lambda span: float(span["started_ns"])):
        if not cut or span["started_ns"] - end_ns > EPISODE_GAP_NS:
            cut.append([])
        cut[-1].append(span)
        end_ns = max(end_ns, span["started_ns"] + span["duration_ms"] * 1e6)
    return cut


def waterfall(spans: Sequence[Document], *, width: int = 40) -> list[Bar]:
    """Draw the spans of one message: each below the one it came from, from left to right in time.

    Args:
        spans: of one trace, in any order; one whose parent is not kept stands at the top.
        width: characters for the whole time.
    """
    if not spans:
        return []
    begin_ns = min(span["started_ns"] for span in spans)
    end_ns = max(span["started_ns"] + span["duration_ms"] * 1e6 for span in spans)
    scale = width / max(end_ns - begin_ns, 1)
    by_parent: dict[str | None, list[Document]] = {}
    known = {span["span_id"] for span in spans}
    for span in sorted(spans, key=lambda span: (span["started_ns"], span["_id"])):
        parent = span["parent_id"] if span["parent_id"] in known and span["parent_id"] != span["span_id"] else None
        by_parent.setdefault(parent, []).append(span)
    bars: list[Bar] = []

    def draw(parent: str | None, depth: int) -> None:
        for span in by_parent.get(parent, ()):
            offset = int((span["started_ns"] - begin_ns) * scale)
            length = max(1, round(span["duration_ms"] * 1e6 * scale))
            bars.append(
                Bar(
                    span["service"],
                    span["name"],
                    round((span["started_ns"] - begin_ns) / 1e6, 1),
                    span["duration_ms"],
                    depth,
                    (" " * min(offset, width - 1) + "█" * length)[:width].ljust(width),
                )
            )
            draw(span["span_id"], depth + 1)

    draw(None, 0)
    return bars
