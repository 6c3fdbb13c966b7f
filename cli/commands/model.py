"""`hub model`: train, judge, compare, put into use and take back the learned part of understanding."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.settings import load_settings
from cli.terminal import Terminal, run
from services.router.adapters.data_files import load_rules
from services.router.adapters.model_files import current_model, known_models, load_model, point_to, previous_model
from services.router.learning.around import load_around
from services.router.learning.corpus import HeldOut, load_held_out, load_messages
from services.router.learning.evaluation import as_text, evaluate, measures_of, write
from services.router.offline import OfflineRouter
from shared.garbage import collect_less_garbage

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
HeldOutFolder = Annotated[
    Path | None, typer.Option("--held-out", help="Folder of labelled *.jsonl; by default data/understanding/held_out.")
]


def train_(
    promote: Annotated[bool, typer.Option("--promote", help="Put the new model into use at once.")] = False,
    messages: Annotated[
        Path | None,
        typer.Option("--messages", help="Folder of written messages; by default data/understanding/messages."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the model in use is what training gives; 1 if not.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train on the written messages; the same messages and rules give the same model, named after its content."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _train(terminal, messages, is_promoted=promote, is_check=check))


async def _train(terminal: Terminal, messages: Path | None, *, is_promoted: bool, is_check: bool) -> None:
    try:
        from services.router.learning.training import rules_digest, train  # noqa: PLC0415 - only the extra has it
    except ImportError as error:
        raise CommandError(
            "learning_missing",
            f"{error.name} is not installed.",
            "Training needs the extra `learning`; `make venv` installs it.",
            exit_code=ExitCode.CONFIGURATION,
        ) from error
    data_dir = load_settings().data_dir
    examples = load_messages(messages or data_dir / "understanding" / "messages")
    rules = load_rules(data_dir)
    collect_less_garbage()
    trained = train(
        examples,
        rules,
        load_around(data_dir),
        rules_hash=rules_digest(data_dir),
        say=lambda step: terminal.err.print(f"… {step}", markup=False),
    )
    if is_check:
        _check(terminal, trained.name(), current_model(data_dir))
        return
    name = trained.save(data_dir)
    if is_promoted:
        point_to(data_dir, name)
    if terminal.as_json:
        terminal.document({"model": name, "in_use": is_promoted, "card": trained.card.model_dump(mode="json")})
        return
    measured = ", ".join(f"{key} {value:.3f}" for key, value in trained.card.measured.items())
    terminal.say(escape(f"{name}: {len(examples)} messages, {measured}"))
    terminal.say("in use" if is_promoted else f"`hub model promote {name}` puts it into use")


def _check(terminal: Terminal, trained: str, in_use: str) -> None:
    if trained != in_use:
        raise CommandError(
            "model_outdated",
            f"Training gives {trained}, and {in_use} is in use.",
            "Messages, rules or library versions changed since: `hub model train`, then `hub model evaluate`.",
        )
    terminal.say(f"{in_use} is what training gives")


def evaluate_(
    name: Annotated[str | None, typer.Argument(help="Name of a model; the one in use if not given.")] = None,
    held_out: HeldOutFolder = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Keep the report in this file: JSON, or a page if named *.md.")
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Show the texts of the worst errors too, not only their ids.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge a model on held-out messages: classes, confusion, calibration, robustness, layers, worst errors."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _evaluate(terminal, name, held_out, output, with_texts=texts))


async def _evaluate(
    terminal: Terminal, name: str | None, held_out: Path | None, output: Path | None, *, with_texts: bool
) -> None:
    data_dir = load_settings().data_dir
    items = _items(data_dir, held_out)
    report = evaluate(
        items,
        OfflineRouter(data_dir, name),
        load_around(data_dir),
        with_texts=with_texts,
        say=lambda step: terminal.err.print(f"… {step}", markup=False),
    )
    report["model"] = name or current_model(data_dir)
    if output is not None:
        write(report, output)
    if terminal.as_json:
        terminal.document(report)
    else:
        terminal.say(escape(as_text(report)))


def _items(data_dir: Path, folder: Path | None) -> list[HeldOut]:
    where = folder or data_dir / "understanding" / "held_out"
    items = load_held_out(where)
    if not items:
        raise CommandError(
            "held_out_missing",
            f"{where} holds no *.jsonl.",
            "Each line is one labelled message; docs/data-card.md shows the fields.",
            exit_code=ExitCode.NOT_FOUND,
        )
    return items


def compare(
    one: Annotated[str, typer.Argument(help="Name of a model.")],
    other: Annotated[str, typer.Argument(help="Name of another.")],
    held_out: HeldOutFolder = None,
    as_json: AsJson = False,
) -> None:
    """Judge two models on the same held-out messages and list those they read differently."""
    terminal = Terminal(as_json=as_json)
    run(terminal, _compare(terminal, one, other, held_out))


async def _compare(terminal: Terminal, one: str, other: str, held_out: Path | None) -> None:
    data_dir = load_settings().data_dir
    items = _items(data_dir, held_out)
    first, second = (measures_of(items, OfflineRouter(data_dir, name)) for name in (one, other))
    figures = (
        "macro_f1",
        "subtopic_accuracy",
        "ward_accuracy",
        "calibration_error",
        "share_to_person",
        "incidents_by_machine_alone",
    )
    changed: list[dict[str, Any]] = [
        {"id": item.id, "expected": item.expected.category, one: a.reading.category, other: b.reading.category}
        for item, a, b in zip(items, first.judged, second.judged, strict=True)
        if a.reading.category != b.reading.category
    ]
    if terminal.as_json:
        terminal.document({one: first.figures, other: second.figures, "read_differently": changed})
        return
    terminal.table(("figure", one, other), [(key, first.figures[key], second.figures[key]) for key in figures])
    terminal.say(f"{len(changed)} messages read differently")
    terminal.table(("id", "expected", one, other), [tuple(row.values()) for row in changed[:40]])


def promote(
    name: Annotated[str, typer.Argument(help="Name of a trained model.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check that it loads.")] = False,
) -> None:
    """Put a model into use: routers read it when they start next. `hub model rollback` takes it back."""
    terminal = Terminal()
    run(terminal, _promote(terminal, name, is_dry=dry_run))


async def _promote(terminal: Terminal, name: str, *, is_dry: bool) -> None:
    data_dir = load_settings().data_dir
    if name not in known_models(data_dir):
        raise CommandError(
            "model_unknown",
            f"There is no model {name}.",
            f"Known: {', '.join(known_models(data_dir)) or 'none'}.",
            exit_code=ExitCode.NOT_FOUND,
        )
    load_model(data_dir, name)
    if not is_dry:
        point_to(data_dir, name)
    terminal.say(f"{name} " + ("would be in use" if is_dry else "is in use; restart the routers"))


def rollback() -> None:
    """Put the model of before into use again."""
    terminal = Terminal()
    run(terminal, _rollback(terminal))


async def _rollback(terminal: Terminal) -> None:
    data_dir = load_settings().data_dir
    await _promote(terminal, previous_model(data_dir), is_dry=False)
