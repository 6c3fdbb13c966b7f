"""`hub status`: everything an operator looks at first, on one screen."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import typer
from rich.markup import escape

from cli.commands.tokens import PageToken, read_tokens
from cli.commands.topics import READERS
from cli.errors import CommandError, ExitCode, as_command_error
from cli.hub import opened_http, opened_store
from cli.kafka_admin import GroupLag, KafkaAdmin
from cli.settings import CliSettings, instances, load_settings
from cli.terminal import Terminal, run, seconds_as_text
from shared.errors import HubError
from shared.mongo import Store, store_errors
from shared.topics import ALL_TOPICS

T = TypeVar("T")

HTTP_TIMEOUT_SECONDS = 4.0
COUNTED_AT_MOST = 10_000
"""Larger numbers are shown with a plus; counting them all would cost more than they tell."""

LAG_LIMIT = 1_000
WAITING_LIMIT = timedelta(minutes=1)
UNCERTAIN_LIMIT = timedelta(minutes=5)
"""An echo settles an unknown send within seconds; after so long a person must look."""

UNCERTAIN_MEMORY = timedelta(days=2)
"""What a person has had two days to look at is counted, but no alarm any more: it stays as it is for ever."""

LEDGER_STATES = ("queued", "sending", "sent", "uncertain", "failed")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ServiceHealth:
    """What one process says of itself."""

    name: str
    url: str
    is_ready: bool
    checks: dict[str, str]
    facts: dict[str, Any]


@dataclass(frozen=True)
class StoreFacts:
    """What the database tells."""

    spool: int
    dead_letters: dict[str, int]
    ledger: dict[str, int]
    oldest_due_seconds: float
    uncertain_for_long: int
    open_cases: int
    overdue_cases: int
    tokens: list[PageToken]


@dataclass(frozen=True)
class Status:
    """Everything.

    Attributes:
        problems: what is not well, with a stable code each; empty means that all is well.
    """

    addresses: dict[str, str]
    services: list[ServiceHealth]
    brokers: int | None
    topics_missing: list[str]
    lags: list[GroupLag]
    store: StoreFacts | None
    problems: list[tuple[str, str]] = field(default_factory=list)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """Show every address, the health of each service, lag, spool, dead letters, the send ledger and the pages' tokens.

    Exit code 1 when something is not well; each problem has a stable code and says what to do.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _status(terminal))


async def _status(terminal: Terminal) -> None:
    settings = load_settings()
    with terminal.step("asking every part"):
        found = await look(settings)
    if terminal.as_json:
        document = asdict(found)
        document["problems"] = [{"code": code, "message": text} for code, text in found.problems]
        terminal.document({"well": not found.problems, **document})
    else:
        _report(terminal, found)
    if found.problems:
        raise typer.Exit(ExitCode.NOT_WELL)


async def look(settings: CliSettings) -> Status:
    """Ask every part at the same time; one that does not answer is a problem, not an error."""
    problems: list[tuple[str, str]] = []
    services, kafka, store = await asyncio.gather(
        _services(settings),
        _or_problem(lambda: _kafka(settings), problems),
        _or_problem(lambda: _store(settings), problems),
    )
    brokers, missing, lags = kafka or (None, [], [])
    found = Status(
        addresses=_addresses(settings),
        services=services,
        brokers=brokers,
        topics_missing=missing,
        lags=lags,
        store=store,
    )
    return Status(**{**vars(found), "problems": problems + problems_of(found)})


async def _or_problem(ask: Callable[[], Awaitable[T]], problems: list[tuple[str, str]]) -> T | None:
    try:
        return await ask()
    except HubError as error:
        known = as_command_error(error)
    except CommandError as error:
        known = error
    problems.append((known.code, f"{known.message} {known.advice}"))
    return None


def _addresses(settings: CliSettings) -> dict[str, str]:
    mongo = urlsplit(settings.mongo_uri.get_secret_value())
    addresses = {
        "webhook": settings.webhook_url,
        "phone page": settings.simulator_url,
        "officers": settings.console_url,
        "kafka": settings.kafka_bootstrap_servers,
        "mongo": mongo.netloc.rpartition("@")[2],  # without user and password
        "state": str(settings.hub_home),
    }
    return {name: address for name, address in addresses.items() if address}


async def _services(settings: CliSettings) -> list[ServiceHealth]:
    urls = [(name, url) for name, several in instances(settings).items() for url in several]
    if settings.simulator_url:
        urls.append(("simulator", settings.simulator_url))
    async with opened_http(HTTP_TIMEOUT_SECONDS) as http:
        return list(await asyncio.gather(*(_health(http, name, url) for name, url in urls)))


async def _health(http: aiohttp.ClientSession, name: str, url: str) -> ServiceHealth:
    try:
        async with http.get(f"{url.rstrip('/')}/health/ready") as response:
            answer = await response.json(content_type=None)
            is_ready = response.status == 200
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return ServiceHealth(name, url, False, {"http": f"no answer ({type(error).__name__})"}, {})
    answer = answer if isinstance(answer, dict) else {}
    checks = answer.get("checks")
    facts = {key: value for key, value in answer.items() if key not in {"service", "ready", "checks"}}
    return ServiceHealth(name, url, is_ready, checks if isinstance(checks, dict) else {}, facts)


async def _kafka(settings: CliSettings) -> tuple[int, list[str], list[GroupLag]]:
    async with KafkaAdmin(settings.kafka_bootstrap_servers) as admin:
        present = await admin.topic_states([topic.name for topic in ALL_TOPICS])
        missing = [topic.name for topic in ALL_TOPICS if topic.name not in present]
        return await admin.broker_count(), missing, await admin.lags(READERS)


async def _store(settings: CliSettings) -> StoreFacts:
    async with opened_store(settings) as store:
        try:
            return await _store_facts(store)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures


async def _store_facts(store: Store) -> StoreFacts:
    now = datetime.now(UTC)
    for_long = {
        "state": "uncertain",
        "uncertain_at": {"$gt": now - UNCERTAIN_MEMORY, "$lt": now - UNCERTAIN_LIMIT},
    }
    async with asyncio.TaskGroup() as group:
        spool = group.create_task(_count(store, "webhook_spool", {}))
        letters = group.create_task(_dead_letters(store))
        ledger = {state: group.create_task(_count(store, "reply_ledger", {"state": state})) for state in LEDGER_STATES}
        oldest_due = group.create_task(_oldest_due_seconds(store))
        uncertain = group.create_task(_count(store, "reply_ledger", for_long))
        cases = group.create_task(_cases(store))
        tokens = group.create_task(read_tokens(store))
    return StoreFacts(
        spool=spool.result(),
        dead_letters=letters.result(),
        ledger={state: task.result() for state, task in ledger.items()},
        oldest_due_seconds=oldest_due.result(),
        uncertain_for_long=uncertain.result(),
        open_cases=cases.result()[0],
        overdue_cases=cases.result()[1],
        tokens=tokens.result(),
    )


async def _count(store: Store, collection: str, query: dict[str, Any]) -> int:
    with store_errors():
        return await store[collection].count_documents(query, limit=COUNTED_AT_MOST + 1)


async def _dead_letters(store: Store) -> dict[str, int]:
    group: list[dict[str, Any]] = [
        {"$match": {"state": "parked"}},
        {"$group": {"_id": "$reason", "count": {"$sum": 1}}},
    ]
    with store_errors():
        return {row["_id"]: row["count"] for row in await store.aggregate("dead_letters", group)}


async def _cases(store: Store) -> tuple[int, int]:
    now = datetime.now(UTC)
    overdue = {"is_open": True, "due_at": {"$gt": EPOCH, "$lt": now}}
    return await _count(store, "cases", {"is_open": True}), await _count(store, "cases", overdue)


async def _oldest_due_seconds(store: Store) -> float:
    now = datetime.now(UTC)
    due = {"state": "queued", "due_at": {"$gt": EPOCH, "$lte": now}}
    with store_errors():
        oldest = await store["reply_ledger"].find(due, {"due_at": 1}).sort([("due_at", 1)]).limit(1).to_list(1)
    return round((now - oldest[0]["due_at"]).total_seconds(), 1) if oldest else 0.0


def problems_of(found: Status) -> list[tuple[str, str]]:
    """What is not well, in the order in which one would look at it."""
    problems = []
    for service in found.services:
        if not service.is_ready:
            wrong = "; ".join(f"{name}: {text}" for name, text in service.checks.items() if text != "ok")
            problems.append(
                ("service_not_ready", f"{service.name} at {service.url} is not ready ({wrong or 'no reason given'}).")
            )
    if found.topics_missing:
        problems.append(("topics_missing", f"Missing: {', '.join(found.topics_missing)}. Run `hub init`."))
    for lag in found.lags:
        if not lag.members and lag.lag:
            problems.append(("nobody_reads", f"Nobody reads {lag.topic} as {lag.group}: {lag.lag} events wait."))
        elif lag.lag > LAG_LIMIT:
            problems.append(("lag", f"{lag.group} is {lag.lag} events behind on {lag.topic}. Scale it up?"))
    return problems + (_store_problems(found.store) if found.store else [])


def _store_problems(store: StoreFacts) -> list[tuple[str, str]]:
    problems = []
    if store.spool:
        problems.append(
            ("spool_not_empty", f"{store.spool} accepted webhooks wait for Kafka; docs/runbooks/spool-growing.md.")
        )
    if letters := sum(store.dead_letters.values()):
        problems.append(("dead_letters", f"{letters} events could not be handled; docs/runbooks/dead-letters.md."))
    if store.uncertain_for_long:
        problems.append(
            (
                "replies_uncertain",
                f"{store.uncertain_for_long} replies have an unknown outcome; docs/runbooks/uncertain-replies.md.",
            )
        )
    if store.oldest_due_seconds > WAITING_LIMIT.total_seconds():
        waits = seconds_as_text(store.oldest_due_seconds)
        problems.append(("replies_late", f"A reply that is due has not been sent for {waits}."))
    problems += [
        ("token", f"Page {token.page} cannot go on speaking: {token.alarm}; docs/runbooks/token-broken.md.")
        for token in store.tokens
        if token.alarm
    ]
    return problems


def _report(terminal: Terminal, found: Status) -> None:
    for name, address in found.addresses.items():
        terminal.say(f"[dim]{name:<11}[/dim]{escape(address)}")
    terminal.say()
    for service in found.services:
        mark = "[green]✓ ready[/green]" if service.is_ready else "[red]✗ not ready[/red]"
        terminal.say(f"{service.name:<11}{mark} [dim]{escape(service.url)}[/dim]")
        for check, text in service.checks.items():
            if text != "ok":
                terminal.say(f"           [red]{escape(check)}: {escape(str(text))}[/red]")
    terminal.say()
    if found.brokers is not None:
        behind = [lag for lag in found.lags if lag.lag]
        readers = len([lag for lag in found.lags if lag.members])
        terminal.say(
            f"{'kafka':<11}{found.brokers} {'broker' if found.brokers == 1 else 'brokers'}, "
            f"{readers} of {len(found.lags)} groups have consumers, "
            + ("no lag" if not behind else "lag: " + ", ".join(f"{lag.group} {lag.lag}" for lag in behind))
        )
    if found.store is not None:
        _report_store(terminal, found.store)
    terminal.say()
    if found.problems:
        for code, text in found.problems:
            terminal.say(f"[red]✗ {escape(text)}[/red] [dim]\\[{code}][/dim]")
    else:
        terminal.say("[green]✓ all is well[/green]")


def _report_store(terminal: Terminal, store: StoreFacts) -> None:
    letters = ", ".join(f"{reason} {count}" for reason, count in store.dead_letters.items()) or "none"
    terminal.say(f"{'spool':<11}{_counted(store.spool)}")
    terminal.say(f"{'dead':<11}{escape(letters)}")
    terminal.say(f"{'replies':<11}" + ", ".join(f"{state} {_counted(n)}" for state, n in store.ledger.items()))
    terminal.say(f"{'cases':<11}{_counted(store.open_cases)} open, {_counted(store.overdue_cases)} over their deadline")
    if store.tokens:
        well = sum(token.alarm is None for token in store.tokens)
        ends = [token.expires_at for token in store.tokens if token.expires_at is not None]
        text = f"{well} of {len(store.tokens)} pages well"
        if ends:
            text += (
                f", the next access token ends in {seconds_as_text((min(ends) - datetime.now(UTC)).total_seconds())}"
            )
        terminal.say(f"{'tokens':<11}{text}")
    else:
        terminal.say(f"{'tokens':<11}none yet")


def _counted(number: int) -> str:
    return f"{COUNTED_AT_MOST:,}+" if number > COUNTED_AT_MOST else f"{number:,}"
