"""`hub case` and `hub cases`: a case's whole story, the queue of a unit, an officer's answer."""

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.hub import opened_publisher, opened_store
from cli.settings import CliSettings, load_settings
from cli.story import Bar, StoryLine, episodes, tell, waterfall
from cli.terminal import LOCAL, Terminal, run, seconds_as_text, when
from cli.window import Window, read_window_rule, window_of
from shared import topics
from shared.case_codes import CodeSearch, code_search, load_case_code_prefix
from shared.collections import chosen_language, contacts_of_person
from shared.directory import load_directory
from shared.errors import ConfigurationError
from shared.events import OfficerActed
from shared.ids import citizen_key, deterministic_id
from shared.mongo import Binary, Document, Store, store_errors

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
MAX_ROWS = 1_000
MAX_REPLY_CHARACTERS = 2_000


def show(
    code: Annotated[str, typer.Argument(help="The case's code, such as Q12-261124-0042, or a number of today: 0042.")],
    trace: Annotated[
        bool, typer.Option("--trace", help="Also draw each message's way through the services as a waterfall.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the whole story of a case in order of time, with every reason code.

    Messages, readings, the unit and why, attachments, replies with each attempt to send them, receipts, what officers
    did, and what could not be handled. The texts of the citizen are shown: run it where only officers look.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _show(terminal, code, trace=trace))


async def _show(terminal: Terminal, typed: str, *, trace: bool) -> None:
    settings = load_settings()
    meant = _meant(settings, typed)
    async with opened_store(settings) as store:
        case = await find_case(store, meant)
        code = case["code"]
        messages = await _rows(store, "messages", {"case_code": code}, "sent_at")
        message_ids = [message["_id"] for message in messages]
        key = case_citizen_key(case)
        story = tell(
            messages=messages,
            replies=await _rows(store, "reply_ledger", {"case_code": code}, "requested_at"),
            entries=await _rows(store, "case_entries", {"case_code": code}, "at"),
            attachments=await _rows(store, "attachments", {"message_event_id": {"$in": message_ids}}, "_id"),
            reports=await _rows(store, "delivery_reports", {"citizen_key": key}, "reported_at"),
            dead_letters=await _rows(store, "dead_letters", {"key": Binary(key.encode())}, "first_at"),
        )
        traces = await _traces(store, messages) if trace else []
        language = chosen_language(await contacts_of_person(store["contacts"], key))
    if terminal.as_json:
        terminal.document(
            {
                "case": case,
                "unit_name": unit_name(settings, case.get("unit")),
                "language": language,
                "story": [line.as_json() for line in story],
                **({"traces": [asdict(episode) for episode in traces]} if trace else {}),
            }
        )
        return
    _print_head(terminal, settings, case, language)
    for line in story:
        _print_line(terminal, line)
    for episode in traces:
        _print_waterfall(terminal, episode)
    if trace and not traces:
        terminal.say("[dim]no traces are kept (they are deleted after a week)[/dim]")


async def _rows(store: Store, collection: str, query: Document, order: str) -> list[Document]:
    with store_errors():
        return await store[collection].find(query).sort([(order, 1)]).limit(MAX_ROWS).to_list(MAX_ROWS)


@dataclass(frozen=True)
class Episode:
    """A part of one message's trace in which things followed each other closely."""

    trace_id: str
    started_at: datetime
    bars: list[Bar]


async def _traces(store: Store, messages: list[Document]) -> list[Episode]:
    trace_ids = dict.fromkeys(message["correlation_id"] for message in messages if message.get("correlation_id"))
    found = []
    for trace_id in trace_ids:
        spans = await _rows(store, "trace_spans", {"trace_id": trace_id}, "started_at")
        found += [
            Episode(trace_id, min(span["started_at"] for span in part), waterfall(part)) for part in episodes(spans)
        ]
    return found


def _print_head(terminal: Terminal, settings: CliSettings, case: Document, language: str | None) -> None:
    state = "[green]open[/green]" if case.get("is_open") else "[dim]closed[/dim]"
    stage = str(case.get("state") or "")
    terminal.say(f"[bold]{escape(case['code'])}[/bold] {state} {'' if stage == 'closed' else escape(stage)}".rstrip())
    unit = case.get("unit")
    terminal.say(f"unit      {escape(unit_name(settings, unit))} [dim]{escape(str(unit))}[/dim]")
    what = " / ".join(str(case[name]) for name in ("category", "subtopic") if case.get(name))
    terminal.say(f"category  {escape(what)}, urgency {escape(str(case.get('urgency', '-')))}")
    terminal.say(f"deadline  {when(case.get('due_at'))}{_overdue(case)}")
    terminal.say(f"opened    {when(case.get('opened_at'))}, last message {when(case.get('last_message_at'))}")
    terminal.say(f"citizen   {escape(case_citizen_key(case))} on page {escape(str(case.get('page', '-')))}")
    if language is not None:
        terminal.say(f"language  {escape(language)}, chosen by the citizen")
    terminal.say()


def _overdue(case: Document) -> str:
    due_at = case.get("due_at")
    if not case.get("is_open") or due_at is None:
        return ""
    left = (due_at - datetime.now(UTC)).total_seconds()
    return f" [red](over by {seconds_as_text(-left)})[/red]" if left < 0 else f" (in {seconds_as_text(left)})"


def _print_line(terminal: Terminal, line: StoryLine) -> None:
    colour = {"citizen": "cyan", "officer": "magenta", "machine": "green"}.get(line.who, "white")
    at = line.at.astimezone(LOCAL).strftime("%d/%m %H:%M:%S.%f")[:-3]
    terminal.say(f"[dim]{at}[/dim] [{colour}]{escape(line.who):<9}[/{colour}] {escape(line.what)}")
    indent = " " * 29
    for text in line.text.splitlines():
        terminal.say(f"{indent}[bold]{escape(text)}[/bold]")
    if line.reasons:
        terminal.say(f"{indent}[yellow]{escape(', '.join(line.reasons))}[/yellow]")
    if line.details:
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in line.details.items())
        terminal.say(f"{indent}[dim]{escape(shown)}[/dim]")


def _shown(value: Any) -> str:
    return when(value) if isinstance(value, datetime) else str(value)


def _print_waterfall(terminal: Terminal, episode: Episode) -> None:
    total = max(bar.start_ms + bar.duration_ms for bar in episode.bars)
    terminal.say()
    terminal.say(f"[bold]trace {episode.trace_id}[/bold] from {when(episode.started_at)}, {total:.1f} ms")
    for bar in episode.bars:
        name = f"{'  ' * bar.depth}{bar.name}"
        terminal.say(
            f"  [cyan]{bar.drawing}[/cyan] {bar.start_ms:>7.1f} +{bar.duration_ms:>6.1f} ms  "
            f"[dim]{escape(bar.service):<9}[/dim]{escape(name)}"
        )


def list_(
    code: Annotated[
        str | None,
        typer.Argument(help="Only cases with this code, its beginning, or this number of today.", show_default=False),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Only of this unit (slug).", show_default=False)] = None,
    only_open: Annotated[
        bool | None,
        typer.Option(
            "--open/--all", help="Only open cases, or closed ones too; with a code all, else open.", show_default=False
        ),
    ] = None,
    citizen: Annotated[str | None, typer.Option(help="Only of this citizen, as OA:USER.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_ROWS)] = 50,
    as_json: AsJson = False,
) -> None:
    """List cases as officers work on them: emergencies first, then by deadline."""
    terminal = Terminal(as_json=as_json)
    only_open = code is None if only_open is None else only_open
    run(terminal, _list(terminal, code, unit, citizen, only_open=only_open, limit=limit))


async def _list(
    terminal: Terminal, typed: str | None, unit: str | None, citizen: str | None, *, only_open: bool, limit: int
) -> None:
    settings = load_settings()
    if unit is not None:
        _require_unit(settings, unit)
    query: Document = {"unit": unit, "citizen_key": citizen}
    if typed is not None:
        query["code"] = _code_query(_meant(settings, typed))
    query = {name: value for name, value in query.items() if value is not None}
    if only_open:
        query["is_open"] = True
    async with opened_store(settings) as store:
        with store_errors():
            order = [("priority", 1), ("due_at", 1)] if only_open else [("last_message_at", -1)]
            cases = await store["cases"].find(query).sort(order).limit(limit).to_list(limit)
            total = await store["cases"].count_documents(query, limit=100_000)
    if terminal.as_json:
        terminal.document({"total": total, "items": cases})
        return
    if not cases:
        terminal.say("no cases" + (" that are open" if only_open else ""))
        return
    terminal.table(
        ("code", "unit", "urgency", "category", "due", "last message", "state"),
        [
            (
                case["code"],
                case.get("unit"),
                case.get("urgency"),
                " / ".join(str(case[name]) for name in ("category", "subtopic") if case.get(name)),
                _due(case),
                when(case.get("last_message_at")),
                case.get("state") or ("open" if case.get("is_open") else "closed"),
            )
            for case in cases
        ],
    )
    terminal.say(f"[dim]{len(cases)} of {total}. `hub case show CODE` tells the story of one.[/dim]")


def _due(case: Document) -> str:
    due_at = case.get("due_at")
    if due_at is None or not case.get("is_open"):
        return when(due_at)
    left = (due_at - datetime.now(UTC)).total_seconds()
    return f"OVER by {seconds_as_text(-left)}" if left < 0 else f"in {seconds_as_text(left)}"


def reply(
    code: Annotated[str, typer.Argument(help="The case's whole code; a bare number could be another day's.")],
    text: Annotated[str, typer.Argument(help="What the citizen gets to read; at most 2,000 characters.")],
    officer: Annotated[
        str | None, typer.Option(help="Who answers; without it HUB_OFFICER.", show_default=False)
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="The answer ends the matter.")] = False,
    request_id: Annotated[
        str | None,
        typer.Option(help="Your own key of this answer, where the same text is to be sent twice.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer a citizen as an officer; the case's page, window and history are checked first.

    Running it twice sends once: the same officer's same text to the same case is one answer until the citizen writes
    again. With another --request-id it is sent again.
    """
    terminal = Terminal(as_json=as_json)
    run(
        terminal,
        _reply(terminal, code, text.strip(), officer=officer, close=close, request_id=request_id, dry_run=dry_run),
    )


async def _reply(
    terminal: Terminal,
    typed: str,
    text: str,
    *,
    officer: str | None,
    close: bool,
    request_id: str | None,
    dry_run: bool,
) -> None:
    settings = load_settings()
    officer = officer or settings.officer
    if not officer:
        raise CommandError(
            "officer_missing",
            "Nobody answers anonymously: the history names the officer.",
            "Pass --officer NAME, or set HUB_OFFICER.",
            exit_code=ExitCode.USAGE,
        )
    if not 0 < len(text) <= MAX_REPLY_CHARACTERS:
        raise CommandError(
            "text_length",
            f"The text has {len(text)} characters; Zalo takes 1 to {MAX_REPLY_CHARACTERS}.",
            "Shorten it, or send it in parts.",
            exit_code=ExitCode.USAGE,
        )
    meant = _meant(settings, typed)
    if len(meant.codes) != 1:
        raise _not_a_code(typed)
    async with opened_store(settings) as store:
        case = await find_case(store, meant)
        code = case["code"]
        newest = await _newest_message(store, code)
        window = await _window(store, settings, case, newest)
    event = OfficerActed(
        action="reply",
        event_id=reply_id(code, officer, text, request_id or (newest["_id"] if newest else "no-message")),
        occurred_at=datetime.now(UTC),
        correlation_id=_correlation_id(case, newest),
        page=case["page"],
        oa_id=case["oa_id"],
        user_id=case["user_id"],
        user_id_by_app=case.get("user_id_by_app"),
        case_code=code,
        officer=officer,
        text=text,
        closes_case=close,
    )
    if not terminal.as_json:
        terminal.say(_window_in_words(window))
    if window.state in {"closed", "withdrawn"}:
        raise CommandError(
            f"window_{window.state}",
            "Zalo would refuse this answer: "
            + (
                "the citizen has not written for too long."
                if window.state == "closed"
                else "the citizen asked to be forgotten."
            ),
            "Reach the citizen in another way; when they write again, the window is open again.",
            exit_code=ExitCode.REFUSED,
        )
    if not dry_run:
        async with opened_publisher(settings) as publisher:
            await publisher.publish(topics.OFFICER_ACTIONS, event)
    if terminal.as_json:
        terminal.document({"published": not dry_run, "event_id": event.event_id, "window": vars(window)})
    elif dry_run:
        terminal.say(f"[yellow]nothing was sent[/yellow] (the answer's id would be {event.event_id})")
    else:
        terminal.say(
            f"[green]✓[/green] handed over as {event.event_id[:12]}; "
            f"`hub case show {escape(code)}` shows what becomes of it"
        )


def reply_id(code: str, officer: str, text: str, request_id: str) -> str:
    """Id of an officer's answer: pressing twice makes the same one."""
    return deterministic_id("officer_reply", code, officer, text, request_id)


def _correlation_id(case: Document, newest: Document | None) -> str:
    return str((newest or {}).get("correlation_id") or case.get("correlation_id") or case["_id"])


async def _newest_message(store: Store, code: str) -> Document | None:
    with store_errors():
        found = await store["messages"].find({"case_code": code}).sort([("sent_at", -1)]).limit(1).to_list(1)
    return found[0] if found else None


async def _window(store: Store, settings: CliSettings, case: Document, newest: Document | None) -> Window:
    now = datetime.now(UTC)
    with store_errors():
        contact = await store["contacts"].find_one({"_id": case_citizen_key(case)}) or {}
    known = [at for at in (contact.get("last_interaction_at"), (newest or {}).get("sent_at")) if at is not None]
    rule = read_window_rule(settings.data_dir, now.astimezone(LOCAL).date())
    return window_of(max(known, default=None), contact.get("withdrawn_at"), rule=rule, now=now)


def _window_in_words(window: Window) -> str:
    last = f"last heard of {when(window.last_interaction_at)}"
    match window.state:
        case "free":
            return f"[green]window open[/green], free until {when(window.ends_at)}; {last}"
        case "paid":
            return f"[yellow]window open, but the message costs[/yellow]; until {when(window.ends_at)}; {last}"
        case "unknown":
            return "[yellow]window unknown[/yellow]: no interaction of this citizen is stored; Zalo decides"
        case other:
            return f"[red]window {other}[/red]; {last}"


def _meant(settings: CliSettings, typed: str) -> CodeSearch:
    """Which cases the operator means.

    Raises:
        CommandError: that is no code, no beginning of one and no number.
    """
    today = datetime.now(LOCAL).date()
    meant = code_search(typed, today=today, prefix=load_case_code_prefix(settings.data_dir))
    if meant is None:
        raise _not_a_code(typed)
    return meant


def _code_query(meant: CodeSearch) -> Document:
    return {"$in": list(meant.codes)} if meant.codes else {"$regex": f"^{re.escape(meant.prefix)}"}


def _not_a_code(typed: str) -> CommandError:
    return CommandError(
        "code_malformed",
        f"{typed!r} is no case code.",
        "A code looks like Q12-261124-0042. `hub cases list` shows them.",
        exit_code=ExitCode.USAGE,
    )


async def find_case(store: Store, meant: CodeSearch) -> Document:
    """The one case that is meant.

    Raises:
        CommandError: there is none, or only the beginning of a code was typed.
    """
    if not meant.codes:
        raise _not_a_code(meant.prefix)
    with store_errors():
        found = await store["cases"].find({"code": _code_query(meant)}).sort([("code", -1)]).limit(1).to_list(1)
    if not found:
        raise CommandError(
            "case_not_found",
            f"There is no case {' and no '.join(meant.codes)}.",
            "`hub cases list --all` shows them.",
            exit_code=ExitCode.NOT_FOUND,
        )
    return found[0]


def case_citizen_key(case: Document) -> str:
    """Key of the case's citizen."""
    return str(case.get("citizen_key") or citizen_key(case["oa_id"], case["user_id"]))


def _require_unit(settings: CliSettings, slug: str) -> None:
    """A mistyped unit must not look like a quiet one.

    Raises:
        CommandError: the directory knows no such unit, at no time.
    """
    try:
        slugs = {unit.slug for unit in load_directory(settings.data_dir).units}
    except ConfigurationError:
        return
    if slug not in slugs:
        close = get_close_matches(slug, sorted(slugs), n=1)
        raise CommandError(
            "unit_unknown",
            f"There is no unit {slug!r}.",
            f"Did you mean {close[0]}?" if close else f"Use one of {', '.join(sorted(slugs))}.",
            exit_code=ExitCode.NOT_FOUND,
        )


def unit_name(settings: CliSettings, slug: str | None) -> str:
    """A unit as people call it; its slug where the directory does not know it."""
    if slug is None:
        return "-"
    try:
        units = load_directory(settings.data_dir).units
    except ConfigurationError:
        return slug
    return next((unit.name for unit in units if unit.slug == slug), slug)
