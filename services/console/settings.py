"""Settings of the console."""

from pathlib import Path

from pydantic import Field, SecretStr

from shared.settings import HubSettings


class ConsoleSettings(HubSettings):
    """What the console reads from its environment, once, at start.

    Attributes:
        hub_home: run-time state; the demo profile keeps its generated password there.
        console_public_url: as officers type it; `https://…` makes cookies Secure and sends HSTS.
        console_idle_seconds: a session unused for so long is over; what the page fetches by itself does not count.
        console_session_seconds: a session is over after so long, used or not.
        console_undo_seconds: how long a decision waits, so that it can be taken back.
        console_poll_seconds: how often the live view looks into the database, once for all who watch.
        console_demo_password: of the demo accounts; generated where absent. Ignored outside the demo profile.
        console_attempts_per_account: sign-ins with one account from one address within the window.
        console_attempts_per_account_anywhere: sign-ins with one account from all addresses within the window.
        console_attempts_per_address: sign-ins from one address, with any account, within the window.
        console_publish_seconds: how long one event may take to be acknowledged by Kafka.
    """

    hub_home: Path = Path(".hub")
    console_public_url: str = Field(default="", pattern=r"^(https?://[^/\s]+)?$")
    console_idle_seconds: int = Field(default=3_600, ge=60, le=86_400)
    console_session_seconds: int = Field(default=43_200, ge=300, le=604_800)
    console_undo_seconds: float = Field(default=10.0, ge=0, le=60)
    console_poll_seconds: float = Field(default=0.4, ge=0.05, le=10)
    console_demo_password: SecretStr | None = None
    console_attempts_per_account: int = Field(default=5, ge=1, le=100)
    console_attempts_per_account_anywhere: int = Field(default=30, ge=1, le=1_000)
    console_attempts_per_address: int = Field(default=60, ge=1, le=10_000)
    console_attempt_window_seconds: int = Field(default=900, ge=10, le=86_400)
    console_publish_seconds: float = Field(default=5.0, ge=0.5, le=60)
