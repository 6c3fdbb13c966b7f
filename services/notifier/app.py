"""Wiring: the one place that builds clients and connects the rooms. It reads like a parts list."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from faststream.kafka import KafkaRouter
from prometheus_client import Gauge
from structlog.contextvars import bind_contextvars

from services.notifier.adapters.api_tokens import ApiTokens
from services.notifier.adapters.article_store import ArticleStore
from services.notifier.adapters.audience_store import AudienceStore
from services.notifier.adapters.broadcast_store import BroadcastStore
from services.notifier.adapters.clock import ServerClock
from services.notifier.adapters.contact_store import ContactStore
from services.notifier.adapters.delivery_rules import load_delivery_rules, load_topics
from services.notifier.adapters.lane_rules import load_lane_book
from services.notifier.adapters.rate_bucket import RateBuckets, app_bucket, page_bucket
from services.notifier.adapters.recipient_ledger import RecipientLedger
from services.notifier.adapters.reply_ledger import ReplyLedger
from services.notifier.adapters.report_store import ReportStore
from services.notifier.adapters.token_store import TokenStore
from services.notifier.adapters.zalo import MESSAGES_A_CALL, ZaloClient
from services.notifier.adapters.zalo_copies import CopyClient
from services.notifier.domain.rulebook import Rulebook
from services.notifier.endpoints import api
from services.notifier.endpoints.web import Bounded, Receive, Scope, Send, build_web
from services.notifier.handlers.broadcasts import Desk
from services.notifier.handlers.events import NotifierDeps
from services.notifier.handlers.forecast import Forecaster
from services.notifier.handlers.keep_tokens import TokenKeeper
from services.notifier.handlers.look_up import LookUp
from services.notifier.handlers.send_articles import ArticleAdapters, ArticleSender
from services.notifier.handlers.send_broadcasts import BroadcastRunner
from services.notifier.handlers.send_copies import BroadcastAdapters, BroadcastLimits
from services.notifier.handlers.send_replies import Adapters, ReplySender, SendLimits
from services.notifier.handlers.settle import ByList, Settlement
from services.notifier.settings import LEASE_MARGIN_SECONDS, NotifierSettings
from services.notifier.subscribers import SERVICE, subscribe
from shared.dead_letter import DeadLetters
from shared.directory import load_directory
from shared.errors import StoreUnavailable
from shared.kafka import build_broker
from shared.mongo import Store, open_store
from shared.service import Health, ServiceApp, build_service
from shared.telemetry import get_logger
from shared.zalo_config import load_zalo_config

log = get_logger()

ARTICLE_POLL_SECONDS = 1.0
"""Zalo itself works for seconds on each step of an article."""

LEDGER_ROWS = Gauge("hub_ledger_rows", "Replies in the ledger by state, counted up to a bound", ["state"])
OLDEST_DUE_SECONDS = Gauge("hub_ledger_oldest_due_seconds", "How long the longest waiting due reply waits")

MEASURE_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Rooms:
    """Everything of the notifier but its Kafka edge."""

    store: Store
    clock: ServerClock
    ledger: ReplyLedger
    contacts: ContactStore
    rates: RateBuckets
    zalo: ZaloClient
    tokens: TokenKeeper
    sender: ReplySender
    broadcasts: BroadcastStore
    audience: AudienceStore
    copies: RecipientLedger
    copy_client: CopyClient
    runner: BroadcastRunner
    deps: NotifierDeps
    desk: Desk
    articles: ArticleSender

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the client of Zalo and make what the database must have before the first send."""
        await self.clock.measure()
        await self.rates.create()
        async with self.zalo, self.copy_client:
            yield

    @property
    def workers(self) -> list[Callable[[], Awaitable[None]]]:
        """The loops that run beside the subscribers."""
        return [
            self.clock.run,
            self.tokens.run,
            self.sender.run,
            self.sender.sweep,
            self.runner.run,
            self.articles.run,
            self.contacts.back_fill,
        ]


def build_rooms(settings: NotifierSettings) -> Rooms:
    """Build clients, adapters and handlers; nothing connects yet.

    Raises:
        ConfigurationError: a data file or the Zalo configuration is wrong.
    """
    zalo_config = load_zalo_config(settings.zalo_config_file)
    rules = load_delivery_rules(settings.data_dir)
    store = open_store(settings)

    clock = ServerClock(store)
    lease = timedelta(seconds=settings.send_lease_seconds)
    ledger = ReplyLedger(store, lease=lease)
    contacts = ContactStore(store)
    reports = ReportStore(store)
    rates = RateBuckets(
        store,
        calls_per_minute={page_bucket(page.oa_id): settings.page_calls_per_minute for page in zalo_config.pages}
        | {app_bucket(app.app_id): settings.app_calls_per_minute for app in zalo_config.apps},
    )
    zalo = ZaloClient(
        zalo_config,
        rules.errors,
        timeout_seconds=settings.zalo_timeout_seconds,
        connect_timeout_seconds=settings.zalo_connect_timeout_seconds,
        connections=settings.send_slots + len(zalo_config.pages),
    )
    tokens = TokenKeeper(
        TokenStore(store, keys=settings.encryption_keys()),
        zalo,
        zalo_config.pages,
        clock,
        refresh_after=timedelta(hours=settings.token_refresh_after_hours),
        alarm_before=timedelta(days=settings.refresh_token_alarm_days),
    )
    copies = RecipientLedger(store, lease=lease)
    app_by_oa = {page.oa_id: page.app_id for page in zalo_config.pages}
    conversations = LookUp(zalo, tokens, rates, clock, app_by_oa, a_call=MESSAGES_A_CALL)
    settlement, of_copies = (
        Settlement(
            own,
            reports,
            clock,
            skew=timedelta(seconds=settings.echo_skew_seconds),
            checks=rules.uncertain_checks,
            others=[other],
            by_list=ByList(conversations, rule),
        )
        for own, other, rule in (
            (ledger, copies, rules.reply_look_up),
            (copies, ledger, rules.copy_look_up),
        )
    )
    sender = ReplySender(
        Adapters(ledger, contacts, reports, rates, tokens, zalo, clock),
        settlement,
        rules,
        SendLimits(
            slots=settings.send_slots,
            lease=lease,
            call_timeout=timedelta(seconds=settings.zalo_timeout_seconds),
            lease_margin=timedelta(seconds=LEASE_MARGIN_SECONDS),
            grace=timedelta(seconds=settings.uncertain_grace_seconds),
            poll_seconds=settings.poll_seconds,
            stop_seconds=settings.stop_seconds,
            pays_beyond_free=settings.send_beyond_free_window,
        ),
    )
    topics = load_topics(settings.data_dir)
    broadcasts, audience = BroadcastStore(store), AudienceStore(store, topics)
    rulebook = Rulebook(rules, load_lane_book(settings.data_dir), load_directory(settings.data_dir))
    copy_client = CopyClient(
        zalo_config,
        rules.errors,
        rules.business_errors,
        timeout_seconds=settings.zalo_timeout_seconds,
        connect_timeout_seconds=settings.zalo_connect_timeout_seconds,
        connections=settings.broadcast_workers * settings.broadcast_wave,
    )
    runner = BroadcastRunner(
        BroadcastAdapters(broadcasts, copies, audience, rates, tokens, copy_client, clock),
        of_copies,
        rulebook,
        app_by_oa,
        BroadcastLimits(
            workers=settings.broadcast_workers,
            wave=settings.broadcast_wave,
            chunk_persons=settings.broadcast_chunk_persons,
            lease=lease,
            call_timeout=timedelta(seconds=settings.zalo_timeout_seconds),
            lease_margin=timedelta(seconds=LEASE_MARGIN_SECONDS),
            poll_seconds=settings.poll_seconds,
            stop_seconds=settings.stop_seconds,
        ),
    )
    deps = NotifierDeps(ledger, contacts, reports, settlement, sender, clock, zalo_config, of_copies, copies)
    article_rows = ArticleStore(store, lease=lease)
    forecaster = Forecaster(audience, copies, article_rows, rulebook, clock)
    articles = ArticleSender(
        ArticleAdapters(broadcasts, article_rows, forecaster, rates, tokens, zalo, zalo_config, clock),
        poll_seconds=ARTICLE_POLL_SECONDS,
    )
    desk = Desk(
        broadcasts,
        copies,
        article_rows,
        forecaster,
        ledger,
        rulebook.lanes,
        zalo_config,
        clock,
        topics,
        settings.broadcast_staff_tag,
    )
    return Rooms(
        store,
        clock,
        ledger,
        contacts,
        rates,
        zalo,
        tokens,
        sender,
        broadcasts,
        audience,
        copies,
        copy_client,
        runner,
        deps,
        desk,
        articles,
    )


@dataclass(frozen=True)
class Notifier:
    """The notifier: an ASGI application made of the API for people and of what every service has."""

    service: ServiceApp
    web: Bounded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lifespan and health belong to the service, everything under /v1/ to the API."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            bind_contextvars(service=SERVICE)
            await self.web(scope, receive, send)
        else:
            await self.service(scope, receive, send)


def openapi_document() -> dict[str, Any]:
    """The HTTP API's contract; committed as docs/openapi/notifier.json."""
    return build_web(None, ApiTokens(""), api.router, about=api.__doc__ or "").openapi()


def build_app(settings: NotifierSettings) -> Notifier:
    """Build the service; nothing connects before its lifespan begins.

    Raises:
        ConfigurationError: a data file, the Zalo configuration or the file of tokens is wrong.
    """
    people = ApiTokens(settings.api_tokens.get_secret_value())
    if not people:
        log.warning("api.lets_nobody_in", why="API_TOKENS names nobody")
    rooms = build_rooms(settings)
    router = KafkaRouter()
    progress = subscribe(router, rooms.deps, DeadLetters(rooms.store, SERVICE))
    broker = build_broker(settings, service=SERVICE, routers=[router])

    health = Health(SERVICE, broker=broker, store=rooms.store, progress=progress)
    health.facts["ledger"] = lambda: ledger_facts(rooms.ledger, rooms.clock, rooms.sender)
    health.facts["pages"] = rooms.tokens.facts

    service = build_service(
        SERVICE,
        settings,
        broker=broker,
        store=rooms.store,
        progress=progress,
        resources=[rooms.opened()],
        workers=[*rooms.workers, partial(measure_ledger, rooms)],
        health=health,
    )
    return Notifier(service, Bounded(build_web(rooms.desk, people, api.router, about=api.__doc__ or "")))


async def measure_ledger(rooms: Rooms) -> None:
    """Keep the ledger's gauges true, whether anybody asks for readiness or not, until cancelled."""
    while True:
        with suppress(StoreUnavailable):
            await ledger_facts(rooms.ledger, rooms.clock, rooms.sender)
        await asyncio.sleep(MEASURE_EVERY_SECONDS)


async def ledger_facts(ledger: ReplyLedger, clock: ServerClock, sender: ReplySender) -> dict[str, Any]:
    """What an operator asks first: how much waits, how long, and of how much nobody knows."""
    counts = await ledger.counts()
    for state, count in counts.items():
        LEDGER_ROWS.labels(state).set(count)
    now = clock.now()
    oldest = await ledger.oldest_due(now=now)
    oldest_seconds = 0.0 if oldest is None else round((now - oldest).total_seconds(), 3)
    OLDEST_DUE_SECONDS.set(oldest_seconds)
    return {**counts, "oldest_due_seconds": oldest_seconds, "in_flight": sender.in_flight}
