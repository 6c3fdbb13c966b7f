"""`make bench`: every stage beside its floor, on real servers, with the machine named; prints a Markdown table."""

import argparse
import asyncio
import json
import os
import platform
import runpy
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import stages
from tests.bench.measure import Comparison, table
from tests.bench.understand import understand
from tests.servers import KAFKA_TITLE, mongo_product

WITHOUT_HUB = {"understand": understand}
STAGES = {"intake": stages.intake, "router": stages.router, "notifier": stages.notifier, "echoes": stages.echoes}
ALONE = ("growth", "broadcasts", "rate")
"""Measured by themselves, without a running hub; each has options and a table of its own."""
ITEMS = {"intake": 4_000, "router": 2_000, "notifier": 4_000, "echoes": 4_000, "understand": 6_400}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog=f"{', '.join(ALONE)}: first word of the line, with options of their own: ... {ALONE[0]} --help",
    )
    parser.add_argument("stage", nargs="*", help=f"{' or '.join([*STAGES, *WITHOUT_HUB])}; all when none is named")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each side; one more warms up")
    parser.add_argument("--items", type=int, help="items of a round; each stage has its own number")
    parser.add_argument(
        "--database",
        default=os.environ.get("HUB_MONGO", "auto"),
        help="auto, mongod, wheel or rust: as HUB_MONGO (the PyPI stand-in is slow: say which one you measured)",
    )
    parser.add_argument("--json", type=Path, help="write all numbers to this file too")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    every = [*STAGES, *WITHOUT_HUB]
    names = arguments.stage or every
    if unknown := sorted(set(names) - set(every)):
        sys.exit(f"There is no stage {', '.join(unknown)}: choose among {', '.join([*every, *ALONE])}.")
    report: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load_average_before": os.getloadavg()[0],
        "stages": [],
    }

    def add(found: Comparison) -> None:
        report["stages"].append(found.facts())
        print(table(report["stages"][-1:]), flush=True)

    for name in names:
        if name in WITHOUT_HUB:
            add(WITHOUT_HUB[name](items=arguments.items or ITEMS[name], rounds=arguments.rounds))
    on_hub = [name for name in names if name in STAGES]
    if on_hub:
        with stages.bench_hub(database=arguments.database) as bench:
            report |= {"kafka": KAFKA_TITLE, "database": mongo_product(bench.mongo)}
            for name in on_hub:
                add(await STAGES[name](bench, items=arguments.items or ITEMS[name], rounds=arguments.rounds))
    return report


def main() -> None:
    """Run the stages and print what they came to."""
    if sys.argv[1:2] and sys.argv[1] in ALONE:
        del sys.argv[0]
        runpy.run_module(f"tests.bench.{sys.argv[0]}", run_name="__main__")
        return
    arguments = _arguments()
    report = asyncio.run(_run(arguments))
    facts = ", ".join(f"{key} {value}" for key, value in report.items() if key != "stages")
    print(f"\n{facts}\n\n{table(report['stages'])}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
