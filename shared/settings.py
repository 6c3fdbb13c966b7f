"""Settings that every service has. Each secret may come from the environment or, as `<NAME>_FILE`, from a file."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigurationError


def read_secret_files(environment: dict[str, str]) -> dict[str, str]:
    """Find `<NAME>_FILE` settings and read the files they name.

    Returns:
        `<NAME>` in lower case to the file's content without the line end.

    Raises:
        ConfigurationError: a named file cannot be read.
    """
    secrets = {}
    for name, value in environment.items():
        if name.endswith("_FILE") and name != "ZALO_CONFIG_FILE" and value:
            try:
                secrets[name.removesuffix("_FILE").lower()] = Path(value).read_text("utf-8").rstrip("\r\n")
            except OSError as error:
                raise ConfigurationError(
                    f"{name} names a file that cannot be read: {value} ({error.strerror})"
                ) from error
    return secrets


class HubSettings(BaseSettings):
    """Base of every service's settings.

    Attributes:
        hub_environment: `demo` allows what only a demonstration may do (loopback pictures, unapproved procedure texts).
        data_dir: units, procedures, templates and rules.
        http_host: where health, metrics and the service's own HTTP listen.
        http_port: 0 picks a free one.
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

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, **{k: v for k, v in read_secret_files(dict(os.environ)).items() if k in cls.model_fields}}
