"""Where the hub is: from the environment, else from `.env`, else from what `make up` wrote down."""

import json
import os
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cli.errors import CommandError, ExitCode
from shared.settings import HubSettings

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

STATE_VERSION = 1

_FIELD_BY_STATE_KEY = {
    "kafka": "kafka_bootstrap_servers",
    "mongo": "mongo_uri",
    "intake": "intake_url",
    "router": "router_url",
    "notifier": "notifier_url",
    "console": "console_url",
    "simulator": "simulator_url",
    "webhook": "webhook_url",
    "zalo_config": "zalo_config_file",
}


class CliSettings(HubSettings):
    """Settings of the command line.

    Attributes:
        hub_home: run-time state of a hub that `make up` started.
        intake_url: base address of intake's internal port, for health.
        router_url: base address of the router.
        notifier_url: base address of the notifier.
        console_url: address of the officers' page.
        simulator_url: base address of the simulator; empty where the real Zalo is used.
        webhook_url: where Zalo posts to.
        zalo_config_file: apps and pages; `hub webhook send` signs with its keys.
        token_encryption_key: as the notifier has it, for `hub tokens link`; a hub of `make up` has it in its home.
        officer: who answers at this prompt, for `hub cases reply`.
        hub_api_token: token of who works broadcasts at this prompt; `hub api-token` makes one.
        hub_person: or their name, whose token `make up` made.
        publish_timeout_seconds: how long to wait for Kafka's acknowledgement.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    hub_home: Path = Path(".hub")
    intake_url: str = "http://127.0.0.1:8001"
    router_url: str = "http://127.0.0.1:8002"
    notifier_url: str = "http://127.0.0.1:8003"
    console_url: str | None = None
    simulator_url: str | None = None
    webhook_url: str = "http://127.0.0.1:8001/webhooks/zalo"
    zalo_config_file: Path | None = None
    token_encryption_key: SecretStr | None = None
    officer: str | None = Field(default=None, max_length=128, validation_alias="HUB_OFFICER")
    hub_api_token: SecretStr | None = None
    hub_person: str | None = Field(default=None, max_length=64)
    publish_timeout_seconds: float = Field(default=10.0, gt=0, le=120, validation_alias="HUB_PUBLISH_TIMEOUT_SECONDS")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the environment says wins over what `make up` wrote down (the init arguments)."""
        return env_settings, dotenv_settings, init_settings

    @property
    def service_urls(self) -> dict[str, str]:
        """Internal address of each service."""
        urls = {"intake": self.intake_url, "router": self.router_url, "notifier": self.notifier_url}
        return urls | ({"console": self.console_url} if self.console_url else {})


def hub_home() -> Path:
    """The folder of run-time state: `HUB_HOME` from the environment or `.env`, else `.hub` in the checkout."""
    named = os.environ.get("HUB_HOME") or dotenv_values(ROOT / ".env").get("HUB_HOME") or ".hub"
    return (ROOT / Path(named).expanduser()).resolve()


def read_state(home: Path) -> dict[str, Any]:
    """What `make up` wrote down; empty where it never ran.

    Raises:
        CommandError: the file is there and cannot be understood.
    """
    file = home / "state.json"
    try:
        state = json.loads(file.read_text("utf-8"))
        version = state["version"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(
            "state_unreadable",
            f"{file} cannot be read ({type(error).__name__}).",
            "`make up` writes it afresh.",
            exit_code=ExitCode.CONFIGURATION,
        ) from error
    if version != STATE_VERSION:
        raise CommandError(
            "state_of_other_version",
            f"{file} has version {version}, this program knows {STATE_VERSION}.",
            "Run `make up` of the same checkout again.",
            exit_code=ExitCode.CONFIGURATION,
        )
    return {field: state[key] for key, field in _FIELD_BY_STATE_KEY.items() if state.get(key)}


def instances(settings: CliSettings) -> dict[str, list[str]]:
    """Every address of each service: more than one where `make scale` started several."""
    try:
        known = json.loads((settings.hub_home / "state.json").read_text("utf-8")).get("instances", {})
    except (OSError, ValueError):
        known = {}
    # An address given in the environment wins: it is another hub's, so what is noted here does not apply.
    return {
        name: several if url in (several := known.get(name) or []) else [url]
        for name, url in settings.service_urls.items()
    }


def load_settings() -> CliSettings:
    """Find the hub.

    Raises:
        CommandError: a setting or the state file cannot be used.
    """
    home = hub_home()
    state = read_state(home)
    try:
        return CliSettings(_env_file=ROOT / ".env", **{**state, "hub_home": home})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise CommandError(
            "setting_invalid",
            f"A setting cannot be used: {problems}.",
            "Correct it in the environment or in .env; `hub settings` lists every setting.",
            exit_code=ExitCode.CONFIGURATION,
        ) from error
