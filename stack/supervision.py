"""supervisord: its generated configuration, and a typed view of its XML-RPC interface.

Every program is a group of its own with one process, so that adding one instance of a service leaves the others alone,
and a changed program is restarted without touching its neighbours. ADR 0002 says why supervisord.
"""

import configparser
import hashlib
import http.client
import itertools
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from stack.errors import StackError
from stack.settings import ROOT

MARK = "HUB_PROGRAM_OF"
"""Environment variable of every started program; its value is the hub's home. Tells our processes from all others."""

LONGEST_SOCKET_PATH = 100
"""A Unix socket's path may have 107 bytes on Linux (103 on macOS), and supervisord adds a suffix while it binds."""

LOG_MAX_BYTES = "10MB"
LOG_BACKUPS = 3


@dataclass(frozen=True)
class Program:
    """One process to keep running.

    Args:
        name: also the name of its log file.
        command: first element is an absolute path.
        environment: on top of what supervisord itself was started with.
        depends_on_file: a settings file of the program; when its content changes, the program is restarted.
        stop_wait_seconds: patience between SIGTERM and SIGKILL; must exceed the program's own graceful timeout.
        priority: stops run from the highest to the lowest.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    depends_on_file: Path | None = None
    stop_wait_seconds: int = 30
    priority: int = 900

    def description(self) -> str:
        """What launch.py needs, as JSON."""
        return json.dumps(
            {"command": self.command, "environment": dict(self.environment), "directory": str(ROOT)}, indent=1
        )

    def digest(self) -> str:
        """Changes when a restart is needed."""
        content = self.depends_on_file.read_bytes() if self.depends_on_file else b""
        return hashlib.sha256(self.description().encode() + content).hexdigest()[:16]


@dataclass(frozen=True)
class ProcessState:
    """How supervisord sees one program."""

    name: str
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN (supervisord's words)."""
    pid: int
    started_at: int
    """Unix seconds of the last start."""


class Supervisor:
    """The supervisor of one hub home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.logs = home / "logs"
        self._conf = home / "supervisord.conf"
        self._programs = home / "programs"
        self.socket = self._socket_path()

    def log_file(self, name: str) -> Path:
        """Where a program's standard output and error go."""
        return self.logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The last lines of a program's log, empty when there is none."""
        try:
            text = self.log_file(name).read_bytes()[-16_384:].decode("utf-8", errors="replace")
        except OSError:
            return ""
        # A program that cannot start says the same at every try; once is enough.
        return "\n".join([line for line, _ in itertools.groupby(text.splitlines())][-lines:])

    # -- the daemon -----------------------------------------------------------------------------------------------

    def is_running(self) -> bool:
        """Whether supervisord answers."""
        try:
            return bool(self._rpc().getState()["statecode"] == 1)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def start(self, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
        """Start the daemon with these programs, none of which runs yet.

        Raises:
            StackError: the daemon did not come up.
        """
        self._write(programs)
        self.end_orphans()
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._conf)],
            cwd=ROOT,
            env=dict(environment) | {MARK: str(self.home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        deadline = time.monotonic() + 15
        while not self.is_running():
            if started.returncode != 0 or time.monotonic() > deadline:
                raise StackError(
                    "supervisor_failed",
                    "supervisord did not start.",
                    f"Its log is {self.logs / 'supervisord.log'}.",
                    log_tail=(started.stdout + started.stderr + self.log_tail("supervisord"))[-2000:],
                )
            time.sleep(0.05)

    def shut_down(self) -> None:
        """End the daemon and wait for it; every program still running is stopped first."""
        pid = int(self._rpc().getPID())
        self._call("shutdown")
        try:
            psutil.Process(pid).wait(timeout=60)
        except psutil.NoSuchProcess:
            return
        except psutil.TimeoutExpired as error:
            raise StackError(
                "supervisor_hangs",
                f"supervisord (pid {pid}) did not end within 60 s.",
                f"Look into {self.logs / 'supervisord.log'}; `kill -9 {pid}` ends it for good, data is safe.",
            ) from error

    def end_orphans(self) -> list[int]:
        """End programs of this hub whose supervisor is gone (it was killed with -9); returns their pids.

        They are recognised by the mark in their environment, never by name.
        """
        orphans = [process for process in processes_of(self.home) if process.pid != os.getpid()]
        for process in orphans:
            _quietly(process.terminate)
        _, alive = psutil.wait_procs(orphans, timeout=15)
        for process in alive:
            _quietly(process.kill)
        psutil.wait_procs(alive, timeout=5)
        return [process.pid for process in orphans]

    # -- programs -------------------------------------------------------------------------------------------------

    def update(self, programs: Iterable[Program]) -> tuple[list[str], list[str]]:
        """Bring a running daemon to these programs; unchanged ones go on untouched.

        Returns:
            Names whose process was stopped because it changed, and names that are no longer wanted.
        """
        self._write(programs)
        [[added, changed, removed]] = self._call("reloadConfig")
        self.stop([*removed, *changed])
        for name in [*removed, *changed]:
            self._call("removeProcessGroup", name)
        for name in [*changed, *added]:
            self._call("addProcessGroup", name)
        return changed, removed

    def processes(self) -> dict[str, ProcessState]:
        """All programs by name."""
        return {
            info["name"]: ProcessState(info["name"], info["statename"], info["pid"], info["start"])
            for info in self._call("getAllProcessInfo")
        }

    def begin(self, names: Iterable[str]) -> None:
        """Start programs that do not run; does not wait for anything."""
        states = self.processes()
        for name in names:
            if states[name].state in {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}:
                self._call("startProcess", name, False, harmless=Faults.ALREADY_STARTED)

    def stop(self, names: Iterable[str]) -> None:
        """Stop programs side by side, gracefully, and wait until all have ended."""
        known = self.processes()
        wanted = [name for name in names if name in known]
        for name in wanted:
            self._call("stopProcess", name, False, harmless=Faults.NOT_RUNNING)
        while any(self.processes()[name].state not in {"STOPPED", "EXITED", "FATAL"} for name in wanted):
            time.sleep(0.05)

    def kill(self, name: str, *, restart: bool) -> int:
        """Kill -9 one program; returns the pid that died.

        Args:
            name: the program.
            restart: whether supervisord may bring it back (it does within about a second).

        Raises:
            StackError: the program was not running.
        """
        pid = self.processes()[name].pid
        if not pid:
            raise StackError("not_running", f"{name} does not run, so it cannot be killed.", "Start it first.")
        process = psutil.Process(pid)
        if not restart:
            # Frozen first, it cannot react to the SIGTERM that tells supervisord this end is wanted.
            process.send_signal(signal.SIGSTOP)
            self._call("stopProcess", name, False)
        process.kill()
        deadline = time.monotonic() + 10
        while (now := self.processes()[name]).pid == pid:
            if time.monotonic() > deadline:
                raise StackError("kill_failed", f"{name} (pid {pid}) is still there: {now.state}.", "Look at its log.")
            time.sleep(0.02)
        return pid

    # -- inside ---------------------------------------------------------------------------------------------------

    def _call(self, method: str, *arguments: object, harmless: int | None = None) -> Any:
        try:
            return getattr(self._rpc(), method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == harmless:
                return None
            raise StackError(
                "supervisor_refused",
                f"supervisord refused {method}{arguments}: {fault.faultString}",
                f"Its log is {self.logs / 'supervisord.log'}.",
            ) from fault
        except (OSError, http.client.HTTPException) as error:
            raise StackError(
                "hub_not_running", "The hub is not running here: its supervisor does not answer.", "Start it: make up"
            ) from error

    def _rpc(self) -> Any:
        username, password = self._credentials()
        transport = SupervisorTransport(username, password, f"unix://{self.socket}")
        return xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor

    def _credentials(self) -> tuple[str, str]:
        conf = configparser.RawConfigParser()
        conf.read(self._conf)
        section = "unix_http_server"
        if conf.has_section(section):
            return conf.get(section, "username"), conf.get(section, "password")
        return "hub", secrets.token_hex(24)

    def _socket_path(self) -> Path:
        usual = self.home / "supervisor.sock"
        if len(str(usual)) <= LONGEST_SOCKET_PATH:
            return usual
        short = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"binh-yen-{os.getuid()}-{short}" / "supervisor.sock"

    def _write(self, programs: Iterable[Program]) -> None:
        wanted = list(programs)
        for folder in (self.home, self.logs, self._programs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        username, password = self._credentials()
        sections = [_daemon_sections(self.home, self.logs, self.socket, username, password)]
        for program in wanted:
            file = self._programs / f"{program.name}.json"
            write_private(file, program.description())
            sections.append(_program_section(program, file, self.log_file(program.name)))
        for file in self._programs.glob("*.json"):
            if file.stem not in {program.name for program in wanted}:
                file.unlink()
        write_private(self._conf, "\n".join(sections))


def processes_of(home: Path) -> list[psutil.Process]:
    """All processes that carry this home's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # somebody else's, or gone meanwhile
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return


def _escaped(value: object) -> str:
    """A value for supervisord's configuration, where % starts an expansion."""
    return str(value).replace("%", "%%")


def _daemon_sections(home: Path, logs: Path, socket: Path, username: str, password: str) -> str:
    return f"""; Written by `python -m stack`; changes are lost at the next `make up`.
[unix_http_server]
file={_escaped(socket)}
chmod=0700
username={username}
password={password}

[supervisord]
logfile={_escaped(logs / "supervisord.log")}
logfile_maxbytes={LOG_MAX_BYTES}
logfile_backups=1
pidfile={_escaped(home / "supervisord.pid")}
childlogdir={_escaped(logs)}
directory={_escaped(ROOT)}
umask=077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


def _program_section(program: Program, file: Path, log: Path) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", program.name):
        raise ValueError(program.name)
    command = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")), str(file)])
    # startsecs=1: what survives a second counts as started; whether it is ready is asked of the program itself.
    # startretries: between tries supervisord waits 1 s, 2 s, 3 s …, so twenty tries are three and a half minutes.
    return f"""[program:{program.name}]
command={_escaped(command)}
environment=HUB_PROGRAM_DIGEST="{program.digest()}"
priority={program.priority}
autostart=false
autorestart=true
startsecs=1
startretries=20
stopsignal=TERM
stopwaitsecs={program.stop_wait_seconds}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={_escaped(log)}
stdout_logfile_maxbytes={LOG_MAX_BYTES}
stdout_logfile_backups={LOG_BACKUPS}
"""
