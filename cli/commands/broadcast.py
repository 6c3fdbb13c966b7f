"""`hub broadcast`: draft, preview, approval by a second person, start, pause, watch."""

import asyncio
import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.api import Api, new_key, opened_api, read_document
from cli.errors import CommandError, ExitCode
from cli.settings import load_settings
from cli.terminal import LOCAL, Terminal, run, seconds_as_text, when

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
As = Annotated[
    str | None, typer.Option("--as", help="Who you are, by the name of your token in this hub.", show_default=False)
]
Id = Annotated[str, typer.Argument(help="The broadcast, as `hub broadcast list` shows it.")]
Note = Annotated[str, typer.Option("--note", help="Why; kept in its history.", show_default=False)]
File = Annotated[
    Path | None, typer.Argument(help="The draft as YAML or JSON; `-` is standard input.", show_default=False)
]

STATES = ("draft", "approved", "scheduled", "running", "paused", "done", "cancelled")
OVER = frozenset({"done", "cancelled"})
_COLOURS = {"running": "green", "paused": "yellow", "cancelled": "red", "done": "bold"}
LOOK_SECONDS = 1.0
MOMENTS = ("%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M", "%H:%M")


# What is sent, from a file or from options: also for `hub send --dry-run`.

Title = Annotated[str | None, typer.Option(help="For our own lists; no citizen sees it.", show_default=False)]
Unit = Annotated[str | None, typer.Option(help="The unit that speaks.", show_default=False)]
Text = Annotated[str | None, typer.Option(help="The message.", show_default=False)]
ToUnit = Annotated[
    list[str] | None, typer.Option("--to-unit", help="Only pages of this unit; repeatable.", show_default=False)
]
Ward = Annotated[
    list[str] | None, typer.Option("--ward", help="Only who chose this area; repeatable.", show_default=False)
]
Topic = Annotated[
    list[str] | None, typer.Option("--topic", help="Subject; who chose others is left out.", show_default=False)
]
Language = Annotated[
    list[str] | None,
    typer.Option("--language", help="Only who chose it, vi or en; who chose none is vi.", show_default=False),
]
Tag = Annotated[
    list[str] | None, typer.Option("--tag", help="Only with this Zalo tag; repeatable.", show_default=False)
]
Within = Annotated[
    float | None, typer.Option("--within-hours", help="Only who wrote or pressed a button lately.", show_default=False)
]
FollowersOnly = Annotated[bool, typer.Option("--followers-only", help="Leave out who does not follow the page.")]
Emergency = Annotated[
    bool, typer.Option("--emergency", help="People are in danger now: no quiet hours, no personal cap.")
]
Pays = Annotated[bool, typer.Option("--pays", help="Also use ways that cost something.")]


def a_draft(
    file: Path | None,
    *,
    title: str | None,
    unit: str | None,
    text: str | None,
    to_unit: list[str] | None,
    ward: list[str] | None,
    topic: list[str] | None,
    language: list[str] | None,
    tag: list[str] | None,
    within_hours: float | None,
    followers_only: bool,
    emergency: bool,
    pays: bool,
) -> dict[str, Any]:
    """A draft as the API takes it: a file, and over it what the options say.

    Raises:
        CommandError: there is nothing to send.
    """
    draft: dict[str, Any] = {}
    if file is not None:
        draft = read_document(file, _content_of(file))
    given = {"title": title, "unit": unit, "is_emergency": emergency or None, "pays": pays or None}
    draft |= {name: value for name, value in given.items() if value is not None}
    if text is not None:
        draft["content"] = {"message": {"text": text}}
    filters = {
        "units": to_unit,
        "wards": ward,
        "topics": topic,
        "languages": language,
        "tags": tag,
        "interacted_within_hours": within_hours,
        "followers_only": followers_only or None,
    }
    wanted = {name: value for name, value in filters.items() if value}
    if wanted:
        draft["audience"] = {**(draft.get("audience") or {}), **wanted}
    if missing := [name for name in ("unit", "content") if not draft.get(name)]:
        raise CommandError(
            "draft_incomplete",
            f"A draft needs {' and '.join(missing)}.",
            'Give a file, or `--unit tan-chanh-hiep --text "…"`. docs/broadcasts.md shows a whole draft.',
            exit_code=ExitCode.USAGE,
        )
    return draft


def _content_of(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise CommandError(
            "file_unreadable", f"{file} cannot be read ({what}).", "Name a file that is there, or `-`.",
            exit_code=ExitCode.USAGE,
        ) from error  # fmt: skip


def draft(
    file: File = None,
    title: Title = None,
    unit: Unit = None,
    text: Text = None,
    to_unit: ToUnit = None,
    ward: Ward = None,
    topic: Topic = None,
    language: Language = None,
    tag: Tag = None,
    within_hours: Within = None,
    followers_only: FollowersOnly = False,
    emergency: Emergency = False,
    pays: Pays = False,
    replaces: Annotated[
        str | None, typer.Option("--replaces", help="Change this draft instead of making one.", show_default=False)
    ] = None,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Keep a draft, from a file, from options, or from a file with options over it. Nothing is sent.

    Whoever writes or changes a draft is its author and cannot approve it.
    """
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        content = a_draft(
            file, title=title, unit=unit, text=text, to_unit=to_unit, ward=ward, topic=topic, language=language,
            tag=tag, within_hours=within_hours, followers_only=followers_only, emergency=emergency, pays=pays,
        )  # fmt: skip
        content.setdefault("title", (text or "").strip()[:60] or "Không đề")
        async with opened_api(load_settings(), person) as api:
            if replaces is None:
                made = await api.post("/v1/broadcasts", content, key=new_key())
            else:
                known = await api.get(_path(replaces))
                made = await api.put(_path(replaces, "draft"), {"draft": content, "version": known["version"]})
        _said(terminal, made, f"draft {made['id']} kept", f"hub broadcast preview {made['id']}")

    run(terminal, work())


def preview(id: Id, person: As = None, as_json: AsJson = False) -> None:
    """Count who would get it now, who would not, and why. The counts are kept: an approval rests on them."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            with terminal.step("counting"):
                made = await api.post(_path(id, "preview"))
        if not terminal.as_json:
            show_forecast(terminal, made["preview"]["forecast"])
            terminal.say()
        _said(terminal, made, f"preview of {id} kept", f"a second person: hub broadcast approve {id} --as NAME")

    run(terminal, work())


def approve(
    id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; you have read it elsewhere.")] = False,
    note: Note = "",
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Agree, as the second person, to what is sent and to whom. Shows both and asks."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            known = await api.get(_path(id))
            if not yes:
                if known["state"] == "draft" and known["preview"] is None:
                    raise CommandError(
                        "broadcast.not_previewed",
                        "Nobody has counted yet who would get this draft.",
                        f"`hub broadcast preview {id}` counts; an approval rests on the counts.",
                        exit_code=ExitCode.REFUSED,
                    )
                _show(terminal, known)
                if terminal.as_json or not sys.stdin.isatty():
                    raise CommandError(
                        "not_confirmed",
                        "Nobody is there to be asked.",
                        "Read it with `hub broadcast show`, then repeat this with --yes.",
                        exit_code=ExitCode.USAGE,
                    )
                if not typer.confirm("Send this to these people?"):
                    raise typer.Exit(ExitCode.REFUSED)
            made = await api.post(_path(id, "approve"), {"digest": known["digest"], "note": note})
        _said(terminal, made, f"{id} approved by {made['approved_by']}", f"hub broadcast start {id}")

    run(terminal, work())


def schedule(
    id: Id,
    at: Annotated[
        str, typer.Option("--at", help='Vietnam\'s time: "2026-11-28 07:30", "28/11/2026 07:30" or "07:30".')
    ],
    note: Note = "",
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Let it start at a moment."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        moment = a_moment(at, datetime.now(LOCAL))
        async with opened_api(load_settings(), person) as api:
            made = await api.post(_path(id, "schedule"), {"starts_at": moment.isoformat(), "note": note})
        _said(terminal, made, f"{id} starts on {when(moment)}", f"hub broadcast watch {id}")

    run(terminal, work())


def start(id: Id, note: Note = "", person: As = None, as_json: AsJson = False) -> None:
    """Let it start now; in quiet hours it waits for their end, unless it is an emergency."""
    _act(id, "start", note, person, as_json, f"hub broadcast watch {id}")


def pause(id: Id, note: Note = "", person: As = None, as_json: AsJson = False) -> None:
    """Begin no further copies. What is in flight ends, and `hub broadcast watch` tells how many that are."""
    _act(id, "pause", note, person, as_json, f"hub broadcast resume {id}")


def resume(id: Id, note: Note = "", person: As = None, as_json: AsJson = False) -> None:
    """Go on after a pause: nobody gets it twice, nobody is left out."""
    _act(id, "resume", note, person, as_json, f"hub broadcast watch {id}")


def cancel(id: Id, note: Note = "", person: As = None, as_json: AsJson = False) -> None:
    """End it for good. What was sent stays sent."""
    _act(id, "cancel", note, person, as_json, f"hub broadcast show {id}")


def _act(id: str, action: str, note: str, person: str | None, as_json: bool, then: str) -> None:
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            made = await api.post(_path(id, action), {"note": note})
        _said(terminal, made, f"{id} is {made['state']}", then)

    run(terminal, work())


def send_test(
    id: Id,
    to: Annotated[list[str], typer.Option("--to", help="A colleague's citizen key, as OA:USER; repeatable.")],
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Send it to colleagues as they are. Only contacts that are tagged as staff on their page get a test."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            made = await api.post(_path(id, "test"), {"citizens": to}, key=new_key())
        if terminal.as_json:
            terminal.document(made)
        else:
            terminal.say(f"[green]✓[/green] {len(made['replies'])} on their way")
            for citizen in dict.fromkeys(to):
                terminal.say(f"  what became of it: hub replies list --citizen {escape(citizen)}")

    run(terminal, work())


def copies_of(
    citizen: Annotated[str, typer.Argument(help="A citizen key, as OA:USER.")],
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Tell what became of one citizen's copies of the newest broadcasts, and why they got none."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        if not re.fullmatch(r"\d+:\d+", citizen):
            raise CommandError(
                "citizen_malformed",
                f"{citizen!r} is no citizen.",
                "Citizens are named OA:USER, as `hub case show` does.",
                exit_code=ExitCode.USAGE,
            )
        async with opened_api(load_settings(), person) as api:
            found = (await api.get(f"/v1/citizens/{citizen}/copies"))["copies"]
        _tell_found(
            terminal,
            found,
            ("broadcast", "title", "state", "reason", "page", "when"),
            lambda one: (
                *(one["broadcast"], one["title"][:48], one["state"], one["reason"], one["page"]),
                when(_moment(one["marked_at"])),
            ),
            none="no broadcast that you may see has decided about this citizen",
        )

    run(terminal, work())


def _tell_found(
    terminal: Terminal,
    found: list[dict[str, Any]],
    columns: tuple[str, ...],
    row: Callable[[dict[str, Any]], tuple[Any, ...]],
    *,
    none: str,
) -> None:
    """Show what was found: as a document, as a table, or as the line that says there is none."""
    if terminal.as_json:
        terminal.document(found)
    elif not found:
        terminal.say(none)
    else:
        terminal.table(columns, [row(one) for one in found])


def uncertain(id: Id, person: As = None, as_json: AsJson = False) -> None:
    """List copies of which nobody knows whether Zalo has them, and which no echo has settled.

    They are never sent again by themselves. Look the conversation up in Zalo's OA manager and say what you found with
    `hub broadcast settle`; where nobody can tell, `hub broadcast abandon` gives them up.
    """
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            found = (await api.get(_path(id, "uncertain")))["copies"]
        _tell_found(
            terminal,
            found,
            ("person", "citizen", "page", "by", "when", "reason"),
            lambda one: (
                *(one["person"], one["citizen_key"], one["page"], one["lane"]),
                when(_moment(one["marked_at"])),
                one["reason"],
            ),
            none="[green]✓[/green] no copy is uncertain",
        )
        if not terminal.as_json and any(one["lane"] == "template_phone" for one in found):
            terminal.say(
                "Templates by phone number are in no conversation: Zalo's own list of sent templates knows them by "
                "their tracking id (--json)."
            )

    run(terminal, work())


Copies = Annotated[
    list[str] | None, typer.Option("--person", help="As `uncertain` shows it; repeatable.", show_default=False)
]
Everything = Annotated[bool, typer.Option("--all", help="All that are uncertain now.")]


async def _chosen(api: Api, id: str, copies: list[str] | None, *, everything: bool) -> list[str]:
    """The uncertain copies that a command names."""
    if bool(copies) == everything:
        raise CommandError(
            "persons_missing",
            "Say which copies.",
            "Name them with --person, or all with --all; `hub broadcast uncertain` lists them.",
            exit_code=ExitCode.USAGE,
        )
    if strange := [one for one in copies or () if not re.fullmatch("[0-9a-f]{32}", one)]:
        raise CommandError(
            "person_malformed",
            f"{', '.join(map(repr, strange))} names no copy.",
            f"`hub broadcast uncertain {id}` shows them, in 32 digits.",
            exit_code=ExitCode.USAGE,
        )
    return copies or [one["person"] for one in (await api.get(_path(id, "uncertain")))["copies"]]


def _ended(terminal: Terminal, made: Any, count: int, chosen: list[str], what: str) -> None:
    """Tell how many uncertain copies a command ended, and that others were none."""
    if terminal.as_json:
        terminal.document(made)
        return
    terminal.say(f"[green]✓[/green] {count} {what}" if chosen else "[green]✓[/green] no copy is uncertain")
    if rest := len(chosen) - count:
        terminal.say(f"[yellow]{rest} not uncertain (any more): left as they are[/yellow]")


def settle(
    id: Id,
    is_sent: Annotated[bool, typer.Option("--sent/--not-sent", help="Whether you found them at Zalo's.")],
    copies: Copies = None,
    everything: Everything = False,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of uncertain copies, as Zalo's OA manager shows it; nothing is sent again."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            chosen = await _chosen(api, id, copies, everything=everything)
            seen = {"persons": chosen, "is_sent": is_sent}
            made = await api.post(_path(id, "settle"), seen) if chosen else {"settled": 0}
        _ended(terminal, made, made["settled"], chosen, "sent" if is_sent else "not sent")

    run(terminal, work())


def abandon(
    id: Id,
    copies: Copies = None,
    everything: Everything = False,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Give uncertain copies up: they count as failed and are never sent."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            chosen = await _chosen(api, id, copies, everything=everything)
            made = await api.post(_path(id, "abandon"), {"persons": chosen}) if chosen else {"abandoned": 0}
        _ended(terminal, made, made["abandoned"], chosen, "given up")

    run(terminal, work())


def show(id: Id, person: As = None, as_json: AsJson = False) -> None:
    """Show one broadcast: what it says, to whom, its counts, and who did what when."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            known = await api.get(_path(id))
            standing = await api.get(_path(id, "progress")) if known["started_at"] else None
        if terminal.as_json:
            terminal.document({**known, "progress": standing})
            return
        _show(terminal, known)
        if standing is not None:
            terminal.say()
            _show_progress(terminal, standing)

    run(terminal, work())


def settle_article(
    id: Id,
    page: Annotated[str, typer.Option("--page", help="As `show` and `watch` name it.")],
    is_sent: Annotated[bool, typer.Option("--sent/--not-sent", help="Whether its followers see the article.")],
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of an article whose page is uncertain, as Zalo's OA manager shows it.

    A page that is `not sent` is free to send an article today; nothing is sent again by itself.
    """
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            made = await api.post(f"{_path(id, 'articles')}/{page}/settle", {"is_sent": is_sent})
        if not made["settled"]:
            raise CommandError(
                "article_not_uncertain",
                f"{page} is not uncertain, or has no article yet that could have been shown.",
                f"`hub broadcast watch {id}` shows where it is.",
            )
        if terminal.as_json:
            terminal.document(made)
        else:
            terminal.say(f"[green]✓[/green] {page}: {'sent' if is_sent else 'not sent'}")

    run(terminal, work())


def list_(
    state: Annotated[
        list[str] | None, typer.Option("--state", help=f"Of {', '.join(STATES)}; repeatable.", show_default=False)
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Only of this unit.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    skip: Annotated[int, typer.Option(min=0, max=100_000, help="Leave out so many of the newest.")] = 0,
    person: As = None,
    as_json: AsJson = False,
) -> None:
    """List broadcasts, the newest first."""
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            found = (await api.get("/v1/broadcasts", state=state, unit=unit, limit=limit, skip=skip))["broadcasts"]
        narrowed = bool(state or unit or skip)
        _tell_found(
            terminal,
            found,
            ("broadcast", "state", "people", "title", "unit", "author", "approved by", "starts"),
            lambda one: (
                one["id"],
                one["state"],
                one["people"],
                one["title"][:48],
                one["unit"],
                one["author"],
                one["approved_by"],
                when(_moment(one["starts_at"])),
            ),
            none="none of these" if narrowed else "no broadcast yet: `hub broadcast draft` makes one",
        )

    run(terminal, work())


def watch(id: Id, person: As = None, as_json: AsJson = False) -> None:
    """Watch it until it is over: how many have it, how many do not and why, how many are in flight.

    Ctrl-C ends only the watching. With --json one document is printed for each look, one a line.
    """
    terminal = Terminal(as_json=as_json)

    async def work() -> None:
        async with opened_api(load_settings(), person) as api:
            last = await (
                _lines(terminal, api, id) if as_json or not terminal.out.is_terminal else _bar(terminal, api, id)
            )
        if not as_json:
            _show_progress(terminal, last)

    run(terminal, work())


async def _bar(terminal: Terminal, api: Api, id: str) -> Any:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=terminal.out) as progress:
        task = progress.add_task(id, total=None, facts="")
        while True:
            standing = await api.get(_path(id, "progress"))
            progress.update(
                task,
                description=f"{standing['title'][:32]} · {standing['state']}",
                total=standing["people"] or None,
                completed=settled(standing),
                facts=facts(standing),
            )
            if standing["state"] in OVER and not standing["in_flight"]:
                return standing
            await asyncio.sleep(LOOK_SECONDS)


async def _lines(terminal: Terminal, api: Api, id: str) -> Any:
    said = ""
    while True:
        standing = await api.get(_path(id, "progress"))
        if terminal.as_json:
            terminal.line(standing)
        elif (line := f"{standing['state']} {settled(standing)}/{standing['people']} {facts(standing)}") != said:
            terminal.say(escape(said := line))
        if standing["state"] in OVER and not standing["in_flight"]:
            return standing
        await asyncio.sleep(LOOK_SECONDS)


def settled(standing: dict[str, Any]) -> int:
    """Of how many people it is known what became of their copy."""
    states = standing["states"]
    return int(standing["people"] - states.get("queued", 0) - standing["in_flight"])


def facts(standing: dict[str, Any]) -> str:
    """What a person wants to know while it runs, in one line."""
    states = standing["states"]
    parts = [f"{states[state]} {state}" for state in ("sent", "skipped", "failed", "uncertain") if states.get(state)]
    if standing["in_flight"]:
        parts.append(f"{standing['in_flight']} in flight")
    if standing["per_second"]:
        parts.append(f"{standing['per_second']:.0f}/s")
    if standing["seconds_left"] is not None:
        parts.append(f"{seconds_as_text(standing['seconds_left'])} left")
    return " · ".join(parts)


def a_moment(text: str, now: datetime) -> datetime:
    """A moment as people write it, in Vietnam's time; a time alone is today's, or tomorrow's if that is over.

    Raises:
        CommandError: it is none.
    """
    for form in MOMENTS:
        try:
            read = datetime.strptime(text.strip(), form).replace(tzinfo=LOCAL)
        except ValueError:
            continue
        if form == "%H:%M":
            read = now.replace(hour=read.hour, minute=read.minute, second=0, microsecond=0)
            return read if read > now else read + timedelta(days=1)
        return read
    try:
        read = datetime.fromisoformat(text.strip())
        return read if read.tzinfo else read.replace(tzinfo=LOCAL)
    except ValueError as error:
        raise CommandError(
            "moment_unreadable",
            f"{text!r} is no moment.",
            'Write "2026-11-28 07:30", "28/11/2026 07:30" or "07:30"; it is Vietnam\'s time.',
            exit_code=ExitCode.USAGE,
        ) from error


def show_forecast(terminal: Terminal, forecast: dict[str, Any]) -> None:
    """A forecast as tables: who gets it and how, who does not and why."""
    gets, refused = sum(forecast["lanes"].values()), sum(forecast["refused"].values())
    terminal.say(f"[bold]{forecast['people']}[/bold] people are meant: {gets} would get it, {refused} would not")
    rows = [("gets it", lane, count) for lane, count in _most(forecast["lanes"])]
    rows += [("does not", reason, count) for reason, count in _most(forecast["refused"])]
    if rows:
        terminal.table(("", "lane or reason", "people"), rows)
    if forecast["costs"]:
        terminal.say("cost      " + ", ".join(f"{count} {cost}" for cost, count in _most(forecast["costs"])))
    if forecast["pages"]:
        terminal.say("pages     " + escape(", ".join(f"{page} {count}" for page, count in _most(forecast["pages"]))))
    for page, verdict in sorted(forecast["articles"].items()):
        if verdict != "article":
            terminal.say(f"[yellow]{escape(page)}: {escape(verdict)}[/yellow]")
    if forecast["quiet_until"]:
        terminal.say(f"[yellow]quiet hours: it would wait until {when(_moment(forecast['quiet_until']))}[/yellow]")


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def _show(terminal: Terminal, known: dict[str, Any]) -> None:
    draft_ = known["draft"]
    colour = _COLOURS.get(known["state"], "cyan")
    terminal.say(
        f"[bold]{escape(known['title'])}[/bold] [{colour}]{known['state']}[/{colour}] [dim]{known['id']}[/dim]"
    )
    terminal.say(f"unit      {escape(known['unit'])}, by {escape(known['author'])}")
    if known["approved_by"]:
        terminal.say(f"approved  by {escape(known['approved_by'])}")
    if known["starts_at"]:
        terminal.say(f"starts    {when(_moment(known['starts_at']))}")
    if known["is_emergency"]:
        terminal.say("[red]emergency: no quiet hours, no personal cap[/red]")
    if draft_["pays"]:
        terminal.say("[yellow]may cost something[/yellow]")
    audience = {name: value for name, value in draft_["audience"].items() if value}
    to = ", ".join(f"{name} {_listed(value)}" for name, value in audience.items()) or "everybody on all pages"
    terminal.say(f"audience  {escape(to)}")
    terminal.say()
    _show_content(terminal, draft_["content"])
    if known["preview"] and known["preview"]["digest"] == known["digest"]:
        terminal.say()
        terminal.say(f"[dim]preview of {when(_moment(known['preview']['at']))}[/dim]")
        show_forecast(terminal, known["preview"]["forecast"])
    if known["history"]:
        terminal.say()
        terminal.table(
            ("when", "who", "did", "note"),
            [(when(_moment(one["at"])), one["by"], one["action"], one["note"]) for one in known["history"]],
        )


def _show_content(terminal: Terminal, content: dict[str, Any]) -> None:
    for kind in ("message", "template"):
        if part := content.get(kind):
            head = f" {part['template_id']}" if kind == "template" else ""
            terminal.say(f"[dim]{kind}{escape(head)}[/dim]")
            terminal.say(escape(part["text"]))
    if article := content.get("article"):
        terminal.say(f"[dim]article by {escape(article['author'])}[/dim]")
        terminal.say(f"[bold]{escape(article['title'])}[/bold]")
        terminal.say(escape(article["description"]))
        for part in article["body"]:
            terminal.say(escape(part["content"]) if part["type"] == "text" else f"[dim]{escape(part['content'])}[/dim]")


def _show_progress(terminal: Terminal, standing: dict[str, Any]) -> None:
    states = {state: count for state, count in standing["states"].items() if count}
    told = ", ".join(f"{count} {state}" for state, count in states.items()) or "nobody yet"
    who = "followers" if standing["articles"] else "people"
    terminal.say(f"[bold]{standing['people']}[/bold] {who}: {told}")
    if standing["in_flight"] and standing["state"] != "running":
        terminal.say(f"[yellow]{standing['in_flight']} still in flight[/yellow]")
    if states.get("uncertain") and not standing["articles"]:
        terminal.say(
            f"[yellow]{states['uncertain']} uncertain: echoes and Zalo's own lists settle most within two hours; "
            "`hub broadcast uncertain` shows what is left[/yellow]"
        )
    if standing["articles"]:
        terminal.table(
            ("page", "state", "step or reason", "followers", "views", "shares", "counted"),
            [
                (
                    one["page"],
                    one["state"],
                    one["reason"] or ("" if one["state"] == "sent" else one["step"]),
                    one["followers"],
                    one["views"],
                    one["shares"],
                    when(_moment(one["collected_at"])),
                )
                for one in standing["articles"]
            ],
        )
        if late := [one["page"] for one in standing["articles"] if one["reason"] == "article.too_late"]:
            terminal.say(
                f"[yellow]{', '.join(late)}: Zalo made the article, but that was known only hours after the "
                "broadcast had ended. Nobody was shown it: write a new broadcast to these pages.[/yellow]"
            )
    elif standing["reasons"]:
        terminal.table(
            ("state", "reason", "people"),
            [(one["state"], one["reason"], one["count"]) for one in standing["reasons"]],
        )


def _listed(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _said(terminal: Terminal, made: dict[str, Any], done: str, then: str) -> None:
    if terminal.as_json:
        terminal.document(made)
        return
    terminal.say(f"[green]✓[/green] {escape(done)}")
    terminal.say(f"  [dim]next: {escape(then)}[/dim]")


def _path(id: str, *rest: str) -> str:
    if not re.fullmatch("[0-9a-f]{12}", id):
        raise CommandError(
            "id_malformed",
            f"{id!r} is no id of a broadcast.",
            "`hub broadcast list` shows them.",
            exit_code=ExitCode.USAGE,
        )
    return "/".join(["/v1/broadcasts", id, *rest])


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
