"""Bring the hub up, down, up to date and to another size: the one place that knows the order of things."""

import hashlib
import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psutil
from cryptography.fernet import Fernet

from stack import kafka, kafka_jars, mongo, ports, zalo
from stack.errors import StackError
from stack.locks import only_one
from stack.ports import HOST
from stack.settings import ROOT, StackSettings, process_environment
from stack.state import HubState, Memory
from stack.supervision import MARK, Program, Supervisor, write_private
from stack.terminal import Terminal

ServerName = Literal["kafka", "mongo"]
SERVICES = ("intake", "router", "notifier", "console")
PORT_SETTINGS = {
    "kafka": "KAFKA_PORT",
    "mongo": "MONGO_PORT",
    "simulator": "SIMULATOR_PORT",
    "intake": "WEBHOOK_PORT",
    "router": "ROUTER_PORT",
    "notifier": "NOTIFIER_PORT",
    "console": "CONSOLE_PORT",
}
MAX_INSTANCES = 16
# Longer than the services' own: 15 s for HTTP, 20 s for the consumers, some for closing clients.
SERVICE_STOP_SECONDS = 45
MAX_STARTS = 4
"""Starts of one program while `make up` waits for it; then it is broken and waiting longer would only hide that."""
SHIPPED = ("services", "shared", "data", "config", "requirements/runtime.lock")
"""What a running service was started from; when any of it changes, `make up` restarts the services."""


@dataclass(frozen=True)
class Servers:
    """The servers of one hub and the programs that run them; none for a server that is somebody else's."""

    kafka_servers: str | None = None
    kafka_nodes: tuple[kafka.KafkaNode, ...] = ()
    mongo_uri: str | None = None
    mongo_server: mongo.MongoServer | None = None
    programs: tuple[Program, ...] = ()


@dataclass(frozen=True)
class DevPlan:
    """What `make dev` runs in its own process.

    Args:
        state: the addresses, as they are written down.
        services: each service's environment.
        simulator: the simulator's settings, None without one.
    """

    state: HubState
    services: dict[str, dict[str, str]]
    simulator: dict[str, Any] | None


class Hub:
    """One hub in one home folder.

    Args:
        settings: the stack's own settings.
        terminal: where to say what happens.
        environment: what the person set; settings of the services in it are handed on to them.
    """

    def __init__(
        self, settings: StackSettings, terminal: Terminal, environment: Mapping[str, str] | None = None
    ) -> None:
        self.settings = settings
        self.home = settings.hub_home
        self.terminal = terminal
        self.environment = process_environment() if environment is None else dict(environment)
        self.supervisor = Supervisor(self.home)
        self._memory = Memory(self.home)
        self._ports: dict[str, int] = {}
        self._servers = Servers()
        self._programs: list[Program] = []

    # -- what people ask for --------------------------------------------------------------------------------------

    def up(self, *, only: Collection[ServerName] | None = None) -> HubState:
        """Start what does not run, update what changed, leave the rest alone; returns when all of it is ready.

        Args:
            only: run just these servers, without the hub on top (tests).

        Raises:
            StackError: something did not come up. What did come up stays up.
        """
        self._prepare_home()
        with only_one(self.home / "lock", self.terminal, "another `make up` or `make down` of this hub"):
            self._memory, self._ports = Memory.load(self.home), {}
            if not self.settings.simulator and only is None:
                zalo.check_own_config(self.settings.zalo_config_file, self.environment)
            self._servers = self._plan_servers(("kafka", "mongo") if only is None else only)
            self._programs = [*self._servers.programs, *(self._plan_hub() if only is None else [])]
            self._supervise(self._programs)
            self.supervisor.begin(program.name for program in self._servers.programs)
            self._await_kafka()
            self._await_mongo()
            if only is None:
                self._initialise()
                self._start_services()
            state = self._state()
            state.write(self.home)
            return state

    def prepare_dev(self) -> DevPlan:
        """Run the servers and make everything ready for services in the caller's own process, on the usual ports."""
        self._prepare_home()
        with only_one(self.home / "lock", self.terminal, "another `make up` or `make down` of this hub"):
            self._memory, self._ports = Memory.load(self.home), {}
            if not self.settings.simulator:
                zalo.check_own_config(self.settings.zalo_config_file, self.environment)
            self._servers = self._plan_servers(("kafka", "mongo"))
            planned = self._plan_hub()
            self._supervise(self._servers.programs)  # services that ran here are stopped: their ports are needed
            self.supervisor.begin(program.name for program in self._servers.programs)
            self._await_kafka()
            self._await_mongo()
            self._initialise()
            self._programs = [*self._servers.programs, *planned]
            state = self._state()
            state.write(self.home)
            environments = {program.name: dict(program.environment) for program in planned if program.name in SERVICES}
            for environment in environments.values():
                environment.setdefault("LOG_FORMAT", "console")
            simulator = {
                "config": self.home / "zalo.yaml",
                "port": self._port("simulator"),
                "state_dir": self.home / "simulator",
                "webhook_url": self._webhook_url(),
            }
            return DevPlan(state, environments, simulator if self.settings.simulator else None)

    def wait_ready(self, names: Collection[str] | None = None) -> None:
        """Wait until the named programs (all, when None) do their work again; for tests that kill them.

        Raises:
            StackError: not within the time limit; carries the end of the program's log.
        """
        wanted = {program.name for program in self._programs} if names is None else set(names)
        if any(_family(name) == "kafka" for name in wanted):
            self._await_kafka()
        if "mongo" in wanted:
            self._await_mongo()
        self._await_services([name for name in sorted(wanted) if _family(name) in {*SERVICES, "simulator"}])

    def down(self) -> bool:
        """Stop everything in order and keep the data; returns whether anything was running."""
        if not self.home.exists():
            return False
        with only_one(self.home / "lock", self.terminal, "another `make up` or `make down` of this hub"):
            if not self.supervisor.is_running():
                return bool(self.supervisor.end_orphans())
            running = list(self.supervisor.processes())
            for title, families in (
                ("services", set(SERVICES)),  # first those that use the others
                ("simulator", {"simulator"}),
                ("Kafka and Mongo", {"kafka", "mongo"}),
            ):
                if names := [name for name in running if _family(name) in families]:
                    with self.terminal.step(f"stopping {title}", f"{title} stopped"):
                        self.supervisor.stop(names)
            self.supervisor.shut_down()
            (self.home / "state.json").unlink(missing_ok=True)
            return True

    def reset(self) -> None:
        """Stop everything and delete all data, secrets and logs of this hub."""
        self.down()
        shutil.rmtree(self.home)

    def scale(self, wanted: Mapping[str, int]) -> HubState:
        """Run this many instances of the named services; the others and the instances that stay are not touched."""
        for service, count in wanted.items():
            if service not in SERVICES or not 1 <= count <= MAX_INSTANCES:
                raise StackError(
                    "scale_invalid",
                    f"{service}={count}: there are {', '.join(SERVICES)}, each with 1 to {MAX_INSTANCES} instances.",
                    "For example: make scale notifier=2",
                )
        self._prepare_home()
        memory = Memory.load(self.home)
        memory.instances |= wanted
        memory.save()
        return self.up()

    # -- the servers ----------------------------------------------------------------------------------------------

    def _plan_servers(self, which: Collection[ServerName]) -> Servers:
        kafka_servers, nodes, kafka_programs = self._plan_kafka() if "kafka" in which else (None, (), [])
        mongo_uri, server, mongo_programs = self._plan_mongo() if "mongo" in which else (None, None, [])
        self._memory.save()
        return Servers(kafka_servers, nodes, mongo_uri, server, (*kafka_programs, *mongo_programs))

    def _plan_kafka(self) -> tuple[str, tuple[kafka.KafkaNode, ...], list[Program]]:
        if self.settings.kafka_bootstrap_servers:
            return self.settings.kafka_bootstrap_servers, (), []
        java = kafka.find_java()
        jars = kafka_jars.ensure_jars(
            self.settings.hub_cache_dir, self.terminal, repository_url=self.settings.maven_repository_url
        )
        nodes = self._kafka_nodes()
        kafka.write_properties(nodes)
        with self.terminal.step("preparing Kafka's data folder"):
            kafka.format_storage(nodes, java, jars)
        programs = [kafka.program(node, java, jars, str(self.home)) for node in nodes]
        return kafka.bootstrap_servers(nodes), nodes, programs

    def _kafka_nodes(self) -> tuple[kafka.KafkaNode, ...]:
        folder = self.home / "kafka"
        count = self.settings.kafka_nodes
        existing = len(list(folder.glob("*/data/meta.properties")))
        if existing not in {0, count}:
            raise StackError(
                "kafka_nodes_changed",
                f"The data in {folder} belongs to {existing} node(s), and KAFKA_NODES asks for {count}.",
                f"Use KAFKA_NODES={existing}, another HUB_HOME, or `make reset` to start from nothing.",
            )
        nodes = []
        for node_id in range(1, count + 1):
            name = kafka.program_name(node_id)
            port, controller_port = self._port(name), self._port(f"{name}-controller")
            nodes.append(kafka.KafkaNode(node_id, port, controller_port, folder / str(node_id)))
        return tuple(nodes)

    def _plan_mongo(self) -> tuple[str, mongo.MongoServer | None, list[Program]]:
        if self.settings.mongo_uri:
            return self.settings.mongo_uri.get_secret_value(), None, []
        folder = self.home / "mongo"
        kind = mongo.kind_of(self.settings.hub_mongo, folder)
        executable = mongo.find_executable(kind, self.settings.hub_cache_dir, self.terminal)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "kind").write_text(kind, encoding="utf-8")
        server = mongo.MongoServer(kind, executable, folder, self._port("mongo"))
        with self.terminal.step(f"preparing {server.title}"):
            server.prepare(str(self.home))
        return server.uri, server, [server.program(str(self.home))]

    def _await_kafka(self) -> None:
        address, nodes = self._servers.kafka_servers, self._servers.kafka_nodes
        if address is None:
            return
        with self.terminal.step("waiting for Kafka", f"Kafka answers on {address}"):
            self._until(
                lambda: kafka.cluster_answers(nodes) if nodes else kafka.answers(address, brokers=1),
                what="Kafka",
                programs=[node.program for node in nodes],
            )

    def _await_mongo(self) -> None:
        uri, server = self._servers.mongo_uri, self._servers.mongo_server
        if uri is None:
            return
        where = f"{server.title} answers on {HOST}:{server.port}" if server else "MongoDB answers"
        with self.terminal.step("waiting for the database", where):
            self._until(
                lambda: self._database_problem(uri, server), what="The database", programs=["mongo"] * bool(server)
            )

    @staticmethod
    def _database_problem(uri: str, server: mongo.MongoServer | None) -> str | None:
        if server and not ports.is_open(f"{HOST}:{server.port}"):
            return "nothing listens there yet"  # asked first: the driver would wait half a second to find out
        return mongo.answers(uri)

    # -- the hub itself -------------------------------------------------------------------------------------------

    def _plan_hub(self) -> list[Program]:
        common = self._service_environment()
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(common.items())]
        write_private(self.home / "env", "".join(lines))
        programs = [self._plan_simulator()] if self.settings.simulator else []
        build = _build(*SHIPPED)
        for service in SERVICES:
            for name in self._instances(service):
                environment = common | {"HTTP_PORT": str(self._port(name)), "HUB_BUILD": build, MARK: str(self.home)}
                programs.append(
                    Program(
                        name=name,
                        command=(sys.executable, "-m", f"services.{service}"),
                        environment=environment,
                        stop_wait_seconds=SERVICE_STOP_SECONDS,
                        priority=300,
                    )
                )
        self._memory.save()
        return programs

    def _plan_simulator(self) -> Program:
        port = self._port("simulator")
        zalo_config = self.home / "zalo.yaml"
        zalo.write_demo_config(zalo_config, f"http://{HOST}:{port}", self.settings.data_dir)
        return Program(
            name="simulator",
            command=(
                *(sys.executable, "-m", "simulator", "--config", str(zalo_config), "--port", str(port)),
                *("--state-dir", str(self.home / "simulator"), "--webhook-url", self._webhook_url()),
            ),
            environment={name: value for name, value in self.environment.items() if name.startswith("SIMULATOR_")}
            | {MARK: str(self.home), "PYTHONUNBUFFERED": "1", "HUB_BUILD": _build("simulator")},
            depends_on_file=zalo_config,
            stop_wait_seconds=20,
            priority=200,
        )

    def _instances(self, service: str) -> list[str]:
        count = self._memory.instances.get(service, 1)
        return [service, *(f"{service}-{number}" for number in range(2, count + 1))]

    def _webhook_url(self) -> str:
        return f"http://{HOST}:{self._port('intake')}/webhooks/zalo"

    def _service_environment(self) -> dict[str, str]:
        """What every service and the command line get: the person's settings, and what the stack knows itself."""
        key = self.home / "token-encryption-key"
        if not key.exists():
            write_private(key, Fernet.generate_key().decode())
        chosen = {name: value for name, value in self.environment.items() if name in _service_settings() and value}
        usual = {"HUB_ENVIRONMENT": "demo" if self.settings.simulator else "production"}
        if "TOKEN_ENCRYPTION_KEY" not in chosen:
            usual["TOKEN_ENCRYPTION_KEY_FILE"] = str(key)
        fixed = {
            "KAFKA_BOOTSTRAP_SERVERS": self._servers.kafka_servers or "",
            "MONGO_URI": self._servers.mongo_uri or "",
            "MONGO_DATABASE": self.settings.mongo_database,
            "HTTP_HOST": HOST,
            "HUB_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        if self.settings.simulator:
            # A ZALO_* left over from an experiment with the real Zalo must not reach the demonstration.
            chosen = {name: value for name, value in chosen.items() if not name.startswith("ZALO_")}
            fixed["ZALO_CONFIG_FILE"] = str(self.home / "zalo.yaml")
            if "API_TOKENS" not in chosen:
                usual["API_TOKENS_FILE"] = str(zalo.write_demo_people(self.home))
        elif self.settings.zalo_config_file:
            fixed["ZALO_CONFIG_FILE"] = str(self.settings.zalo_config_file.expanduser().resolve())
        return usual | chosen | fixed

    def _initialise(self) -> None:
        with self.terminal.step("making topics and indexes", "topics and indexes are there"):
            finished = subprocess.run(
                [sys.executable, "-m", "cli", "init"],
                cwd=ROOT,
                env=dict(os.environ) | self._service_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if finished.returncode != 0:
                raise StackError(
                    "init_failed",
                    "The topics and indexes could not be made.",
                    f"The servers run; look into {self.supervisor.logs} and run `make up` again.",
                    log_tail=(finished.stdout + finished.stderr)[-3000:],
                )

    def _start_services(self) -> None:
        servers = {program.name for program in self._servers.programs}
        names = [program.name for program in self._programs if program.name not in servers]
        self.supervisor.begin(names)
        with self.terminal.step("waiting for the services", f"{', '.join(names)} are ready"):
            self._await_services(names)

    def _await_services(self, names: Sequence[str]) -> None:
        waiting = list(names)

        def ask() -> str | None:
            while waiting and (problem := _is_ready(self._port(waiting[0]))) is None:
                waiting.pop(0)
            return f"{waiting[0]}: {problem}" if waiting else None

        self._until(ask, what="The hub", programs=waiting)

    # -- plumbing -------------------------------------------------------------------------------------------------

    def _prepare_home(self) -> None:
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.settings.hub_cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                "folder_not_writable",
                f"{error.filename} cannot be made: {error.strerror}.",
                "Choose other folders with HUB_HOME=… and HUB_CACHE_DIR=…",
            ) from error

    def _supervise(self, programs: Sequence[Program]) -> None:
        if self.supervisor.is_running():
            changed, removed = self.supervisor.update(programs)
            if changed or removed:
                self.terminal.say(f"  [dim]changed: {', '.join([*changed, *removed])}[/dim]")
        else:
            # Settings of services come from their program alone, so that one taken back does not linger here.
            clean = {name: value for name, value in self.environment.items() if name not in _service_settings()}
            self.supervisor.start(programs, clean)

    def _port(self, name: str) -> int:
        if name not in self._ports:
            setting = PORT_SETTINGS.get(name, "")
            remembered = self._memory.ports
            self._ports[name] = remembered[name] = ports.choose(
                setting or f"for {name}",
                fixed=getattr(self.settings, setting.lower(), None) if setting else None,
                remembered=remembered.get(name),
                taken={port for other, port in (remembered | self._ports).items() if other != name},
                is_ours=self._is_ours,
            )
        return self._ports[name]

    def _is_ours(self, port: int) -> bool:
        process = ports.holder(port)
        try:
            return process is not None and process.environ().get(MARK) == str(self.home)
        except psutil.Error:
            return False

    def _until(self, ask: Callable[[], str | None], *, what: str, programs: Sequence[str]) -> None:
        """Ask until the answer is None (all well); a program that ends again and again ends the wait early."""
        deadline = time.monotonic() + self.settings.ready_timeout_seconds
        starts: set[tuple[str, int]] = set()
        while (problem := ask()) is not None:
            states = self.supervisor.processes() if programs else {}
            starts |= {(name, states[name].started_at) for name in programs}
            dying = [name for name in programs if sum(name == other for other, _ in starts) > MAX_STARTS]
            if dying or time.monotonic() > deadline:
                blamed = next(iter(dying or programs), None)
                raise StackError(
                    "not_ready",
                    f"{dying[0]} ends again and again right after its start."
                    if dying
                    else f"{what} is not ready: {problem}.",
                    f"The whole log: {self.supervisor.log_file(blamed)}"
                    if blamed
                    else "It is not one of this hub's programs: start it, or correct its address.",
                    log_tail=self.supervisor.log_tail(blamed) if blamed else "",
                )
            time.sleep(0.1)

    def _state(self) -> HubState:
        names = {program.name for program in self._programs}
        urls = {
            service: [f"http://{HOST}:{self._port(name)}" for name in self._instances(service)]
            for service in SERVICES
            if service in names
        }
        first = {service: addresses[0] for service, addresses in urls.items()}
        config = self.home / "zalo.yaml" if self.settings.simulator else self.settings.zalo_config_file
        return HubState(
            kafka=self._servers.kafka_servers,
            mongo=self._servers.mongo_uri,
            intake=first.get("intake"),
            router=first.get("router"),
            notifier=first.get("notifier"),
            console=first.get("console"),
            simulator=f"http://{HOST}:{self._port('simulator')}" if "simulator" in names else None,
            webhook=self._webhook_url() if urls else None,
            zalo_config=str(config) if config and urls else None,
            supervisor=f"unix://{self.supervisor.socket}",
            instances=urls,
        )


def _family(program: str) -> str:
    """`notifier` for `notifier-2`."""
    return program.split("-", maxsplit=1)[0]


def _is_ready(port: int) -> str | None:
    """Ask /health/ready once; None when it says yes."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        body = response.read(4096).decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {port} ({error})"
    finally:
        connection.close()
    if response.status == http.client.OK:
        return None
    try:
        checks = json.loads(body).get("checks", {})
        return ", ".join(f"{name}: {answer}" for name, answer in checks.items() if answer != "ok") or body
    except (ValueError, AttributeError):
        return f"HTTP {response.status}: {body[:200]}"


def _service_settings() -> frozenset[str]:
    """Names of all settings of the services, as `.env.example` lists them (a unit test keeps that list complete)."""
    example = ROOT / ".env.example"
    names: set[str] = set()
    for line in example.read_text(encoding="utf-8").splitlines() if example.exists() else ():
        name, equals, _ = line.removeprefix("#").strip().partition("=")
        if equals and name.isupper():
            names |= {name, f"{name}_FILE"}
    return frozenset(names)


def _build(*parts: str) -> str:
    """A fingerprint of the files a program is started from."""
    digest = hashlib.sha256()
    for part in parts:
        path = ROOT / part
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                stat = file.stat()
                digest.update(f"{file.relative_to(ROOT)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
