"""Kafka's jars: fetched from a Maven repository without Maven, checked against the committed list, shared by clones."""

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jgo.maven import MavenContext, PythonResolver
from requests import RequestException
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from stack.errors import StackError
from stack.locks import only_one
from stack.terminal import Terminal

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4!"
"""Kafka's parts log through SLF4J 1.7; this binding brings it to log4j. The `!` keeps jgo from taking the versions that
log4j's own build manages (an older Jackson, another kafka-clients) for ours."""

LIST = Path(__file__).with_name("kafka-jars.sha256")
PARALLEL_DOWNLOADS = 8
WAITS_SECONDS = (1.0, 3.0, 9.0)
"""Waits before the second, third and fourth try of one jar; then the download counts as failed."""


@dataclass(frozen=True)
class Jar:
    """One line of the list: where the jar is in any Maven repository, and the SHA-256 it must have."""

    path: PurePosixPath
    sha256: str

    @property
    def filename(self) -> str:
        """The jar's file name, unique in the list."""
        return self.path.name

    @property
    def coordinates(self) -> tuple[str, str, str]:
        """Group, artifact, version."""
        *group, artifact, version, _ = self.path.parts
        return ".".join(group), artifact, version


def read_list(path: Path = LIST) -> list[Jar]:
    """Read the committed list (the format of `sha256sum`, with paths as in a Maven repository)."""
    jars = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            sha256, jar_path = line.split()
            jars.append(Jar(PurePosixPath(jar_path), sha256))
    return jars


def jars_folder(cache_dir: Path, jars: Sequence[Jar]) -> Path:
    """The folder of exactly these jars; another list gets another folder, so versions never mix."""
    digest = hashlib.sha256("\n".join(f"{jar.sha256} {jar.path}" for jar in jars).encode()).hexdigest()
    return cache_dir / "kafka" / f"{KAFKA.rsplit(':', maxsplit=1)[-1]}-{digest[:12]}"


def ensure_jars(
    cache_dir: Path, terminal: Terminal, *, repository_url: str | None = None, jars: Sequence[Jar] | None = None
) -> Path:
    """Make sure that the cache holds all jars, unchanged, and return their folder.

    Interrupted downloads leave nothing behind that could be taken for a jar; whole jars stay for the next try.

    Raises:
        StackError: a jar could not be fetched, has another SHA-256 than the list says, or does not belong there.
    """
    wanted = read_list() if jars is None else list(jars)
    folder = jars_folder(cache_dir, wanted)
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder.parent / f"{folder.name}.lock", terminal, "another run that downloads Kafka"):
        missing = check(folder, wanted)
        if missing:
            _download(missing, folder, terminal, repository_url)
    return folder


def check(folder: Path, jars: Sequence[Jar]) -> list[Jar]:
    """Return the jars that are not there yet.

    Raises:
        StackError: a jar differs from the list, or a jar is there that the list does not know.
    """
    by_name = {jar.filename: jar for jar in jars}
    present = {path.name for path in folder.glob("*.jar")}
    if unexpected := sorted(present - by_name.keys()):
        raise StackError(
            "kafka_jar_unexpected",
            f"{folder} holds jars that stack/kafka-jars.sha256 does not list: {', '.join(unexpected)}.",
            "Java would load them too. Move them away, or delete the folder and run `make up` again.",
        )
    for name in sorted(present):
        if _sha256(folder / name) != by_name[name].sha256:
            raise StackError(
                "kafka_jar_mismatch",
                f"{folder / name} is not the file that stack/kafka-jars.sha256 lists.",
                "Delete it and run `make up` again; it is then fetched anew.",
            )
    return [jar for jar in jars if jar.filename not in present]


def _download(missing: Sequence[Jar], folder: Path, terminal: Terminal, repository_url: str | None) -> None:
    source = repository_url or "Maven Central"
    terminal.say(f"  … downloading Apache Kafka: {len(missing)} jars from {source}")
    started = time.monotonic()
    columns = (TextColumn("    {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder.parent) as incoming,
        Progress(
            *columns, console=terminal.console, transient=True, disable=not terminal.console.is_terminal
        ) as progress,
        ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool,
    ):
        bar = progress.add_task("jars", total=None)

        @contextmanager
        def count_bytes(_filename: str, total: int) -> Iterator[Any]:
            known = progress.tasks[bar].total or 0
            progress.update(bar, total=known + total)
            yield lambda count: progress.advance(bar, count)

        jobs = [
            pool.submit(_fetch, jar, folder, Path(incoming) / str(number), count_bytes, repository_url)
            for number, jar in enumerate(missing)
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    terminal.say(f"  [green]✓[/green] Kafka's jars are in {folder} [dim]({time.monotonic() - started:.1f} s)[/dim]")


def _fetch(jar: Jar, folder: Path, incoming: Path, count_bytes: Any, repository_url: str | None) -> None:
    group, artifact, version = jar.coordinates
    for attempt, wait_seconds in enumerate((0.0, *WAITS_SECONDS), start=1):
        time.sleep(wait_seconds)
        context = MavenContext(
            repo_cache=incoming / str(attempt),  # jgo writes straight to the final name, so every try gets its own
            resolver=PythonResolver(progress_callback=count_bytes),
            remote_repos=None if repository_url is None else {"given": repository_url.rstrip("/")},
            timeout=30,
        )
        try:
            path = context.project(group, artifact).at_version(version).artifact().resolve()
        except (RequestException, RuntimeError, OSError) as error:
            failure: Exception = error
            continue
        if _sha256(path) != jar.sha256:
            raise StackError(
                "kafka_jar_mismatch",
                f"{jar.filename} from {repository_url or 'Maven Central'} is not the file that "
                "stack/kafka-jars.sha256 lists.",
                "A mirror or a proxy may have changed it. Try another one: MAVEN_REPOSITORY_URL=… make up.",
            )
        path.replace(folder / jar.filename)
        return
    raise StackError(
        "kafka_jar_download_failed",
        f"{jar.filename} could not be fetched from {repository_url or 'Maven Central'} in {len(WAITS_SECONDS) + 1} "
        f"tries ({type(failure).__name__}: {str(failure)[:300]}).",
        "Check the network or a proxy (HTTPS_PROXY) and run `make up` again: what is complete is kept. A mirror of "
        f"Maven Central can be named with MAVEN_REPOSITORY_URL=…, or put the jars of stack/kafka-jars.sha256 into "
        f"{folder} by hand.",
    ) from failure


def resolve_list() -> list[Jar]:
    """Resolve Kafka's runtime dependencies anew, for `python -m stack lock-kafka`; this decides what the list says."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), resolver=PythonResolver(), timeout=30)
        inputs, transitive = context.resolver.resolve([context.create_dependency(c) for c in (KAFKA, LOGGING)])
        jars = []
        for dependency in [*inputs, *transitive]:
            if dependency.scope in (None, "compile", "runtime") and not dependency.optional:
                path = dependency.artifact.resolve()
                jars.append(Jar(PurePosixPath(path.relative_to(folder).as_posix()), _sha256(path)))
        return sorted(jars, key=lambda jar: str(jar.path))


def write_list(jars: Sequence[Jar], path: Path = LIST) -> None:
    """Write the list for committing."""
    head = (
        f"# {KAFKA} and what it needs at run time; written by `python -m stack lock-kafka`, checked at every start.\n"
    )
    path.write_text(head + "".join(f"{jar.sha256}  {jar.path}\n" for jar in jars), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
