"""Settings of the stack: where things live, which servers, which ports."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stack.errors import StackError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout; services run with it as their working directory."""

MongoChoice = Literal["auto", "mongod", "wheel", "rust"]


class StackSettings(BaseSettings):
    """Everything the stack itself reads from the environment (and `.env`); an empty variable counts as not given."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    hub_home: Path = Field(default=Path(".hub"), description="run-time state: data, logs, secrets, addresses")
    hub_cache_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "binh-yen",
        description="downloads that clones of the project share",
    )
    kafka_nodes: Literal[1, 3] = Field(default=1, description="brokers; 3 means replication 3, min ISR 2")
    kafka_bootstrap_servers: str | None = Field(default=None, description="use this Kafka instead of an own one")
    maven_repository_url: str | None = Field(default=None, description="mirror to fetch Kafka's jars from")
    hub_mongo: MongoChoice = Field(default="auto", description="which MongoDB-protocol server to start")
    mongo_uri: SecretStr | None = Field(default=None, description="use this server instead of an own one")
    mongo_database: str = Field(default="binhyen", min_length=1)
    simulator: bool = Field(default=True, description="off: talk to the Zalo that ZALO_CONFIG_FILE or ZALO_* name")
    zalo_config_file: Path | None = None
    data_dir: Path = Field(default=ROOT / "data", description="the directory names the demonstration's pages")
    kafka_port: int | None = Field(default=None, ge=1, le=65535)
    mongo_port: int | None = Field(default=None, ge=1, le=65535)
    simulator_port: int | None = Field(default=None, ge=1, le=65535)
    webhook_port: int | None = Field(default=None, ge=1, le=65535)
    router_port: int | None = Field(default=None, ge=1, le=65535)
    notifier_port: int | None = Field(default=None, ge=1, le=65535)
    console_port: int | None = Field(default=None, ge=1, le=65535)
    ready_timeout_seconds: float = Field(default=120, gt=0, le=600)

    @field_validator("kafka_nodes", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @field_validator("hub_home", "hub_cache_dir", "data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return (ROOT / value.expanduser()).resolve()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - load() reads the environment itself, with `.env` below it
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what load() was given counts, so a test can say exactly what is set."""
        return (init_settings,)

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings.

        Raises:
            StackError: a value does not fit; the message names the variable.
        """
        given = dict(process_environment() if environment is None else environment)
        fields = {name: given[name.upper()] for name in cls.model_fields if given.get(name.upper())}
        try:
            return cls(**fields)  # type: ignore[arg-type]  # values are strings here and pydantic converts them
        except ValidationError as error:
            faults = "; ".join(f"{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
            raise StackError(
                "setting_invalid", f"A setting cannot be used: {faults}.", "Correct it in the environment or in .env."
            ) from error


def process_environment() -> dict[str, str]:
    """The environment of this process over the project's `.env` file, if there is one."""
    from_file = {name: value for name, value in dotenv_values(ROOT / ".env").items() if value is not None}
    return from_file | dict(os.environ)
