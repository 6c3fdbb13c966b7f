from typing import Any

import pytest

from cli.commands.status import ServiceHealth, Status, StoreFacts, problems_of
from cli.kafka_admin import GroupLag


def store(**changes: Any) -> StoreFacts:
    filled: dict[str, Any] = {
        "spool": 0,
        "dead_letters": {},
        "ledger": {"sent": 5},
        "oldest_due_seconds": 0.0,
        "uncertain_for_long": 0,
        "open_cases": 3,
        "overdue_cases": 1,
        "tokens": [],
    }
    return StoreFacts(**{**filled, **changes})


def status(**changes: Any) -> Status:
    filled: dict[str, Any] = {
        "addresses": {},
        "services": [ServiceHealth("router", "http://r", True, {"kafka": "ok"}, {})],
        "brokers": 1,
        "topics_missing": [],
        "lags": [GroupLag("router", "citizen.messages.v1", 0, 0, 1)],
        "store": store(),
    }
    return Status(**{**filled, **changes})


def test_a_healthy_hub_has_no_problems() -> None:
    assert problems_of(status()) == []


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (
            status(services=[ServiceHealth("router", "http://r", False, {"mongo": "no answer"}, {})]),
            "service_not_ready",
        ),
        (status(topics_missing=["replies.requested.v1"]), "topics_missing"),
        (status(lags=[GroupLag("router", "citizen.messages.v1", 1, 0, 0)]), "nobody_reads"),
        (status(lags=[GroupLag("router", "citizen.messages.v1", 1_001, 0, 2)]), "lag"),
        (status(store=store(spool=1)), "spool_not_empty"),
        (status(store=store(dead_letters={"handler.failed": 2})), "dead_letters"),
        (status(store=store(uncertain_for_long=1)), "replies_uncertain"),
        (status(store=store(oldest_due_seconds=61.0)), "replies_late"),
    ],
)
def test_what_is_not_well_has_a_code_and_says_what_to_do(found: Status, code: str) -> None:
    [(problem, text)] = problems_of(found)

    assert problem == code
    assert text.endswith((".", "?"))


def test_a_group_that_never_had_anything_to_read_is_no_problem() -> None:
    assert problems_of(status(lags=[GroupLag("router-actions", "officer.actions.v1", 0, 12, 0)])) == []
