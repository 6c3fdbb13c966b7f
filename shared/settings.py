"""Settings that every service has. Each secret may come from the environment or, as `<NAME>_FILE`, from a file."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigurationError


def read_secret_files(environment: Mapping[str, str], *, names: Collection[str]) -> dict[str, str]:
    """Find `<NAME>_FILE` settings and read the files they name.

    Args:
        environment: the variables.
        names: our settings, in lower case. Other programs have variables with this ending too; they are left alone.

    Returns:
        `<NAME>` in lower case to the file's content without the line end.

    Raises:
        ConfigurationError: a named file cannot be read.
    """
    secrets = {}
    for name in names:
        variable = f"{name.upper()}_FILE"
        if not (file := environment.get(variable)):
            continue
        try:
            secrets[name] = Path(file).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigurationError(f"{variable} names a file that cannot be read: {file} ({what})") from error
    return secrets


class HubSettings(BaseSettings):
    """Base of every service's settings.

    Attributes:
        hub_environment: `demo` allows what only a demonstration may do (loopback pictures, unapproved procedure texts).
        kafka_bootstrap_servers: host:port of one or more brokers, separated by commas.
        mongo_uri: address of the database with user and password.
        mongo_database: name of the database; one hub, one name.
        mongo_driver: the library that talks to it; both pass the same tests.
        data_dir: units, procedures, templates and rules.
        http_host: where health, metrics and the service's own HTTP listen.
        http_port: 0 picks a free one.
        log_level: of our own lines; libraries log from WARNING.
        log_format: `json` for machines, `console` for people.
        watchdog_loop_seconds: a process whose event loop stands still for so long ends itself (exit code 86) and is
            started afresh. 0 switches it off, as a debugger needs it.
        watchdog_consumer_seconds: the same for a batch that does not end, or events that nobody takes while Kafka
            answers (exit code 87). Must be longer than the longest batch and the longest rebalance.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    hub_environment: Literal["demo", "production"] = "production"
    kafka_bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=1)
    mongo_uri: SecretStr = SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0")
    mongo_database: str = Field(default="binhyen", pattern=r"^[A-Za-z0-9_-]{1,63}$")
    mongo_driver: Literal["motor", "pymongo"] = "motor"
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65_535)
    data_dir: Path = Path(__file__).resolve().parent.parent / "data"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    watchdog_loop_seconds: float = Field(default=30.0, ge=0, le=3_600)
    watchdog_consumer_seconds: float = Field(default=180.0, ge=0, le=3_600)

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, **read_secret_files(os.environ, names=cls.model_fields)}
