"""Real servers for the tests, as pytest fixtures; each suite's summary says which server it ran on.

Fixtures (session-scoped, started when the first test asks): `kafka_bootstrap`, `mongo_uri` and `hub` (everything, in a
home folder of its own); for one file `kafka_cluster` (three nodes). `running_hub(...)` makes more of them for one test.
Under xdist each worker starts its own servers: the tests of one file stay together, and so do all that use `hub`.

`TEST_BACKEND=local` starts the servers as `make up` does, `docker` uses testcontainers, and `auto` (the default) takes
Docker where an engine answers. A test that kills servers always runs on local ones: `kafka_cluster` and `hub`.
"""

import importlib
import os
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from xdist.scheduler import LoadFileScheduling

from stack import kafka, ports
from stack.errors import StackError
from stack.hub import Hub, ServerName
from stack.kafka_jars import KAFKA
from stack.settings import ROOT, StackSettings
from stack.state import HubState
from stack.supervision import processes_of
from stack.terminal import Terminal
from tests.images import LABEL, image_of

KAFKA_IMAGE = image_of("kafka-1")
MONGO_IMAGE = image_of("mongo")
HOME_PREFIX = "binh-yen-test-"
SHARE_THE_HUB = ("tests/e2e/", "tests/browser/test_console_hub_journey.py", "tests/browser/test_citizen_choices.py")
TAKE_LONGEST = (
    "tests/compose/test_compose_stack.py",
    "tests/chaos/",
    "tests/integration/test_notifier_broadcast_crash_points.py",
    "tests/integration/test_stack_servers.py",
)
"""Begun before the others, so that at the end no worker waits long for another one."""
TAKE_LAST = "tests/e2e/test_bad_input.py"
"""Ten thousand webhooks leave the shared hub work for half a minute, for which whoever comes next would wait."""
KAFKA_TITLE = f"Apache Kafka {KAFKA.rsplit(':', maxsplit=1)[-1]}"


class RunningHub:
    """A hub (or only some servers) under its own supervisor. Methods block: in async tests use asyncio.to_thread."""

    def __init__(self, hub: Hub, only: Collection[ServerName] | None) -> None:
        self._hub = hub
        self._only = only
        self.state = hub.up(only=only)
        self.home = hub.home

    @property
    def programs(self) -> list[str]:
        """Names of all programs: kafka, mongo, simulator and the services; notifier-2 … after scaling."""
        return sorted(self._hub.supervisor.processes())

    def pid(self, program: str) -> int:
        """The program's process id, 0 while it does not run."""
        return self._hub.supervisor.processes()[program].pid

    def kill(self, program: str, *, restart: bool = True) -> int:
        """Kill -9; returns the pid that died. With `restart` the supervisor brings it back, else start() does."""
        return self._hub.supervisor.kill(program, restart=restart)

    def stop(self, program: str) -> None:
        """Stop it gracefully and wait for its end."""
        self._hub.supervisor.stop([program])

    def start(self, program: str) -> None:
        """Start what stop() or kill(restart=False) ended; wait_ready() tells when it works."""
        self._hub.supervisor.begin([program])

    def wait_ready(self, *programs: str) -> None:
        """Wait until these programs (all, when none is named) do their work; fails with the end of the log."""
        self._hub.wait_ready(programs or None)

    def start_again(self) -> HubState:
        """What a second `make up` does."""
        self.state = self._hub.up(only=self._only)
        return self.state

    def scale(self, **instances: int) -> HubState:
        """Run so many instances of each named service: `hub.scale(notifier=2)`."""
        self.state = self._hub.scale(instances)
        return self.state

    def down(self) -> None:
        """Stop everything gracefully and in order, as `make down` does; without it the end is a kill."""
        self._hub.down()

    def logs(self, program: str) -> str:
        """Everything the program has printed since the log was last rotated."""
        return self._hub.supervisor.log_file(program).read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_hub(
    *,
    only: Collection[ServerName] | None = None,
    kafka_nodes: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningHub]:
    """A hub in a new temporary home, gone afterwards; its logs are kept in test-results/ when the block fails.

    Args:
        only: just these servers; None is the whole hub with services and simulator.
        kafka_nodes: 1 or 3.
        environment: settings for the services (and for the stack itself), on top of a bare environment.
    """
    _end_left_overs()
    home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX))
    me = psutil.Process()
    (home / "owner").write_text(f"{me.pid} {me.create_time()}", encoding="utf-8")
    kept = {name: os.environ[name] for name in ("HUB_CACHE_DIR", "XDG_CACHE_HOME", "HUB_MONGO") if name in os.environ}
    chosen = {"HUB_HOME": str(home), "KAFKA_NODES": str(kafka_nodes)} | kept | dict(environment or {})
    hub = Hub(
        StackSettings.load(chosen),
        Terminal(quiet=True),
        {name: value for name, value in os.environ.items() if not name.startswith(("ZALO_", "KAFKA_", "MONGO_"))}
        | chosen,
    )
    try:
        yield RunningHub(hub, only)
    except BaseException:
        keep_logs(home)
        raise
    finally:
        _discard(home)


def _discard(home: Path) -> None:
    """End a hub at once and delete it: nobody wants its data any more, so nothing is gained by an orderly stop."""
    while alive := processes_of(home):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=10)
    shutil.rmtree(home, ignore_errors=True)


def keep_logs(home: Path) -> None:
    """Copy a hub's logs to test-results/, for the person who looks into a failure."""
    target = ROOT / "test-results" / f"logs-{home.name}"
    with suppress(OSError):
        shutil.copytree(home / "logs", target, dirs_exist_ok=True)


def _end_left_overs() -> None:
    """End servers of test runs that were killed before they could; a home names the process that owns it."""
    for home in Path(tempfile.gettempdir()).glob(f"{HOME_PREFIX}*"):
        try:
            pid, created_at = (home / "owner").read_text(encoding="utf-8").split()
            if abs(psutil.Process(int(pid)).create_time() - float(created_at)) < 1:
                continue
        except psutil.NoSuchProcess:
            pass
        except (OSError, ValueError):
            continue  # being made at this moment, or not ours to read
        _discard(home)


# -- Docker -----------------------------------------------------------------------------------------------------------


@cache
def backend() -> str:
    """`local` or `docker`, as TEST_BACKEND says or as the machine allows."""
    wanted = os.environ.get("TEST_BACKEND", "auto")
    if wanted not in {"auto", "local", "docker"}:
        raise pytest.UsageError(f"TEST_BACKEND={wanted}: use auto, local or docker")
    if wanted == "auto":
        return "docker" if _containers() else "local"
    if wanted == "docker" and not _containers():
        raise pytest.UsageError(
            "TEST_BACKEND=docker: no Docker engine answers, or it has no images and cannot fetch them"
        )
    return wanted


@cache
def _containers() -> dict[str, str]:
    """Each image with what it is here; empty where no engine answers, or it has no images and cannot fetch them."""
    docker = importlib.import_module("docker")  # slow to import, rarely needed, and without type hints
    try:
        client = docker.from_env(timeout=5)
    except docker.errors.DockerException:
        return {}
    found = {}
    try:
        known = {tag for image in client.images.list() for tag in image.tags}
        for name in (KAFKA_IMAGE, MONGO_IMAGE):
            if name not in known:
                client.images.pull(name)
            is_stand_in = LABEL in (client.images.get(name).labels or {})
            found[name] = f"{'stand-in' if is_stand_in else 'official image'} {name}"
    except (docker.errors.DockerException, OSError):
        return {}
    finally:
        client.close()
    if any(what.startswith("stand-in") for what in found.values()):
        # testcontainers' cleaner is an image of its own, and where stand-ins are there is no registry to fetch it from.
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    return found


@contextmanager
def _kafka_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    # Kafka tells its clients where to connect, so the outer port must be known before it starts.
    port = ports.find_free(set())
    address = f"127.0.0.1:{port}"
    settings = {
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_NODE_ID": "1",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "CLIENT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"CLIENT://{address}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "CLIENT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in settings.items():
        container = container.with_env(name, value)
    with container:
        _poll(lambda: kafka.answers(address, brokers=1), f"Kafka in {KAFKA_IMAGE}")
        yield address


@contextmanager
def _mongo_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    container = DockerContainer(MONGO_IMAGE).with_exposed_ports(27017).with_command("--replSet rs0 --bind_ip_all")
    # In memory: hundreds of tests make their own collections and indexes, and no test starts this server again.
    container.tmpfs["/data/db"] = "uid=999"  # of the image's own user
    with container:
        # The member calls itself by its inner port, so clients are told not to look for others.
        uri = f"mongodb://127.0.0.1:{container.get_exposed_port(27017)}/?directConnection=true&w=majority&journal=true"
        client = MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=500)

        def primary() -> str | None:
            try:
                hello = client.admin.command("hello")
                if not hello.get("setName"):
                    members = [{"_id": 0, "host": "127.0.0.1:27017"}]
                    client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
            except PyMongoError as error:
                return str(error)
            return None if hello.get("isWritablePrimary") else "not primary yet"

        with client:
            _poll(primary, f"MongoDB in {MONGO_IMAGE}")
        yield uri


def mongo_product(uri: str) -> str:
    """Which product really answers, whatever its address or image is called."""
    with MongoClient[dict[str, Any]](uri) as client:
        info = client.server_info()
    if stand_in := info.get("secantusVersion"):
        return f"SecantusDB {stand_in}, MongoDB protocol"
    return f"MongoDB {info['version']}"


def _poll(ask: Any, what: str) -> None:
    deadline = time.monotonic() + 90
    while (problem := ask()) is not None:
        if time.monotonic() > deadline:
            pytest.fail(f"{what} is not ready: {problem}")
        time.sleep(0.2)


# -- fixtures ---------------------------------------------------------------------------------------------------------

_titles: dict[str, str] = {}
"""Fixture name to the server it stands for; filled when the fixture starts it."""


def name_server(fixture: str, title: str) -> None:
    """Say what a fixture of one suite stands for, for the report."""
    _titles[fixture] = title


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """Address of a real Kafka; topics are the test's own to make and to name uniquely."""
    if backend() == "docker":
        with _kafka_container() as address:
            _titles["kafka_bootstrap"] = f"{KAFKA_TITLE} (container of the {_containers()[KAFKA_IMAGE]})"
            yield address
    else:
        with running_hub(only=["kafka"]) as servers:
            _titles["kafka_bootstrap"] = f"{KAFKA_TITLE} (embedded, 1 node)"
            assert servers.state.kafka is not None
            yield servers.state.kafka


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    """Address of a durable MongoDB-protocol server; databases are the test's own to name uniquely and to drop."""
    if backend() == "docker":
        with _mongo_container() as uri:
            _titles["mongo_uri"] = f"{mongo_product(uri)} (container of the {_containers()[MONGO_IMAGE]})"
            yield uri
    else:
        with running_hub(only=["mongo"]) as servers:
            assert servers.state.mongo is not None
            _titles["mongo_uri"] = f"{mongo_product(servers.state.mongo)} (embedded)"
            yield servers.state.mongo


@pytest.fixture(scope="module")
def kafka_cluster() -> Iterator[RunningHub]:
    """Three Kafka nodes, replication 3, min ISR 2, for tests that kill brokers."""
    with running_hub(only=["kafka"], kafka_nodes=3) as servers:
        _titles["kafka_cluster"] = f"{KAFKA_TITLE} (embedded, 3 nodes)"
        yield servers


@pytest.fixture(scope="session")
def hub(request: pytest.FixtureRequest) -> Iterator[RunningHub]:
    """A whole hub: servers, services and simulator. It ends behind the last test that shares it."""
    with running_hub() as running:
        product = mongo_product(running.state.mongo or "")
        _titles["hub"] = f"whole hub: {KAFKA_TITLE} (embedded, 1 node), {product} (embedded)"
        yield running
        if request.session.testsfailed:
            keep_logs(running.home)
        running.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End the shared hub behind its last test: a hub that has nothing to do takes a sixth of a core."""
    yield
    if item.nodeid.startswith(SHARE_THE_HUB) and not (nextitem and nextitem.nodeid.startswith(SHARE_THE_HUB)):
        for fixture in item.session._fixturemanager.getfixturedefs("hub", item) or ():
            fixture.finish(item._request)  # type: ignore[attr-defined]


class OneWorkerForAFile(LoadFileScheduling):  # type: ignore[misc]
    """The tests of a file stay together, for its fixtures, and so do all files that share the whole hub."""

    def _split_scope(self, nodeid: str) -> str:
        return "hub" if nodeid.startswith(SHARE_THE_HUB) else str(super()._split_scope(nodeid))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep `SHARE_THE_HUB` true: whoever uses the whole hub and is not in it would start another one. Put in order."""
    items.sort(key=lambda item: (not item.nodeid.startswith(TAKE_LONGEST), item.nodeid.startswith(TAKE_LAST)))
    for item in items:
        found = getattr(item, "_fixtureinfo", None)
        hubs = found.name2fixturedefs.get("hub", ()) if found else ()
        # The last is the one it gets; unit tests have fixtures of this name of their own.
        if hubs and hubs[-1].func.__module__ == __name__ and not item.nodeid.startswith(SHARE_THE_HUB):
            raise pytest.UsageError(
                f"{item.nodeid} uses the whole hub: add its file to SHARE_THE_HUB in tests/servers.py"
            )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Take the place of `--dist loadfile`."""
    return OneWorkerForAFile(config, log)


# -- the report -------------------------------------------------------------------------------------------------------

_counts: dict[str, Counter[str]] = defaultdict(Counter)
_servers_of: dict[str, set[str]] = defaultdict(set)
_told: dict[str, list[str]] = defaultdict(list)
"""Lines for the end, by suite; tests add them with `item.user_properties.append(("told", [line, ...]))`."""


def pytest_report_header() -> str:
    """Say at the top where servers will come from."""
    images = f", {', '.join(_containers().values())}" if backend() == "docker" else ""
    return f"test backend: {backend()} (TEST_BACKEND={os.environ.get('TEST_BACKEND', 'auto')}){images}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note on each report which servers its test used; travels with the report, also between xdist processes."""
    used = sorted(_titles[name] for name in getattr(item, "fixturenames", ()) if name in _titles)
    if used and ("servers", used) not in item.user_properties:
        item.user_properties.append(("servers", used))
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count per suite."""
    suite = _suite_of(report.nodeid)
    if report.when == "call" or report.outcome != "passed":
        _counts[suite]["failed" if report.failed else report.outcome] += 1
    for name, value in report.user_properties:
        if name == "servers" and isinstance(value, list):
            _servers_of[suite].update(value)
        if name == "told" and isinstance(value, list):
            # Each report of a test repeats what the one before it said.
            _told[suite] += [line for line in value if line not in _told[suite]]


def report_backend() -> list[str]:
    """One line per suite: counts and the servers it ran on."""
    lines = []
    for suite, counts in sorted(_counts.items()):
        numbers = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
        lines.append(f"{suite:<14} {numbers:<40} {'; '.join(sorted(_servers_of[suite])) or 'no server'}")
    return lines


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Close with the suites and their servers, so that nothing is silently skipped."""
    terminalreporter.section("suites and the servers they ran on")
    for line in report_backend():
        terminalreporter.write_line(line)
    for suite, lines in sorted(_told.items()):
        terminalreporter.section(suite)
        for line in lines:
            terminalreporter.write_line(line)


def _suite_of(node_id: str) -> str:
    parts = node_id.split("::", maxsplit=1)[0].split("/")
    return parts[1] if len(parts) > 2 else parts[0]


__all__ = [
    "KAFKA_TITLE",
    "RunningHub",
    "StackError",
    "backend",
    "mongo_product",
    "name_server",
    "report_backend",
    "running_hub",
]
