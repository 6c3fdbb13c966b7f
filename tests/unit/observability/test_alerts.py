"""Alerts and dashboard speak of metrics and labels that exist and of runbooks that exist; promtool judges the rules.

`make test` fetches promtool (stack/prometheus.sh); where it cannot be had, the report names the tests as skipped.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

import services.console.app
import services.intake.app
import services.notifier.app
import services.router.app  # noqa: F401 - importing the services registers their metrics

ROOT = Path(__file__).parents[3]
OBSERVABILITY = ROOT / "observability"
RULES = [
    rule
    for group in yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
RULE_TESTS = (OBSERVABILITY / "alerts_test.yml").read_text("utf-8")
RULE_TEST_FILE = yaml.safe_load(RULE_TESTS)
DASHBOARD = json.loads((OBSERVABILITY / "grafana/dashboards/hub.json").read_text("utf-8"))
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
OF_PROMETHEUS = {"instance", "job", "service_name", "le"}
"""Labels that scraping adds, and the one of a histogram's buckets."""

METRIC = re.compile(r"\b((?:hub|process)_[a-z_]+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def _ours() -> dict[str, set[str]]:
    """Every metric the services register, under each name it is exported by, with its labels."""
    labels: dict[str, set[str]] = {}
    for collector, names in prometheus_client.REGISTRY._collector_to_names.items():
        for name in names:
            for end in ("", "_total", "_bucket", "_count", "_sum"):
                labels.setdefault(f"{name}{end}", set()).update(getattr(collector, "_labelnames", ()))
    return labels


def run_promtool(promtool: str, *arguments: str, folder: Path = OBSERVABILITY) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_names_its_runbook_and_has_a_test(rule: dict[str, Any]) -> None:
    runbook = ROOT / rule["annotations"]["runbook"]

    assert f"`{rule['alert']}`" in runbook.read_text("utf-8"), f"{runbook.name} does not say which alert it is for"
    assert rule["labels"]["severity"] in {"page", "warn"}
    assert f"alertname: {rule['alert']}\n" in RULE_TESTS


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_metrics_and_labels_that_we_export(expression: str) -> None:
    ours = _ours()
    asked = METRIC.findall(expression)
    grouped = {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")}

    assert asked or "up{" in expression, "asks for nothing of ours"
    assert {name for name, _ in asked} <= ours.keys()
    for name, selector in asked:
        assert set(re.findall(r"(\w+)\s*[=!]~?", selector)) <= ours[name] | OF_PROMETHEUS
    if asked:
        assert grouped <= set().union(*(ours[name] for name, _ in asked)) | OF_PROMETHEUS


def test_promtool_finds_the_rules_and_their_tests_right(promtool: str) -> None:
    for arguments in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        judged = run_promtool(promtool, *arguments)
        assert judged.returncode == 0, judged.stdout + judged.stderr


def test_promtool_accepts_the_configuration(promtool: str) -> None:
    judged = run_promtool(promtool, "check", "config", "prometheus.yml")

    assert judged.returncode == 0, judged.stdout + judged.stderr


def _alerts_asked_of(one: dict[str, Any]) -> set[str]:
    return {asked["alertname"] for asked in one.get("alert_rule_test", [])}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_the_rule_tests_fail_when_an_alert_never_fires(rule: dict[str, Any], promtool: str, tmp_path: Path) -> None:
    rules = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text("utf-8"))
    for one in rules["groups"][0]["rules"]:
        if one["alert"] == rule["alert"]:
            one["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    about_it = [one for one in RULE_TEST_FILE["tests"] if rule["alert"] in _alerts_asked_of(one)]
    tests = yaml.safe_dump(RULE_TEST_FILE | {"tests": about_it})
    (tmp_path / "alerts_test.yml").write_text(tests, encoding="utf-8")

    judged = run_promtool(promtool, "test", "rules", "alerts_test.yml", folder=tmp_path)

    assert judged.returncode != 0
    assert f"alertname: {rule['alert']}," in judged.stdout + judged.stderr
