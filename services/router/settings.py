"""The router's settings."""

from pydantic import Field

from shared.settings import HubSettings


class RouterSettings(HubSettings):
    """Settings of the router.

    Attributes:
        router_batch_records: the most messages of one batch; deciding 200 keeps the event loop busy for some 30 ms.
        router_publish_timeout_seconds: how long a reply request may take to reach Kafka before the batch is repeated.
    """

    router_batch_records: int = Field(default=200, ge=1, le=1_000)
    router_publish_timeout_seconds: float = Field(default=10.0, gt=0, le=60)
