"""What a benchmark measures, and how two are compared: side by side in the same run, never against a clock alone."""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Round:
    """One load put through one process.

    Attributes:
        items: messages, webhooks or sends.
        seconds: from the first to the last of them.
        cpu_seconds: of the measured process alone, user and system.
        latencies: seconds of each item, where each was timed.
    """

    items: int
    seconds: float
    cpu_seconds: float
    latencies: Sequence[float] = ()

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """CPU of the measured process for one item."""
        return self.cpu_seconds / self.items * 1e6


@dataclass
class Series:
    """The rounds of one side of a comparison."""

    what: str
    rounds: list[Round] = field(default_factory=list)
    peak_mebibytes: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Medians of all rounds; latencies over all items."""
        facts: dict[str, Any] = {
            "what": self.what,
            "items_per_round": self.rounds[0].items,
            "rounds": len(self.rounds),
            "per_second": round(statistics.median(one.rate for one in self.rounds), 1),
            "per_second_min": round(min(one.rate for one in self.rounds), 1),
            "per_second_max": round(max(one.rate for one in self.rounds), 1),
            "cpu_microseconds": round(statistics.median(one.cpu_microseconds for one in self.rounds), 1),
            "peak_mebibytes": round(self.peak_mebibytes, 1),
        }
        if latencies := sorted(seconds for one in self.rounds for seconds in one.latencies):
            facts["p50_milliseconds"] = round(latencies[len(latencies) // 2] * 1_000, 2)
            facts["p99_milliseconds"] = round(latencies[len(latencies) * 99 // 100] * 1_000, 2)
        return facts


@dataclass
class Comparison:
    """Ours beside its floors. Each round of ours has one of each floor next to it."""

    stage: str
    ours: Series
    floors: dict[str, Series]

    def rate_ratio(self, floor: str) -> float:
        """Our rate over the floor's, the median of the pairs."""
        pairs = zip(self.ours.rounds, self.floors[floor].rounds, strict=True)
        return statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)

    def cpu_ratio(self, floor: str) -> float:
        """The floor's CPU for one item over ours, the median of the pairs: 1 means that we add nothing."""
        pairs = zip(self.ours.rounds, self.floors[floor].rounds, strict=True)
        return statistics.median(theirs.cpu_microseconds / ours.cpu_microseconds for ours, theirs in pairs)

    def facts(self) -> dict[str, Any]:
        """Everything, for the report."""
        return {
            "stage": self.stage,
            "ours": self.ours.summary(),
            "floors": {
                name: series.summary()
                | {"rate_ratio": round(self.rate_ratio(name), 3), "cpu_ratio": round(self.cpu_ratio(name), 3)}
                for name, series in self.floors.items()
            },
            "rounds": [asdict(one) | {"latencies": None} for one in self.ours.rounds],
        }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def peak_mebibytes(pid: int) -> float:
    """The most memory the process had at once."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_024
    return psutil.Process(pid).memory_info().rss / 2**20


class Floor:
    """A bare program in a process of its own; it reports with one line on its standard output after each step."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.floors", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Put a line onto its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line it prints; blocks.

        Raises:
            RuntimeError: it ended.
        """
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line.strip()
        raise RuntimeError(f"the floor ended with {self._process.wait()}")


def table(facts: Sequence[dict[str, Any]]) -> str:
    """The report for people, in Markdown."""
    head = "| stage | what | per second | CPU µs each | p50 / p99 ms | peak MiB | rate ratio | CPU ratio |"
    lines = [head, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for one in facts:
        rows = [(one["ours"], "", "")]
        rows += [(floor, f"{floor['rate_ratio']:.2f}", f"{floor['cpu_ratio']:.2f}") for floor in one["floors"].values()]
        for row, rate, cpu in rows:
            latency = f"{row['p50_milliseconds']} / {row['p99_milliseconds']}" if "p50_milliseconds" in row else ""
            lines.append(
                f"| {one['stage']} | {row['what']} | {row['per_second']:,.0f} | {row['cpu_microseconds']:,.0f} "
                f"| {latency} | {row['peak_mebibytes']:.0f} | {rate} | {cpu} |"
            )
    return "\n".join(lines)
