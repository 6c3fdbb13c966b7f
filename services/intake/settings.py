"""intake's settings, read once at start-up."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from shared.settings import HubSettings


class IntakeSettings(HubSettings):
    """How webhooks are taken in.

    The times add up to less than the 2 seconds after which Zalo counts a webhook as failed: a body has
    `body_read_seconds`, everything together `acknowledge_within_seconds`, and of that the last
    `spool_reserve_seconds` are left for the second of the two ways to keep an event.

    Attributes:
        zalo_config_file: apps, keys and pages (see `shared/zalo_config.py`); none takes all from the environment.
        body_limit_bytes: a larger webhook is refused (413). Base64 of it must fit into a Kafka record of 1 MB.
        body_read_seconds: a body that takes longer is refused (408).
        publish_timeout_seconds: how long one publish to Kafka may take before the event goes to the spool.
        acknowledge_within_seconds: when a webhook is answered at the latest, durable (200) or not (503).
        spool_reserve_seconds: part of that which the first way to keep an event must leave for the second.
        outage_memory_seconds: how long after a failure Kafka (or MongoDB) is only the second choice.
        spool_poll_seconds: how often each replica looks whether the spool holds anything.
        relay_lease_seconds: how long one replica may relay the spool before it must ask again.
        relay_stuck_seconds: how long the relay may fail to publish while Kafka answers, before the process starts
            afresh.
        relay_batch: events read from the spool at once.
        attachment_max_bytes: a larger attachment is not kept.
        attachment_timeout_seconds: for one download, redirects included.
        attachment_concurrency: downloads at once in this process; each may hold `attachment_max_bytes` in memory.
        attachment_retry_waits_seconds: wait before each further attempt; its length is the number of retries.
        attachment_poll_seconds: how often the worker looks for due downloads.
        attachment_allow_private_addresses: fetch from loopback and private addresses and without TLS; when not
            given, only in the demo environment.
        limit_concurrency: connections and requests at once; more are answered 503 by the HTTP server.
        tls_certificate_file: serve HTTPS directly with this certificate chain (PEM); usually a proxy does.
        tls_private_key_file: the key to it (PEM).
    """

    zalo_config_file: Path | None = None
    body_limit_bytes: int = Field(default=524_288, ge=1_024, le=700_000)
    body_read_seconds: float = Field(default=1.0, gt=0, le=10)
    publish_timeout_seconds: float = Field(default=1.2, gt=0, le=10)
    acknowledge_within_seconds: float = Field(default=1.9, gt=0, le=30)
    spool_reserve_seconds: float = Field(default=0.5, gt=0, le=10)
    outage_memory_seconds: float = Field(default=2.0, ge=0, le=60)
    spool_poll_seconds: float = Field(default=0.5, gt=0, le=60)
    relay_lease_seconds: float = Field(default=8.0, ge=2, le=300)
    relay_stuck_seconds: float = Field(default=60.0, ge=1, le=3_600)
    relay_batch: int = Field(default=200, ge=1, le=5_000)
    attachment_max_bytes: int = Field(default=20 * 1024 * 1024, ge=1, le=200 * 1024 * 1024)
    attachment_timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    attachment_concurrency: int = Field(default=3, ge=1, le=64)
    attachment_retry_waits_seconds: tuple[float, ...] = (5.0, 30.0, 300.0, 1_800.0, 7_200.0)
    attachment_poll_seconds: float = Field(default=1.0, gt=0, le=60)
    attachment_allow_private_addresses: bool | None = None
    limit_concurrency: int = Field(default=1_000, ge=1, le=100_000)
    tls_certificate_file: Path | None = None
    tls_private_key_file: Path | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_private_key_file is None):
            raise ValueError("tls_certificate_file and tls_private_key_file go together")
        if self.spool_reserve_seconds >= self.acknowledge_within_seconds:
            raise ValueError("spool_reserve_seconds must be less than acknowledge_within_seconds")
        if self.body_read_seconds >= self.acknowledge_within_seconds:
            raise ValueError("body_read_seconds must be less than acknowledge_within_seconds")
        return self

    @property
    def allows_private_addresses(self) -> bool:
        """Whether attachments may come from this machine and its network: only in a demonstration, or if told so."""
        if self.attachment_allow_private_addresses is None:
            return self.hub_environment == "demo"
        return self.attachment_allow_private_addresses
