"""Alerts and dashboard speak of metrics that exist and of runbooks that exist."""

import json
import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

import services.intake.metrics
import services.notifier.app  # noqa: F401 - importing them registers their metrics
import shared.kafka
import shared.tracing  # noqa: F401

ROOT = Path(__file__).parents[3]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "observability/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "observability/grafana/dashboards/hub.json").read_text("utf-8"))
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


def known_metrics() -> set[str]:
    names = set()
    for family in prometheus_client.REGISTRY.collect():
        names |= {family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "count", "sum"))}
    return names


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_names_a_runbook_that_exists(rule: dict[str, Any]) -> None:
    assert (ROOT / rule["annotations"]["runbook"]).is_file()
    assert rule["labels"]["severity"] in {"page", "warn"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_metrics_that_we_export(expression: str) -> None:
    asked = set(re.findall(r"\bhub_[a-z_]+", expression))

    assert asked <= known_metrics()
