"""The OpenAPI document says what the simulator does, and the committed copy is the current one."""

from __future__ import annotations

import json
from pathlib import Path

from simulator.app import build_pages
from simulator.core import Simulator
from simulator.zalo_api import ZaloApi
from tests.unit.simulator.live import settings_for

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi" / "simulator.json"


def test_the_committed_document_is_current() -> None:
    printed = json.dumps(build_pages(None).openapi(), ensure_ascii=False, indent=1) + "\n"
    assert COMMITTED.read_text(encoding="utf-8") == printed, (
        "renew it: python -m simulator --openapi > docs/openapi/simulator.json"
    )


def test_every_path_of_zalo_is_described(tmp_path: Path) -> None:
    routes = ZaloApi(Simulator(settings_for(tmp_path))).routes
    described = {
        (method.upper(), path)
        for path, operations in build_pages(None).openapi()["paths"].items()
        for method in operations
        if not path.startswith(("/control", "/health"))
    }
    assert described == set(routes)
