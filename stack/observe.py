"""`make observe`: Prometheus over the local hub, with the alerts of `observability/`, until it is ended with Ctrl-C."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from stack import ports
from stack.errors import StackError
from stack.settings import ROOT, StackSettings
from stack.state import HubState
from stack.supervision import write_private
from stack.terminal import Terminal

LOOK_EVERY_SECONDS = 5.0
RULES = ROOT / "observability"


def observe(settings: StackSettings, terminal: Terminal, *, port: int | None) -> None:
    """Run Prometheus until it is interrupted; instances that come with `make scale` are found while it runs.

    Raises:
        StackError: there is no hub or no Prometheus.
    """
    folder = settings.hub_home / "prometheus"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_targets(settings.hub_home, folder)
    write_private(folder / "prometheus.yml", yaml.safe_dump(configuration(folder), sort_keys=False))
    address = f"127.0.0.1:{port or ports.find_free(set())}"
    command = [
        _prometheus(settings),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # however it is ended, Prometheus ends with it
    with subprocess.Popen(command, cwd=folder) as prometheus:
        terminal.say(f"Prometheus: http://{address} (Ctrl-C ends it; its data stay in {folder})")
        try:
            while prometheus.poll() is None:
                time.sleep(LOOK_EVERY_SECONDS)
                _write_targets(settings.hub_home, folder)
        except KeyboardInterrupt:
            pass
        finally:
            prometheus.terminate()


def configuration(folder: Path) -> dict[str, Any]:
    """`observability/prometheus.yml`, with the addresses of this machine's hub from a file in `folder`."""
    content: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text("utf-8"))
    content["rule_files"] = [str(RULES / name) for name in content["rule_files"]]
    content["scrape_configs"] = [
        {"job_name": "hub", "file_sd_configs": [{"files": [str(folder / "targets.json")], "refresh_interval": "5s"}]}
    ]
    return content


def targets(state: HubState) -> list[dict[str, Any]]:
    """Every instance of every service, for Prometheus' file discovery."""
    return [
        {"targets": [address.removeprefix("http://") for address in addresses], "labels": {"service_name": service}}
        for service, addresses in sorted(state.instances.items())
    ]


def _write_targets(home: Path, folder: Path) -> None:
    state = HubState.read(home)
    if state is None:
        raise StackError("hub_not_running", "There is no hub to be observed in this folder.", "Start it: make up")
    write_private(folder / "targets.json", json.dumps(targets(state), indent=1))


def program(settings: StackSettings, name: str) -> str | None:
    """Where `prometheus` or `promtool` is: on the PATH, or in the cache, where stack/prometheus.sh puts them."""
    cached = settings.hub_cache_dir / "prometheus/usr/bin" / name
    return shutil.which(name) or (str(cached) if cached.is_file() else None)


def _prometheus(settings: StackSettings) -> str:
    found = program(settings, "prometheus")
    if found is None:
        raise StackError(
            "prometheus_missing",
            "Prometheus is not installed.",
            "On Debian: apt-get install prometheus (with its pages) or sh stack/prometheus.sh (without).",
        )
    return found
