"""Wiring of the router: the one place that builds clients and connects the rooms."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from faststream.kafka import KafkaRouter

from services.router.adapters.case_store import MongoCaseStore
from services.router.adapters.data_files import (
    load_answers,
    load_choices,
    load_service_levels,
    load_understanding,
    load_unit_resolver,
)
from services.router.domain.assignment import ResponsibleUnit
from services.router.domain.cases import Desk
from services.router.domain.understanding import Understanding
from services.router.handlers.citizen_messages import MessageDeps
from services.router.handlers.officer_actions import OfficerDeps
from services.router.handlers.waiting_cases import measure_waiting_cases
from services.router.handlers.withdrawals import WithdrawalDeps
from services.router.settings import RouterSettings
from services.router.subscribers import SERVICE, subscribe
from shared.dead_letter import DeadLetters
from shared.directory import load_directory
from shared.events import CitizenChose, ReplyRequested
from shared.kafka import EventPublisher, build_broker
from shared.mongo import open_store
from shared.service import ServiceApp, build_service
from shared.topics import CITIZEN_CHOICES, REPLIES_REQUESTED


def build_app(
    settings: RouterSettings,
    *,
    understanding: Understanding | None = None,
    responsible_unit: ResponsibleUnit | None = None,
) -> ServiceApp:
    """Build the service.

    Args:
        settings: its settings.
        understanding: reads messages; the rule set of the data files if not given.
        responsible_unit: chooses the unit; the rules over the gazetteer if not given.

    Raises:
        ConfigurationError: a data file is missing or wrong.
    """
    directory = load_directory(settings.data_dir)
    levels = load_service_levels(settings.data_dir)
    answers = load_answers(settings.data_dir, allows_unapproved=settings.hub_environment == "demo")
    store = open_store(settings)
    cases = MongoCaseStore(store)
    kafka_router = KafkaRouter()
    broker = build_broker(settings, service=SERVICE)
    publisher = EventPublisher(broker, service=SERVICE, timeout_seconds=settings.router_publish_timeout_seconds)

    async def publish_replies(replies: Sequence[ReplyRequested]) -> None:
        await publisher.publish_all(REPLIES_REQUESTED, replies)

    async def publish_choices(choices: Sequence[CitizenChose]) -> None:
        await publisher.publish_all(CITIZEN_CHOICES, choices)

    progress = subscribe(
        kafka_router,
        messages=MessageDeps(
            store=cases,
            understanding=understanding or load_understanding(settings.data_dir),
            responsible_unit=responsible_unit or load_unit_resolver(settings.data_dir, directory),
            directory=directory,
            desk=Desk(levels, answers, load_choices(settings.data_dir, directory)),
            publish_replies=publish_replies,
            publish_choices=publish_choices,
            now=_now,
        ),
        officers=OfficerDeps(store=cases, levels=levels, publish_replies=publish_replies, now=_now),
        withdrawals=WithdrawalDeps(store=cases),
        dead_letters=DeadLetters(store, SERVICE),
        max_records=settings.router_batch_records,
    )
    broker.include_router(kafka_router)
    units = {unit.slug for unit in directory.units}
    return build_service(
        SERVICE,
        settings,
        broker=broker,
        store=store,
        progress=progress,
        workers=[partial(measure_waiting_cases, cases, units=units, now=_now)],
    )


def _now() -> datetime:
    return datetime.now(UTC)
