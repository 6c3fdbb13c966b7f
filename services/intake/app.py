"""Wiring: the one place that builds clients and connects the rooms of intake."""

from functools import partial
from typing import Any

from faststream.kafka import KafkaRouter

from services.intake.adapters.attachment_fetcher import AttachmentFetcher
from services.intake.adapters.attachment_store import AttachmentStore
from services.intake.adapters.lease_store import Lease
from services.intake.adapters.record_store import RecordStore
from services.intake.adapters.spool_store import ParkedEvents, SpoolStore
from services.intake.channels.zalo.signature import SignatureCheck
from services.intake.domain import AddressPolicy
from services.intake.endpoints import PATH, WebhookEndpoint
from services.intake.handlers.attachments import AttachmentDeps, fetch_attachments
from services.intake.handlers.keeping import Keeper, Parking, Publisher, Spool, SpoolFlag
from services.intake.handlers.relay import RelayDeps, relay_spool
from services.intake.handlers.webhooks import WebhookDeps
from services.intake.settings import IntakeSettings
from services.intake.subscribers import subscribe
from shared.dead_letter import DeadLetters
from shared.kafka import EventPublisher, build_broker
from shared.mongo import open_store
from shared.service import Health, ServiceApp, build_service
from shared.zalo_config import ZaloConfig, load_zalo_config

SERVICE = "intake"
CLAIM_MARGIN_SECONDS = 30.0
"""What storing a fetched attachment may take on top of fetching it, before its job is due again."""

PING_SECONDS = 3.0


def build_keeper(
    settings: IntakeSettings, publisher: Publisher, spool: Spool, parking: Parking, flag: SpoolFlag
) -> Keeper:
    """The part that makes events durable."""
    return Keeper(
        publisher,
        spool,
        parking,
        flag,
        outage_memory_seconds=settings.outage_memory_seconds,
        reserve_seconds=settings.spool_reserve_seconds,
    )


def build_endpoint(settings: IntakeSettings, zalo: ZaloConfig, keeper: Keeper) -> WebhookEndpoint:
    """The webhook's HTTP edge."""
    return WebhookEndpoint(
        WebhookDeps(
            signatures=SignatureCheck(zalo),
            pages={page.oa_id: page for page in zalo.pages},
            keeper=keeper,
            acknowledge_within_seconds=settings.acknowledge_within_seconds,
        ),
        body_limit_bytes=settings.body_limit_bytes,
        body_read_seconds=settings.body_read_seconds,
    )


def build_app(
    settings: IntakeSettings, *, publisher: Publisher | None = None, spool: Spool | None = None
) -> ServiceApp:
    """Build the service; nothing connects before its lifespan begins.

    Args:
        settings: of this service.
        publisher: takes the webhooks' events instead of Kafka; for tests.
        spool: takes them instead of MongoDB; for tests.

    Raises:
        ConfigurationError: the Zalo configuration is missing or wrong.
    """
    zalo = load_zalo_config(settings.zalo_config_file)
    store = open_store(settings)
    router = KafkaRouter()
    dead_letters = DeadLetters(store, SERVICE)
    parking = ParkedEvents(dead_letters)
    spool_store = SpoolStore(store)
    flag = SpoolFlag()
    fetcher = AttachmentFetcher(
        AddressPolicy(allows_private=settings.allows_private_addresses),
        max_bytes=settings.attachment_max_bytes,
        timeout_seconds=settings.attachment_timeout_seconds,
    )
    attachments = AttachmentDeps(
        jobs=AttachmentStore(store, claim_seconds=settings.attachment_timeout_seconds + CLAIM_MARGIN_SECONDS),
        fetcher=fetcher,
        concurrency=settings.attachment_concurrency,
        poll_seconds=settings.attachment_poll_seconds,
        retry_waits_seconds=settings.attachment_retry_waits_seconds,
    )
    progress = subscribe(router, attachments=attachments, records=RecordStore(store), dead_letters=dead_letters)
    broker = build_broker(settings, service=SERVICE, routers=[router])
    event_publisher = EventPublisher(broker, service=SERVICE, timeout_seconds=settings.publish_timeout_seconds)
    keeper = build_keeper(settings, publisher or event_publisher, spool or spool_store, parking, flag)
    relay = RelayDeps(
        spool=spool_store,
        publisher=event_publisher,
        parking=parking,
        lease=Lease(store, "intake-spool-relay", seconds=settings.relay_lease_seconds),
        flag=flag,
        keeper=keeper,
        batch=settings.relay_batch,
        poll_seconds=settings.spool_poll_seconds,
        lease_seconds=settings.relay_lease_seconds,
        kafka_answers=partial(broker.ping, timeout=PING_SECONDS),
        stuck_seconds=settings.relay_stuck_seconds,
    )
    health = Health(SERVICE, broker=broker, store=store, progress=progress)

    async def spool_fact() -> dict[str, Any]:
        return {"events": relay.state.depth, "oldest_seconds": round(relay.state.oldest_seconds, 1)}

    health.facts["spool"] = spool_fact
    return build_service(
        SERVICE,
        settings,
        broker=broker,
        store=store,
        progress=progress,
        routes=[(PATH, build_endpoint(settings, zalo, keeper))],
        workers=[partial(relay_spool, relay), partial(fetch_attachments, attachments)],
        resources=[fetcher],
        health=health,
    )
