"""Settings of the simulator: its own process options and the Zalo configuration it plays the other side of."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from simulator.limits import packages


class SettingsError(Exception):
    """The simulator cannot start with what it was given; the text says what to change."""


class AppConfig(BaseModel):
    """One registration in Zalo's developer console."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    app_id: str = Field(min_length=1)
    app_secret: str = Field(min_length=1)
    oa_secret_keys: tuple[str, ...] = Field(min_length=1, description="Webhook keys; the first one signs.")


class PageConfig(BaseModel):
    """One Official Account that granted an app access."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    page: str = Field(min_length=1, description="Slug, the short name people type.")
    oa_id: str = Field(min_length=1)
    app_id: str = Field(min_length=1)
    name: str = ""
    package: str = Field("standard", description="What the page has paid for: a name of data/packages.yaml.")
    renews_on_day: int = Field(1, ge=1, le=28, description="Day of the month on which its message quota is full again.")
    refresh_token: str = ""
    refresh_token_file: Path | None = None

    def initial_refresh_token(self) -> str:
        """The refresh token the page was configured with, empty if it has none yet."""
        if self.refresh_token_file is not None:
            return self.refresh_token_file.read_text(encoding="utf-8").strip()
        return self.refresh_token


class ZaloConfig(BaseModel):
    """The apps and pages, in the file shape that clients of Zalo use too; their addresses are ignored here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    apps: tuple[AppConfig, ...] = Field(min_length=1)
    pages: tuple[PageConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _references_hold(self) -> ZaloConfig:
        app_ids = {app.app_id for app in self.apps}
        if unknown := sorted({page.app_id for page in self.pages} - app_ids):
            raise ValueError(f"pages name apps that are not listed: {', '.join(unknown)}")
        if strange := sorted({page.package for page in self.pages} - set(packages())):
            raise ValueError(f"there is no package {', '.join(strange)}; known: {', '.join(packages())}")
        for what in ("page", "oa_id"):
            values = [getattr(page, what) for page in self.pages]
            if len(set(values)) != len(values):
                raise ValueError(f"two pages share the same {what}")
        return self


def load_zalo_config(path: Path) -> ZaloConfig:
    """Read the YAML file of apps and pages.

    Raises:
        SettingsError: the file is missing, is not YAML or does not have the expected shape.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"Cannot read the Zalo configuration {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    try:
        return ZaloConfig.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path} is not a Zalo configuration: {error}") from error


class SimulatorSettings(BaseSettings):
    """Options of one simulator process; each is also an environment variable with the prefix SIMULATOR_."""

    model_config = SettingsConfigDict(env_prefix="SIMULATOR_", frozen=True, extra="ignore")

    config: Path = Path("zalo.yaml")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9000
    state_dir: Path = Path(".simulator")
    webhook_url: str = ""
    public_url: str = ""
    seed: int = 1
    time_scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    webhook_concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    retry_on: Literal["any_failure", "connection_failure"] = "any_failure"
    auto_receipts: bool = False
    rate_limit_per_minute: Annotated[int, Field(ge=0)] = 4000
    page_rate_limit_per_minute: Annotated[int, Field(ge=0)] = 0
    uploads_per_month: Annotated[int, Field(ge=0)] = 5000
    broadcast_seconds: Annotated[float, Field(ge=0, le=86_400)] = 1800.0
    require_appsecret_proof: bool = False
    article_seconds: Annotated[float, Field(ge=0, le=3600)] = 3.0
    log_entries: Annotated[int, Field(ge=1000, le=5_000_000)] = 200_000
    log_file_max_bytes: Annotated[int, Field(ge=1_000_000)] = 256_000_000


def write_example_config(path: Path) -> None:
    """Write a configuration that works at once: one app, one page, fresh secrets; readable by its owner only.

    Raises:
        FileExistsError: there is a file already; its secrets may be in use.
    """
    app_id = "1000000000000000001"
    document = {
        "apps": [
            {"app_id": app_id, "app_secret": secrets.token_hex(16), "oa_secret_keys": [secrets.token_hex(16)]},
        ],
        "pages": [
            {
                "page": "first-page",
                "oa_id": "4000000000000000001",
                "app_id": app_id,
                "name": "Trang thử nghiệm",
                "refresh_token": secrets.token_urlsafe(48),
            }
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")
