"""The stack in containers, driven as an operator drives it: through the docker command line."""
# ruff: noqa: S310 - every address is our own and starts with http://

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.images import image_of, stand_in_of

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES = ("intake", "router", "notifier", "console")
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
ENGINE_ADVICE = "start one (on a machine without a registry: deploy/air-gapped engine, then eval its env)"


@cache
def engine() -> tuple[str | None, str]:
    """The docker client that reaches an engine and knows compose v2.

    Returns:
        The program, or None; and what was found, in words for the report.
    """
    found = f"no docker command on the PATH; {ENGINE_ADVICE}"
    # A client unpacked into /usr/local may know no compose where the distribution's own does.
    for docker in dict.fromkeys(filter(None, (shutil.which("docker"), shutil.which("docker", path="/usr/bin")))):
        version = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=20
        )
        if version.returncode != 0:
            found = f"no Docker engine answers; {ENGINE_ADVICE}"
            continue
        compose = subprocess.run([docker, "compose", "version", "--short"], capture_output=True, text=True, timeout=20)
        if compose.returncode == 0:
            return docker, f"Docker {version.stdout.strip()}, compose {compose.stdout.strip()}"
        found = "a Docker engine answers, but `docker compose` (v2) is missing"
    return None, found


@dataclass(frozen=True)
class Container:
    """One running container of a service."""

    id: str
    name: str


@dataclass
class Compose:
    """One compose project with its own secrets, ports, networks and volumes.

    Attributes:
        project: name; two projects never meet.
        secrets: folder of its secret files.
    """

    docker: str
    project: str
    secrets: Path
    replicas: dict[str, int] = field(default_factory=lambda: {"intake": 2, "router": 1, "notifier": 1})

    @property
    def stand_ins(self) -> dict[str, str]:
        """Images that are stand-ins here, with what they stand on."""
        images = map(image_of, (BROKERS[0], "mongo", "proxy"))
        return {image: found for image in images if (found := stand_in_of(image, docker=self.docker))}

    @property
    def _environment(self) -> dict[str, str]:
        return dict(os.environ) | {
            "HUB_SECRETS_DIR": str(self.secrets),
            "HUB_VERSION": "under-test",
            "HUB_WEBHOOK_PORT": "0",
            "HUB_CONSOLE_PORT": "0",
            "HUB_PHONE_PORT": "0",
            "SIMULATOR_TIME_SCALE": "0.05",  # Zalo's waits between attempts, shortened
        }

    def _docker(self, *arguments: str, check: bool = True, timeout_seconds: float = 300) -> str:
        done = subprocess.run(
            [self.docker, *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout if done.returncode == 0 else ""

    def compose(self, *arguments: str, check: bool = True, timeout_seconds: float = 400) -> str:
        """Run `docker compose`, with the override file where the images are stand-ins."""
        files = ["-f", "docker-compose.yml", "-f", "tests/compose/docker-compose.test.yml"]
        if self.stand_ins:
            files += ["-f", "docker-compose.air-gapped.yml"]
        return self._docker(
            "compose", "--project-directory", str(ROOT), *files, "-p", self.project, "--profile", "demo", *arguments,
            check=check, timeout_seconds=timeout_seconds,
        )  # fmt: skip

    # -- life -------------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Build the image of the hub."""
        self.compose("build", "-q", "init", timeout_seconds=900)

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        self.compose("up", "-d", "--wait", "--wait-timeout", "360", "--quiet-pull")

    def scale(self, **replicas: int) -> None:
        """Change the number of replicas of some services; the others stay, whatever the file says."""
        self.replicas |= replicas
        self.compose("scale", *(f"{name}={count}" for name, count in replicas.items()))
        for name in replicas:
            self.until_healthy(name)

    def down(self) -> None:
        """Stop everything politely; the data stays."""
        self.compose("down", "--timeout", "45", check=False)

    def delete(self) -> None:
        """Delete everything of this project; nobody waits for what is deleted."""
        self.compose("down", "--remove-orphans", "--volumes", "--timeout", "1", check=False)

    # -- containers -------------------------------------------------------------------------------------------------

    def containers(self, service: str) -> list[Container]:
        """Running containers of a service."""
        filters = [
            "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={service}",
        ]  # fmt: skip
        lines = self._docker("ps", "--no-trunc", *filters, "--format", "{{.ID}} {{.Names}}").splitlines()
        return sorted((Container(*line.split(" ", 1)) for line in lines), key=lambda c: c.name)

    def health(self, container: Container) -> str:
        """healthy, unhealthy, starting, or the state of a container that has no health check."""
        form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
        return self._docker("inspect", "-f", form, container.id, check=False).strip()

    def until_healthy(self, service: str, *, seconds: float = 150) -> None:
        """Wait until all wanted replicas of a service are there and healthy."""
        wanted = self.replicas.get(service, 1)

        def all_healthy() -> bool:
            containers = self.containers(service)
            return len(containers) == wanted and all(self.health(c) == "healthy" for c in containers)

        self.until(all_healthy, f"{wanted} healthy replica(s) of {service}", seconds=seconds)

    def kill(self, container: Container) -> None:
        """Kill -9, without a word to the program."""
        self._docker("kill", container.id)

    def start(self, container: Container) -> None:
        """Start a killed container again."""
        self._docker("start", container.id)

    def restart(self, container: Container) -> None:
        """Restart as a roll-out does: stop politely, start."""
        self._docker("restart", "--time", "45", container.id)

    def disconnect(self, container: Container, network: str) -> None:
        """Pull the network cable."""
        self._docker("network", "disconnect", f"{self.project}_{network}", container.id)

    def connect(self, container: Container, network: str, *, alias: str) -> None:
        """Plug it in again."""
        self._docker("network", "connect", "--alias", alias, f"{self.project}_{network}", container.id)

    def is_internal(self, network: str) -> bool:
        """Whether the engine lets nothing of this network out."""
        return self._docker("network", "inspect", "-f", "{{.Internal}}", f"{self.project}_{network}").strip() == "true"

    def run_inside(self, container: Container, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a container."""
        return subprocess.run(
            [self.docker, "exec", container.id, *command],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def inspect(self, container: Container) -> dict[str, Any]:
        """All that the engine knows of a container."""
        answer: list[dict[str, Any]] = json.loads(self._docker("inspect", container.id))
        return answer[0]

    def memory(self) -> dict[str, str]:
        """Memory of every container now, by name without the project."""
        ids = self._docker("ps", "-q", "--filter", f"label=com.docker.compose.project={self.project}").split()
        lines = self._docker("stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}", *ids).splitlines()
        rows = (line.split("\t", 1) for line in lines)
        return {name.removeprefix(f"{self.project}-"): usage for name, usage in sorted(rows)}

    def logs(self) -> str:
        """Everything the containers printed."""
        return self.compose("logs", "--no-color", "--timestamps", check=False)

    def hub(self, *arguments: str) -> str:
        """The hub's own command line, inside the stack; what it prints, or nothing when it fails."""
        return self.compose("run", "--rm", "-T", "--no-deps", "hub", *arguments, check=False)

    # -- addresses ---------------------------------------------------------------------------------------------------

    def address(self, port: int) -> str:
        """Where the proxy's port is published."""
        return f"http://{self.compose('port', 'proxy', str(port)).strip()}"

    @staticmethod
    def until(condition: Callable[[], bool], what: str, *, seconds: float) -> None:
        """Poll until it holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s: {what}")
            time.sleep(0.3)


@dataclass(frozen=True)
class JsonClient:
    """An HTTP API that speaks JSON."""

    base: str

    def get(self, path: str) -> dict[str, Any]:
        """Read JSON."""
        with urllib.request.urlopen(self.base + path, timeout=60) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post JSON, read JSON."""
        request = urllib.request.Request(
            self.base + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed


class SimulatorClient(JsonClient):
    """The simulator's control API."""

    def log(self) -> list[dict[str, Any]]:
        """All that the simulator sent and received."""
        items: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self.get(f"/control/log?after={after}&limit=10000")
            items += page["items"]
            if not page["items"]:
                return items
            after = page["next"]


def http_status(
    url: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> int:
    """Status code of one request."""
    try:
        request = urllib.request.Request(url, body, dict(headers or {}), method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def missing(wanted: Collection[str], present: Collection[str]) -> list[str]:
    """What is wanted and not there, sorted."""
    return sorted(set(wanted) - set(present))
