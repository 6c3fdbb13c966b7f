"""The committed contract of the HTTP API is the one that is served."""

import json
from pathlib import Path

from services.console.app import openapi_document
from services.console.settings import ConsoleSettings

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi" / "console.json"


def test_the_committed_document_is_up_to_date() -> None:
    committed = json.loads(COMMITTED.read_text("utf-8"))

    assert openapi_document(ConsoleSettings()) == committed, (
        "python -m services.console openapi > docs/openapi/console.json"
    )
