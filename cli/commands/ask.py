"""`hub ask`: be a citizen at the prompt."""

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated, Any

import aiohttp
import typer
from rich.markup import escape

from cli.commands.cases import unit_name
from cli.errors import CommandError, ExitCode
from cli.hub import http_unreachable, opened_http, opened_store
from cli.settings import CliSettings, load_settings
from cli.story import decision_of, reasons_in
from cli.terminal import Terminal, run
from shared.mongo import Document, Store, store_errors

QUIET_SECONDS = 0.7
"""After the last answer for so long nothing more came: that was all."""

POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 20.0


@dataclass(frozen=True)
class Asked:
    """A message that went in, and what came of it.

    Attributes:
        answers: as they stand on the citizen's phone.
        message: the router's document, None while there is none.
        steps: milliseconds after pressing send, by step.
    """

    sent: dict[str, Any]
    answers: list[dict[str, Any]]
    message: Document | None
    case: Document | None
    steps: dict[str, float]


def ask(
    text: Annotated[str, typer.Argument(help="What the citizen writes.")],
    page: Annotated[str, typer.Option(help="Slug or Zalo id of the page they write to.")],
    user: Annotated[str, typer.Option(help="Who writes: any name; the same name is the same person.")] = "hub-ask",
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for the first answer.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """Write to a page as a citizen, through the simulator, and show what the hub made of it.

    Prints the case, the unit with the reasons, the answers, and how long each step took. Exit code 7 means that no
    answer came in time, 6 that the hub refused the webhook.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _ask(terminal, text, page, user, timeout))


async def _ask(terminal: Terminal, text: str, page: str, user: str, timeout_seconds: float) -> None:
    settings = load_settings()
    url = settings.simulator_url
    if url is None:
        raise CommandError(
            "no_simulator",
            "This hub talks to the real Zalo, where nobody can play a citizen.",
            "Start it with the simulator (`make up`), or write with a real phone.",
            exit_code=ExitCode.CONFIGURATION,
        )
    with terminal.step(f"waiting for an answer from {page}"):
        async with opened_http(LONGEST_POLL_SECONDS + 10) as http, opened_store(settings) as store:
            try:
                asked = await converse(http, store, url, text, page, user, timeout_seconds)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise http_unreachable("simulator", url, error) from error
    if terminal.as_json:
        terminal.document(as_document(asked, settings))
    else:
        _report(terminal, asked, settings)
    if asked.sent["webhook"].get("status") != 200:
        raise typer.Exit(ExitCode.REFUSED)
    if not asked.answers and not _gets_no_answer(asked.message):
        raise typer.Exit(ExitCode.NO_ANSWER)


async def converse(
    http: aiohttp.ClientSession, store: Store, url: str, text: str, page: str, user: str, timeout_seconds: float
) -> Asked:
    """Send a message and follow it until its answers are on the phone.

    Raises:
        CommandError: the simulator refused the message.
        aiohttp.ClientError: the simulator does not answer.
    """
    started = time.perf_counter()

    def passed_ms() -> float:
        return round((time.perf_counter() - started) * 1000, 1)

    async with http.post(f"{url}/control/messages", json={"page": page, "citizen": user, "text": text}) as response:
        if response.status != 200:
            await _refuse(response, page)
        sent: dict[str, Any] = await response.json()
    webhook = sent.get("webhook") or {}
    sent["webhook"] = webhook
    steps = {"webhook acknowledged": float(webhook.get("ack_ms") or passed_ms())}
    if webhook.get("status") != 200:
        return Asked(sent, [], None, None, steps)
    message_task = asyncio.create_task(_message(store, sent["msg_id"], timeout_seconds))
    answers: list[dict[str, Any]] = []
    after_seq = int(sent.get("seq", 0))
    deadline = time.perf_counter() + timeout_seconds
    conversation = f"{url}/control/conversations/{sent['oa_id']}/{sent['user_id']}"
    while (left := (QUIET_SECONDS if answers or _is_silent(message_task) else deadline - time.perf_counter())) > 0:
        wait_seconds = min(left, LONGEST_POLL_SECONDS if message_task.done() else QUIET_SECONDS)
        parameters = {"after_seq": str(after_seq), "wait_seconds": f"{wait_seconds:.2f}"}
        async with http.get(conversation, params=parameters) as response:
            response.raise_for_status()
            items = (await response.json())["items"]
        new = [item for item in items if item["direction"] == "out"]
        if new and not answers:
            steps["first answer on the phone"] = passed_ms()
        answers += new
        after_seq = max([after_seq, *(item["seq"] for item in items)])
        if not items and (answers or _is_silent(message_task)):
            break
    message = await message_task
    case = await _case(store, message)
    return Asked(sent, answers, message, case, steps | await _ledger_steps(store, message))


def _is_silent(message_task: asyncio.Task[Document | None]) -> bool:
    """Whether the router has decided that this message gets no answer."""
    return message_task.done() and _gets_no_answer(message_task.result())


def _gets_no_answer(message: Document | None) -> bool:
    return message is not None and "plan" in message and not message["plan"].get("reply")


async def _refuse(response: aiohttp.ClientResponse, page: str) -> None:
    body = await response.text()
    if response.status == 404:
        raise CommandError(
            "page_unknown",
            f"The simulator has no page {page!r}.",
            "`hub tokens` lists the pages.",
            exit_code=ExitCode.NOT_FOUND,
        )
    raise CommandError(
        "simulator_refused",
        f"The simulator answered {response.status}: {body[:300]}",
        "Is the text empty, or longer than Zalo allows?",
        exit_code=ExitCode.REFUSED,
    )


async def _message(store: Store, message_id: str, timeout_seconds: float) -> Document | None:
    deadline = time.perf_counter() + timeout_seconds
    while True:
        with store_errors():
            found = await store["messages"].find_one({"message_id": message_id})
        if found is not None or time.perf_counter() > deadline:
            return found
        await asyncio.sleep(POLL_SECONDS)


async def _case(store: Store, message: Document | None) -> Document | None:
    if message is None or not message.get("case_code"):
        return None
    with store_errors():
        return await store["cases"].find_one({"code": message["case_code"]})


async def _ledger_steps(store: Store, message: Document | None) -> dict[str, float]:
    """When each service had done its part, after the webhook's arrival, by their own clocks."""
    if message is None:
        return {}
    received_at = message["received_at"]
    with store_errors():
        replies = await store["reply_ledger"].find({"answers_event_id": message["_id"]}).to_list()
    moments = {
        "assigned by the router": message.get("decided_at"),
        "queued by the notifier": min((reply["queued_at"] for reply in replies), default=None),
        "taken by Zalo": min((reply["sent_at"] for reply in replies if reply.get("sent_at")), default=None),
    }
    return {step: round((at - received_at).total_seconds() * 1000, 1) for step, at in moments.items() if at is not None}


def as_document(asked: Asked, settings: CliSettings) -> dict[str, Any]:
    """Everything, for machines."""
    source = asked.case or asked.message or {}
    unit = source.get("unit")
    return {
        "message_id": asked.sent["msg_id"],
        "citizen": f"{asked.sent['oa_id']}:{asked.sent['user_id']}",
        "webhook": asked.sent["webhook"],
        "case_code": (asked.message or {}).get("case_code"),
        "unit": unit,
        "unit_name": unit_name(settings, unit),
        "category": _known(asked, "category"),
        "subtopic": _known(asked, "subtopic"),
        "urgency": _known(asked, "urgency"),
        "due_at": (asked.case or {}).get("due_at"),
        "reasons": list(reasons_in(decision_of(asked.message or {}))),
        "answers": [
            {"message_id": item["msg_id"], "text": item["text"], "buttons": item["buttons"]} for item in asked.answers
        ],
        "steps_ms": asked.steps,
    }


def _known(asked: Asked, name: str) -> Any:
    """A value of this message's reading where the router keeps it, else of its case."""
    message = asked.message or {}
    reading = message.get("reading") or {}
    for source in (message, reading, asked.case or {}):
        if source.get(name) is not None:
            return source[name]
    return None


def _report(terminal: Terminal, asked: Asked, settings: CliSettings) -> None:
    known = as_document(asked, settings)
    webhook = known["webhook"]
    if webhook.get("status") != 200:
        terminal.say(f"[red]✗ the hub answered the webhook with {webhook.get('status') or 'nothing'}[/red]")
        terminal.say("  `hub status` shows what is wrong; the simulator tries again as Zalo would.")
        return
    terminal.say(f"case      [bold]{known['case_code'] or 'none'}[/bold]")
    terminal.say(f"unit      {escape(known['unit_name'])} [dim]{escape(str(known['unit']))}[/dim]")
    what = " / ".join(str(known[name]) for name in ("category", "subtopic") if known[name])
    terminal.say(f"category  {escape(what)}, urgency {escape(str(known['urgency']))}")
    terminal.say(f"reasons   [yellow]{escape(', '.join(known['reasons']) or '-')}[/yellow]")
    for item in asked.answers:
        terminal.say()
        terminal.say(f"[green]{escape(item['text'])}[/green]")
        for button in item["buttons"] or ():
            terminal.say(f"  [cyan]\\[{escape(str(button.get('title', '')))}][/cyan]")
    terminal.say()
    if not asked.answers and _gets_no_answer(asked.message):
        terminal.say("The message was added to the case; by rule it gets no answer of its own.")
    elif not asked.answers:
        terminal.say("[red]✗ no answer in time[/red]; `hub status` shows where it waits")
    steps = sorted(asked.steps.items(), key=lambda step: step[1])
    terminal.say("[dim]" + ", ".join(f"{name} {ms:.0f} ms" for name, ms in steps) + "[/dim]")
