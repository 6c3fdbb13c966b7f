"""What every service process has: health, metrics, an AsyncAPI document, patient start, orderly stop."""

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import structlog
import uvicorn
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.asyncapi import asyncapi_document
from shared.collections import verify_indexes
from shared.dead_letter import count_parked
from shared.errors import HubError, StoreUnavailable
from shared.garbage import collect_less_garbage
from shared.kafka import Progress, measure_lag
from shared.mongo import Store
from shared.settings import HubSettings
from shared.telemetry import LoopLag, configure_logging, get_logger
from shared.tracing import tracing_of
from shared.watchdog import CONSUMER_STANDS_STILL, LOOP_STANDS_STILL, Watchdog, Watched

log = get_logger()

Check = Callable[[], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

START_PAUSE_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 3.0
MAX_LOOP_LAG_SECONDS = 5.0
MAX_BATCH_SECONDS = 120.0
BROKER_STOP_SECONDS = 20


class Health:
    """Readiness: can it do its work now. Liveness: would a restart help."""

    def __init__(self, service: str, *, broker: KafkaBroker, store: Store, progress: Mapping[str, Progress]) -> None:
        self.service = service
        self._broker = broker
        self._store = store
        self._progress = progress
        self._lag = LoopLag(service)
        self.extra_checks: dict[str, Check] = {}
        self.facts: dict[str, Callable[[], Awaitable[Any]]] = {}

    async def measure(self) -> None:
        """Measure the event loop's lag until cancelled."""
        await self._lag.run()

    async def _kafka(self) -> None:
        if not await self._broker.ping(timeout=CHECK_TIMEOUT_SECONDS):
            raise ConnectionError("Kafka does not answer")

    async def _groups(self) -> None:
        # With more replicas than partitions a replica rightly has none, so having joined is what counts.
        waiting = [name for name, progress in self._progress.items() if not progress.has_joined]
        if waiting:
            raise ConnectionError(f"not joined yet: {', '.join(waiting)}")

    async def ready(self) -> tuple[bool, dict[str, str]]:
        """Run every check side by side.

        Returns:
            Whether all passed, and `ok` or the error of each.
        """
        checks: dict[str, Check] = {"kafka": self._kafka, "mongo": self._store.ping, "consumers": self._groups}
        checks |= self.extra_checks
        results = await asyncio.gather(*(_outcome(check) for check in checks.values()))
        answer = dict(zip(checks, results, strict=True))
        return all(result == "ok" for result in answer.values()), answer

    async def known_facts(self) -> dict[str, Any]:
        """The service's own facts; one that cannot be told now is left out."""
        facts = {}
        for name, fact in self.facts.items():
            with contextlib.suppress(HubError, OSError, TimeoutError):
                async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                    facts[name] = await fact()
        return facts

    def watched(self, settings: HubSettings) -> list[Watched]:
        """What must go on for this process to be of use: the event loop, and each consumer while events wait for it."""
        bound_seconds = settings.watchdog_consumer_seconds
        loop = Watched("event loop", lambda: self._lag.beats or None, settings.watchdog_loop_seconds, LOOP_STANDS_STILL)
        return [loop] + [
            Watched(f"consumer {name}", progress.mark, bound_seconds, CONSUMER_STANDS_STILL)
            for name, progress in self._progress.items()
        ]

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Judge from inside: the loop turns and no batch hangs."""
        stuck = {name: round(p.stuck_seconds(), 1) for name, p in self._progress.items() if p.busy_since is not None}
        is_alive = self._lag.seconds < MAX_LOOP_LAG_SECONDS and all(s < MAX_BATCH_SECONDS for s in stuck.values())
        return is_alive, {"loop_lag_seconds": round(self._lag.seconds, 3), "batch_seconds": stuck}


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer in {CHECK_TIMEOUT_SECONDS:.0f} s"
    except (HubError, OSError, KafkaError) as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def _json(status: int, content: Any) -> Response:
    body = json.dumps(content, ensure_ascii=False, default=str).encode()
    return Response(body, status, media_type="application/json")


def _health_routes(health: Health) -> list[Route]:
    async def live(_: Request) -> Response:
        is_alive, facts = health.alive()
        return _json(200 if is_alive else 503, {"service": health.service, "alive": is_alive, **facts})

    async def ready(_: Request) -> Response:
        is_ready, checks = await health.ready()
        facts = await health.known_facts()
        return _json(
            200 if is_ready else 503, {"service": health.service, "ready": is_ready, "checks": checks, **facts}
        )

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), 200, {"content-type": CONTENT_TYPE_LATEST})

    async def asyncapi(_: Request) -> Response:
        return _json(200, asyncapi_document(health.service))

    return [
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
        Route("/asyncapi.json", asyncapi),
    ]


def build_service(
    service: str,
    settings: HubSettings,
    *,
    broker: KafkaBroker,
    store: Store,
    progress: Mapping[str, Progress],
    routes: Sequence[tuple[str, AsgiApp]] = (),
    workers: Sequence[Callable[[], Awaitable[None]]] = (),
    resources: Sequence[AbstractAsyncContextManager[Any]] = (),
    health: Health | None = None,
) -> "ServiceApp":
    """Connect the parts every service has around the parts it brings.

    HTTP opens first, so that a webhook can be kept by whichever of Kafka and MongoDB is there; consumers and workers
    begin when both are.

    Args:
        service: its name.
        settings: its settings.
        broker: with the service's subscribers.
        store: the database; closed last.
        progress: of each subscriber, by topic and group.
        routes: the service's own HTTP edge.
        workers: background loops; started with the consumers and cancelled after them. One that ends with an
            exception stops the process, so that the supervisor starts it afresh.
        resources: clients to open and to close in reverse.
        health: if the service adds checks of its own.
    """
    health = health or Health(service, broker=broker, store=store, progress=progress)
    keeper = tracing_of(service).keeper

    async def work() -> None:
        """Begin when Kafka and MongoDB are there, then go on until cancelled."""
        await asyncio.gather(_until_initialised(store, service), _until_connected(broker))
        await broker.start()
        log.info("service.started", environment=settings.hub_environment)
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(_named(worker))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        configure_logging(service, level=settings.log_level, log_format=settings.log_format)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            stack.push_async_callback(keeper.flush, store)
            for resource in resources:
                await stack.enter_async_context(resource)
            background = (
                work,
                health.measure,
                partial(measure_lag, broker, service, progress),
                partial(count_parked, store, service),
                partial(keeper.keep, store),
            )
            tasks = [asyncio.create_task(_guard(loop, service)) for loop in background]
            stack.push_async_callback(_cancel, tasks)
            stack.push_async_callback(broker.stop)  # consumers finish their batch while everything still stands
            yield
            log.info("service.stopping")

    named = [Middleware(_Named, service=service)]
    return ServiceApp(
        health,
        {path: _Named(endpoint, service=service) for path, endpoint in routes},
        routes=_health_routes(health),
        lifespan=lifespan,
        middleware=named,
    )


class ServiceApp(Starlette):
    """Starlette, but a service's own HTTP edge is called without its layers: they cost a webhook a tenth of its CPU.

    Args:
        health: of the service.
        edges: ASGI callables by exact path; each handles its own errors.
        starlette: what Starlette takes.
    """

    def __init__(self, health: Health, edges: Mapping[str, AsgiApp], **starlette: Any) -> None:
        super().__init__(**starlette)
        self.health = health
        self._edges = edges

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, or the lifespan."""
        edge = self._edges.get(scope["path"]) if scope["type"] == "http" else None
        if edge is None:
            await super().__call__(scope, receive, send)
        else:
            await edge(scope, receive, send)


class _Named:
    """Binds the service's name to the log lines of each request; a request does not inherit the lifespan's context."""

    def __init__(self, app: AsgiApp, *, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        structlog.contextvars.bind_contextvars(service=self._service)
        await self._app(scope, receive, send)


async def _named(worker: Callable[[], Awaitable[None]]) -> None:
    try:
        await worker()
    except Exception:
        log.exception("worker.died", worker=getattr(worker, "__qualname__", str(worker)))
        raise


async def _guard(work: Callable[[], Awaitable[None]], service: str) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except HubError as error:
        stop_process(f"{error.code}: {error}")
    except Exception:
        log.exception("service.failed")
        stop_process(f"background work of {service} failed")


def stop_process(why: str) -> None:
    """Leave in good order and let the supervisor start the process afresh."""
    log.error("service.stops_itself", why=why)
    os.kill(os.getpid(), signal.SIGTERM)
    timer = threading.Timer(BROKER_STOP_SECONDS + 15, os._exit, (70,))  # in case the orderly way hangs
    timer.daemon = True
    timer.start()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until_connected(broker: KafkaBroker) -> None:
    """Wait for Kafka for as long as it takes: a service that gives up at start would need a person."""
    while True:
        try:
            await broker.connect()
        except (KafkaError, OSError) as error:
            log.warning("kafka.waiting", error=type(error).__name__)
            await asyncio.sleep(START_PAUSE_SECONDS)
        else:
            return


async def _until_initialised(store: Store, service: str) -> None:
    """Wait for MongoDB; refuse to start where the init job did not run.

    Raises:
        NotReady: indexes are missing.
    """
    while True:
        try:
            await verify_indexes(store, service)
        except StoreUnavailable as error:
            log.warning("mongo.waiting", error=str(error))
            await asyncio.sleep(START_PAUSE_SECONDS)
        else:
            return


def server(app: AsgiApp, settings: HubSettings, **options: Any) -> uvicorn.Server:
    """The HTTP server of one service, not yet running."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=15,
            **options,
        )
    )


def serve(app: ServiceApp, settings: HubSettings, **options: Any) -> None:
    """Run a service until it is told to stop; exits non-zero when it could not start."""
    run(server(app, settings, **options), app.health, settings)


def run(running: uvicorn.Server, health: Health, settings: HubSettings) -> None:
    """Run a server under its watchdog until it is told to stop; exits non-zero when it could not start."""
    watchdog = Watchdog(health.watched(settings), is_stopping=lambda: running.should_exit)
    watchdog.start()
    collect_less_garbage()
    running.run()
    watchdog.stop()
    if not running.started:
        raise SystemExit(3)
