"""`hub whatif`: which stored messages other rules or another model would send elsewhere. Nothing is written."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress

from cli.hub import opened_store
from cli.settings import load_settings
from cli.terminal import Terminal, run
from shared.mongo import Document, store_errors

if TYPE_CHECKING:
    from services.router.offline import Line

FIELDS = ("category", "urgency", "ward")
_PROJECTION = dict.fromkeys(("text", "page", "location", "sent_at"), 1)


def whatif(
    rules: Annotated[
        Path | None, typer.Option(help="Another data folder: rules, gazetteer, directory.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Another model by its name.", show_default=False)] = None,
    examples: Annotated[int, typer.Option(min=0, max=100, help="Ids to list for each difference.")] = 3,
    show_text: Annotated[bool, typer.Option("--show-text", help="Also print the texts of citizens.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """Read every stored message with the rules and model in use and with the others, and list what would change.

    Each message is read alone, without the bubbles around it. Run it before a promotion; it only reads.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _whatif(terminal, rules, model, examples, show_text=show_text))


async def _whatif(terminal: Terminal, rules: Path | None, model: str | None, examples: int, *, show_text: bool) -> None:
    from services.router.offline import BATCH, OfflineRouter, as_line  # noqa: PLC0415 - loads the model, for one command

    settings = load_settings()
    now = OfflineRouter(settings.data_dir, is_merged=False)
    then = OfflineRouter(rules or settings.data_dir, model, is_merged=False)
    counts: Counter[tuple[str, str, str]] = Counter()
    shown: dict[tuple[str, str, str], list[Document]] = {}
    read = 0
    async with opened_store(settings) as store:
        with store_errors(), Progress(console=terminal.err, transient=True) as bar:
            total = await store["messages"].count_documents({})
            task = bar.add_task("reading", total=total)
            found = store["messages"].find({}, _PROJECTION)
            while documents := await found.to_list(BATCH):
                read += len(documents)
                bar.advance(task, len(documents))
                lines = [_line(document) for document in documents]
                answers = ([*map(as_line, lines, router.understand_all(lines))] for router in (now, then))
                for document, before, after in zip(documents, *answers, strict=True):
                    for field in FIELDS:
                        if before[field] != after[field]:
                            change = (field, str(before[field]), str(after[field]))
                            counts[change] += 1
                            kept = shown.setdefault(change, [])
                            if len(kept) < examples:
                                text = {"text": document["text"]} if show_text else {}
                                kept.append({"id": document["_id"], **text})
    rows: list[dict[str, Any]] = [
        {"field": field, "from": old, "to": new, "messages": count, "examples": shown[field, old, new]}
        for (field, old, new), count in counts.most_common()
    ]
    if terminal.as_json:
        terminal.document({"read": read, "changes": rows})
        return
    terminal.say(f"{read} messages read, {sum(counts.values())} differences")
    terminal.table(
        ("what", "now", "then", "messages", "such as"),
        [(r["field"], r["from"], r["to"], r["messages"], _first(r["examples"])) for r in rows],
    )
    for row in rows if show_text else ():
        for example in row["examples"]:
            terminal.say(f"[dim]{example['id'][:12]}[/dim] {escape(example['text'])}")


def _line(document: Document) -> "Line":
    from services.router.offline import Line  # noqa: PLC0415 - see above

    place = document.get("location")
    return Line.model_validate(
        {
            "id": document["_id"],
            "text": document["text"],
            "page": document["page"],
            "location": {"lat": place["latitude"], "lon": place["longitude"]} if place else None,
            "sent_at": document["sent_at"],
        }
    )


def _first(examples: list[Document]) -> str:
    return ", ".join(str(example["id"])[:12] for example in examples)
