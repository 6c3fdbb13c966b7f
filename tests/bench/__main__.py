"""`make bench`: every stage beside its floor, on real servers, with the machine named; prints a Markdown table."""

import argparse
import asyncio
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import stages
from tests.bench.measure import table
from tests.servers import KAFKA_TITLE, mongo_product

STAGES = {"intake": stages.intake, "router": stages.router, "notifier": stages.notifier, "echoes": stages.echoes}
ITEMS = {"intake": 4_000, "router": 2_000, "notifier": 4_000, "echoes": 4_000}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("stage", nargs="*", help=f"{' or '.join(STAGES)}; all when none is named")
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
    names = arguments.stage or list(STAGES)
    if unknown := sorted(set(names) - set(STAGES)):
        sys.exit(f"There is no stage {', '.join(unknown)}: choose among {', '.join(STAGES)}.")
    with stages.bench_hub(database=arguments.database) as bench:
        report: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
            "load_average_before": os.getloadavg()[0],
            "kafka": KAFKA_TITLE,
            "database": mongo_product(bench.mongo),
            "stages": [],
        }
        for name in names:
            found = await STAGES[name](bench, items=arguments.items or ITEMS[name], rounds=arguments.rounds)
            report["stages"].append(found.facts())
            print(table(report["stages"][-1:]), flush=True)
        return report


def main() -> None:
    """Run the stages and print what they came to."""
    arguments = _arguments()
    report = asyncio.run(_run(arguments))
    facts = ", ".join(f"{key} {report[key]}" for key in ("machine", "kafka", "database", "load_average_before", "at"))
    print(f"\n{facts}\n\n{table(report['stages'])}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
