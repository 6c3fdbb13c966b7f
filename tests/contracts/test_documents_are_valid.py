"""Our documents are judged by the tools others will read them with."""

import os
import subprocess
from pathlib import Path

import pytest

from shared.topics import ALL_TOPICS

DOCUMENTS = Path(__file__).parents[2] / "docs"
SERVICES = sorted({topic.owner for topic in ALL_TOPICS} | {reader for topic in ALL_TOPICS for reader in topic.readers})
# The AsyncAPI CLI wants to report its use to its makers; it may not.
ENVIRONMENT = {**os.environ, "ASYNCAPI_METRICS_ENABLED": "false", "CI": "true", "NODE_NO_WARNINGS": "1"}


@pytest.mark.parametrize("service", SERVICES)
def test_the_asyncapi_document_of_every_service_passes_the_official_tool(service: str, node_tools: Path) -> None:
    document = DOCUMENTS / "asyncapi" / f"{service}.json"
    assert document.exists(), f"commit it with: ./hub asyncapi {service} --write"

    verdict = subprocess.run(
        [node_tools / "asyncapi", "validate", document, "--fail-severity=info"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("document", sorted((DOCUMENTS / "openapi").glob("*.json")), ids=lambda path: path.stem)
def test_every_openapi_document_passes_a_linter(document: Path, node_tools: Path) -> None:
    verdict = subprocess.run(
        [node_tools / "redocly", "lint", "--config", Path(__file__).parent / "redocly.yaml", document],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
