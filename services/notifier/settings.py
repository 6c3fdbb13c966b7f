"""Settings of the notifier."""

from pathlib import Path
from typing import Self

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, field_validator, model_validator

from shared.settings import HubSettings


def _keys(value: SecretStr) -> list[str]:
    return [key.strip() for key in value.get_secret_value().split(",") if key.strip()]


LEASE_MARGIN_SECONDS = 2.0
"""No call begins that might end after its claim's lease less this."""


class NotifierSettings(HubSettings):
    """What the notifier can be told.

    Attributes:
        token_encryption_key: a Fernet key, or several separated by commas: the first encrypts, all decrypt.
        zalo_timeout_seconds: of one call; after it the outcome is unknown.
        send_slots: calls at once. A kill leaves at most so many replies with an unknown outcome.
        send_lease_seconds: how long a claim may stay unrecorded; must outlast a call and a short database outage.
        broadcast_workers: chunks of broadcasts that one replica sends at once; each has one wave under way.
        broadcast_wave: copies marked and called at once. A kill leaves at most workers times wave of them unknown.
        broadcast_chunk_persons: people of a chunk on average: what one replica takes at a time.
        uncertain_grace_seconds: how long an uncertain reply holds back the citizen's later ones.
        poll_seconds: how often the ledger is searched for due replies that no event announced.
        echo_skew_seconds: how far Zalo's clock may be behind ours when an echo is matched.
        app_calls_per_minute: Zalo's limit for one app.
        page_calls_per_minute: Zalo does not publish the limit of a page; a refused call blocks it for the minute.
        send_beyond_free_window: send between 48 h and 7 d too, where the package or the account pays.
        token_refresh_after_hours: age at which an access token of 25 h is renewed.
        refresh_token_alarm_days: an alarm this long before a refresh token of 90 days ends.
        api_tokens: who may work broadcasts: people, roles and digests of their tokens; `hub api-token` makes the lines.
        broadcast_staff_tag: tag that a page's administrator gives to colleagues; test sends go to them alone.
        stop_seconds: how long a stopping process waits for its calls in flight.
    """

    zalo_config_file: Path | None = None
    token_encryption_key: SecretStr
    zalo_timeout_seconds: float = Field(default=10.0, gt=0, le=60)
    zalo_connect_timeout_seconds: float = Field(default=3.0, gt=0, le=30)
    send_slots: int = Field(default=64, ge=1, le=1_000)
    send_lease_seconds: float = Field(default=60.0, ge=1, le=3_600)
    broadcast_workers: int = Field(default=3, ge=1, le=16)
    broadcast_wave: int = Field(default=200, ge=1, le=1_000)
    broadcast_chunk_persons: int = Field(default=700, ge=10, le=1_000)
    uncertain_grace_seconds: float = Field(default=20.0, ge=0, le=3_600)
    poll_seconds: float = Field(default=0.25, gt=0, le=60)
    echo_skew_seconds: float = Field(default=30.0, ge=0, le=600)
    app_calls_per_minute: int = Field(default=4_000, ge=1)
    page_calls_per_minute: int = Field(default=4_000, ge=1)
    send_beyond_free_window: bool = True
    token_refresh_after_hours: float = Field(default=20.0, gt=0, le=24)
    refresh_token_alarm_days: float = Field(default=14.0, ge=0, le=90)
    api_tokens: SecretStr = SecretStr("")
    broadcast_staff_tag: str = Field(default="Cán bộ", min_length=1, max_length=64)
    stop_seconds: float = Field(default=12.0, ge=0, le=60)

    @field_validator("token_encryption_key")
    @classmethod
    def _is_fernet(cls, value: SecretStr) -> SecretStr:
        keys = _keys(value)
        if not keys:
            raise ValueError("needs at least one Fernet key")
        for key in keys:
            Fernet(key)
        return value

    @model_validator(mode="after")
    def _lease_outlasts_a_call(self) -> Self:
        if self.send_lease_seconds <= self.zalo_timeout_seconds + LEASE_MARGIN_SECONDS:
            raise ValueError(f"send_lease_seconds must exceed zalo_timeout_seconds by more than {LEASE_MARGIN_SECONDS}")
        return self

    def encryption_keys(self) -> list[str]:
        """The Fernet keys, the one that encrypts first."""
        return _keys(self.token_encryption_key)
