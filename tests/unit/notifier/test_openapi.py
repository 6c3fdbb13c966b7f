"""The committed contract of the HTTP API is the one that is served, and every way into it asks who you are."""

import json
from pathlib import Path

from services.notifier.app import openapi_document

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi" / "notifier.json"


def test_the_committed_document_is_up_to_date() -> None:
    committed = json.loads(COMMITTED.read_text("utf-8"))

    assert openapi_document() == committed, "python -m services.notifier openapi > docs/openapi/notifier.json"


def test_every_operation_asks_for_a_token_and_tells_its_refusals() -> None:
    operations = [one for path in openapi_document()["paths"].values() for one in path.values()]

    assert len(operations) == 19
    for operation in operations:
        assert operation["security"] == [{"HTTPBearer": []}], operation["operationId"]
        assert {"401", "403", "404", "409", "413", "422", "503"} <= set(operation["responses"])
