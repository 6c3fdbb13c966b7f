import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.errors import ConfigurationError
from shared.zalo_config import load_zalo_config

pytestmark = pytest.mark.usefixtures("no_zalo_in_the_environment")
SECRETS = ("app-secret-word", "first-key-word", "second-key-word", "refresh-word")
APP = {"app_id": "1", "app_secret": SECRETS[0], "oa_secret_keys": list(SECRETS[1:3])}
PAGE = {"page": "tan-chanh-hiep", "oa_id": "8", "app_id": "1", "name": "Tân Chánh Hiệp", "refresh_token": SECRETS[3]}


def written(folder: Path, content: Any) -> Path:
    file = folder / "zalo.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    return file


def test_a_file_gives_addresses_apps_and_pages(tmp_path: Path) -> None:
    config = load_zalo_config(written(tmp_path, {"oa_api_url": "http://zalo", "apps": [APP], "pages": [PAGE]}))

    assert config.oa_api_url == "http://zalo"
    assert config.oauth_url == "https://oauth.zaloapp.com"
    page = config.page_named("tan-chanh-hiep")
    assert page is not None
    assert page == config.page_of("8")
    assert [key.get_secret_value() for key in config.app_of(page).oa_secret_keys] == list(SECRETS[1:3])
    assert config.page_of("9") is None
    assert config.page_named("nowhere") is None


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, {"oa_api_url": "http://file", "apps": [APP], "pages": [PAGE]})
    monkeypatch.setenv("ZALO_OA_API_URL", "http://environment")
    monkeypatch.setenv("ZALO_PAGES", json.dumps([PAGE | {"page": "district", "oa_id": "15"}]))

    config = load_zalo_config(file)

    assert config.oa_api_url == "http://environment"
    assert [page.page for page in config.pages] == ["district"]


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZALO_APPS", json.dumps([APP]))
    monkeypatch.setenv("ZALO_PAGES", json.dumps([PAGE]))

    assert load_zalo_config(None).pages[0].oa_id == "8"


def test_every_secret_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRETS[0]}\n", "utf-8")
    (tmp_path / "keys").write_text(f"{SECRETS[1]}\n\n{SECRETS[2]}\n", "utf-8")
    (tmp_path / "token").write_text(f"{SECRETS[3]}\r\n", "utf-8")
    app = {"app_id": "1", "app_secret_file": str(tmp_path / "secret"), "oa_secret_keys_file": str(tmp_path / "keys")}
    page = {"page": "p", "oa_id": "8", "app_id": "1", "refresh_token_file": str(tmp_path / "token")}

    config = load_zalo_config(written(tmp_path, {"apps": [app], "pages": [page]}))

    token = config.pages[0].refresh_token
    assert token is not None
    assert token.get_secret_value() == SECRETS[3]
    assert config.apps[0].app_secret.get_secret_value() == SECRETS[0]
    assert [key.get_secret_value() for key in config.apps[0].oa_secret_keys] == list(SECRETS[1:3])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"pages": [PAGE]}, "apps"),
        ({"apps": [APP]}, "pages"),
        ({"apps": [{**APP, "oa_secret_keys": []}], "pages": [PAGE]}, "apps.0.oa_secret_keys"),
        ({"apps": [{**APP, "oa_secret_keys": [*SECRETS[:3]]}], "pages": [PAGE]}, "apps.0.oa_secret_keys"),
        ({"apps": [APP], "pages": [{**PAGE, "page": "Tân Chánh Hiệp"}]}, "pages.0.page"),
        ({"apps": [APP], "pages": [{**PAGE, "oa_id": '{"$ne": null}'}]}, "pages.0.oa_id"),
        ({"apps": [APP], "pages": [{**PAGE, "app_id": "2"}]}, "app_id that is not under apps: tan-chanh-hiep"),
        ({"apps": [APP], "pages": [PAGE, {**PAGE, "page": "other"}]}, "oa_id given twice: 8"),
        ({"apps": [APP], "pages": [PAGE, {**PAGE, "oa_id": "9"}]}, "page given twice: tan-chanh-hiep"),
        ({"apps": [{**APP, "app_secret_file": "/no/such"}], "pages": [PAGE]}, "app_secret_file: cannot read /no/such"),
        ([1], "expected a mapping"),
        ({1: 2}, "expected a mapping"),
        ("just a text with app-secret-word", "expected a mapping"),
    ],
)
def test_an_error_names_the_setting_and_shows_no_secret(tmp_path: Path, content: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_zalo_config(written(tmp_path, content))

    assert named in str(raised.value)
    assert not [secret for secret in SECRETS if secret in _everything_said(raised.value)]


def test_a_broken_file_is_told_by_its_line_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "zalo.yaml"
    file.write_text('apps:\n  - app_id: "1"\n    app_secret: "app-secret-word\n', "utf-8")

    with pytest.raises(ConfigurationError, match=r"zalo\.yaml, line \d+: not YAML") as raised:
        load_zalo_config(file)
    assert "app-secret-word" not in _everything_said(raised.value)


def test_a_broken_variable_is_named_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZALO_APPS", '[{"app_secret": "app-secret-word"')

    with pytest.raises(ConfigurationError, match="apps") as raised:
        load_zalo_config(None)
    assert "app-secret-word" not in _everything_said(raised.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "zalo.yaml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"ZALO_CONFIG_FILE=.*cannot be read"):
        load_zalo_config(file)


def test_no_secret_is_shown_when_the_configuration_is_printed(tmp_path: Path) -> None:
    config = load_zalo_config(written(tmp_path, {"apps": [APP], "pages": [PAGE]}))

    assert not [secret for secret in SECRETS if secret in repr(config)]


def _everything_said(error: BaseException) -> str:
    """What a traceback would print: the error and all that is shown as its cause."""
    said, seen = "", error
    while seen is not None:
        said += f"{type(seen).__name__}: {seen}\n"
        following = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        if following is None:
            break
        seen = following
    return said
