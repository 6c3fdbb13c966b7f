from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.intake.settings import IntakeSettings


def settings(**values: Any) -> IntakeSettings:
    return IntakeSettings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({"hub_environment": "production"}, False),
        ({"hub_environment": "demo"}, True),
        ({"hub_environment": "demo", "attachment_allow_private_addresses": False}, False),
        ({"hub_environment": "production", "attachment_allow_private_addresses": True}, True),
    ],
)
def test_private_addresses_are_for_demonstrations_unless_somebody_says_otherwise(
    values: dict[str, Any], allowed: bool
) -> None:
    assert settings(**values).allows_private_addresses is allowed


def test_by_default_a_webhook_is_answered_within_zalos_two_seconds() -> None:
    chosen = settings()

    assert chosen.acknowledge_within_seconds < 2
    assert chosen.body_read_seconds + chosen.spool_reserve_seconds < chosen.acknowledge_within_seconds


@pytest.mark.parametrize(
    "values",
    [
        {"tls_certificate_file": Path("cert.pem")},
        {"tls_private_key_file": Path("key.pem")},
        {"spool_reserve_seconds": 1.9},
        {"body_read_seconds": 1.9},
        {"body_limit_bytes": 1_000_000},
    ],
)
def test_settings_that_cannot_work_together_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**values)


def test_a_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BODY_LIMIT_BYTES", "2048")
    monkeypatch.setenv("ATTACHMENT_RETRY_WAITS_SECONDS", "[1, 2.5]")

    assert IntakeSettings().body_limit_bytes == 2048
    assert IntakeSettings().attachment_retry_waits_seconds == (1.0, 2.5)
