"""Which Zalo we talk to and which pages are ours: settings, so that a stand-in or the real one needs no code change.

Sources, strongest first: the environment (`ZALO_OA_API_URL`, `ZALO_APPS` as JSON ...), then the YAML file that
`ZALO_CONFIG_FILE` names. A secret in the file may be given as `<name>_file` instead.
"""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from shared.errors import ConfigurationError
from shared.events import ProviderId, Slug


def _with_secrets_from_files(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    read = {}
    for name, value in values.items():
        if name.endswith("_file"):
            try:
                content = Path(str(value)).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                what = error.strerror if isinstance(error, OSError) else "not UTF-8"
                raise ConfigurationError(f"{name}: cannot read {value} ({what})") from error
            lines = [line.strip() for line in content.splitlines() if line.strip()]
            read[name.removesuffix("_file")] = lines if name == "oa_secret_keys_file" else "".join(lines)
        else:
            read[name] = value
    return read


class ZaloApp(BaseModel):
    """One registration in Zalo's developer console.

    Attributes:
        app_secret: for OAuth.
        oa_secret_keys: sign the webhooks; two while a key is being rotated. Not the app secret.
        requires_secret_proof: the console's option that wants `appsecret_proof` with every call.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    app_id: ProviderId
    app_secret: SecretStr
    oa_secret_keys: tuple[SecretStr, ...] = Field(min_length=1, max_length=2)
    requires_secret_proof: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, values: Any) -> Any:
        return _with_secrets_from_files(values)


class ZaloPage(BaseModel):
    """One Official Account.

    Attributes:
        page: our stable name of it; the directory says which unit owns it when.
        refresh_token: the first one, from the console; later ones live encrypted in MongoDB.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    page: Slug
    oa_id: ProviderId
    app_id: ProviderId
    name: str = ""
    refresh_token: SecretStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, values: Any) -> Any:
        return _with_secrets_from_files(values)


class ZaloConfig(BaseSettings):
    """Zalo's addresses, our apps and our pages.

    Attributes:
        oa_api_url: base address of the OA API, without a path.
        oauth_url: base address of OAuth.
        upload_url: base address of uploads.
        business_url: base address of templates by phone number.
        apps: list of apps with their secrets, shaped as in `config/zalo.example.yaml`; overrides the file's list.
        pages: list of pages with their apps and first refresh tokens; overrides the file's list.
    """

    model_config = SettingsConfigDict(env_prefix="zalo_", frozen=True, extra="ignore", hide_input_in_errors=True)

    oa_api_url: str = "https://openapi.zalo.me"
    oauth_url: str = "https://oauth.zaloapp.com"
    upload_url: str = "https://openapi.zalo.me"
    business_url: str = "https://business.openapi.zalo.me"
    apps: tuple[ZaloApp, ...] = Field(min_length=1)
    pages: tuple[ZaloPage, ...] = Field(min_length=1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file, whose values are the init arguments."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        apps = {app.app_id for app in self.apps}
        if strangers := [page.page for page in self.pages if page.app_id not in apps]:
            raise ValueError(f"pages name an app_id that is not under apps: {', '.join(strangers)}")
        for what, values in (("page", [p.page for p in self.pages]), ("oa_id", [p.oa_id for p in self.pages])):
            if doubles := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{what} given twice: {', '.join(doubles)}")
        return self

    def page_of(self, oa_id: str) -> ZaloPage | None:
        """The page with this Zalo id, if it is ours."""
        return next((page for page in self.pages if page.oa_id == oa_id), None)

    def page_named(self, slug: str) -> ZaloPage | None:
        """The page with our name."""
        return next((page for page in self.pages if page.page == slug), None)

    def app_of(self, page: ZaloPage) -> ZaloApp:
        """The app a page belongs to."""
        return next(app for app in self.apps if app.app_id == page.app_id)


def load_zalo_config(file: Path | None) -> ZaloConfig:
    """Read the YAML file, let the environment override it, and check everything.

    Args:
        file: what `ZALO_CONFIG_FILE` names; None takes all from the environment.

    Raises:
        ConfigurationError: missing or wrong; the text names the setting and never shows a secret.
    """
    values = {} if file is None else _read_yaml(file)
    try:
        return ZaloConfig(**values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigurationError(
            f"Zalo configuration: {problems}. "
            "Set ZALO_CONFIG_FILE (see config/zalo.example.yaml) or ZALO_APPS and ZALO_PAGES."
        ) from None  # the cause holds what was given, secrets included
    except SettingsError as error:
        raise ConfigurationError(f"Zalo configuration: {error}: ZALO_APPS and ZALO_PAGES are JSON lists.") from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        # Not the library's own text: it quotes the line, and the line may be a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigurationError(f"ZALO_CONFIG_FILE={file}, line {line}: not YAML") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = error.strerror if isinstance(error, OSError) else "not YAML in UTF-8"
        raise ConfigurationError(f"ZALO_CONFIG_FILE={file} cannot be read: {what}") from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise ConfigurationError(f"ZALO_CONFIG_FILE={file}: expected a mapping with apps and pages")
    return loaded
