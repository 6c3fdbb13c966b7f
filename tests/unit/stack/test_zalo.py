import hashlib
import shutil
import stat
from pathlib import Path

import pytest
import yaml

from shared.zalo_config import load_zalo_config
from stack import zalo
from stack.errors import StackError
from stack.settings import ROOT

pytestmark = pytest.mark.usefixtures("no_zalo_in_the_environment")
DATA = ROOT / "data"


def test_the_demonstration_has_fifteen_pages_that_the_services_accept(tmp_path: Path) -> None:
    file = tmp_path / "zalo.yaml"
    zalo.write_demo_config(file, "http://127.0.0.1:20001", DATA)
    config = load_zalo_config(file)
    assert len(config.pages) == 15
    assert {config.oa_api_url, config.oauth_url, config.upload_url, config.business_url} == {"http://127.0.0.1:20001"}
    assert all(len(page.oa_id) == 19 for page in config.pages)
    assert config.page_named("tan-chanh-hiep") is not None


def test_the_configuration_is_for_its_owner_only(tmp_path: Path) -> None:
    zalo.write_demo_config(tmp_path / "zalo.yaml", "http://127.0.0.1:20001", DATA)
    assert stat.S_IMODE((tmp_path / "zalo.yaml").stat().st_mode) == 0o600


def test_two_hubs_have_different_secrets(tmp_path: Path) -> None:
    for name in ("a", "b"):
        zalo.write_demo_config(tmp_path / name, "http://127.0.0.1:20001", DATA)
    first, second = (yaml.safe_load((tmp_path / name).read_text(encoding="utf-8")) for name in ("a", "b"))
    assert first["apps"][0]["app_secret"] != second["apps"][0]["app_secret"]
    assert first["apps"][0]["oa_secret_keys"] != second["apps"][0]["oa_secret_keys"]
    tokens = {page["refresh_token"] for page in [*first["pages"], *second["pages"]]}
    assert len(tokens) == 30


def test_another_port_changes_the_addresses_and_keeps_the_secrets(tmp_path: Path) -> None:
    file = tmp_path / "zalo.yaml"
    zalo.write_demo_config(file, "http://127.0.0.1:20001", DATA)
    before = yaml.safe_load(file.read_text(encoding="utf-8"))
    zalo.write_demo_config(file, "http://127.0.0.1:20002", DATA)
    after = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert after["oa_api_url"] == "http://127.0.0.1:20002"
    assert (before["apps"], before["pages"]) == (after["apps"], after["pages"])


def test_a_page_that_the_directory_gains_is_added_and_the_others_keep_their_ids(tmp_path: Path) -> None:
    file, data = tmp_path / "zalo.yaml", tmp_path / "data"
    zalo.write_demo_config(file, "http://127.0.0.1:20001", DATA)
    before = {page["page"]: page for page in yaml.safe_load(file.read_text(encoding="utf-8"))["pages"]}
    shutil.copytree(DATA / "directory", data / "directory")
    with (data / "directory" / "pages.yaml").open("a", encoding="utf-8") as pages:
        pages.write("  - {page: hotline, unit: district}\n")
    zalo.write_demo_config(file, "http://127.0.0.1:20001", data)
    after = {page["page"]: page for page in yaml.safe_load(file.read_text(encoding="utf-8"))["pages"]}
    hotline = after.pop("hotline")
    assert after == before
    assert hotline["oa_id"] not in {page["oa_id"] for page in before.values()}
    assert hotline["name"] == before["district"]["name"]


def test_without_the_simulator_what_is_missing_is_named() -> None:
    with pytest.raises(StackError) as refusal:
        zalo.check_own_config(None, {"ZALO_APPS": "[]"})
    assert refusal.value.code == "zalo_settings_missing"
    assert "ZALO_PAGES is not set" in refusal.value.message
    assert "ZALO_APPS" not in refusal.value.message
    assert "ZALO_CONFIG_FILE" in refusal.value.message


def test_without_the_simulator_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError) as refusal:
        zalo.check_own_config(tmp_path / "zalo.yaml", {})
    assert refusal.value.code == "zalo_settings_invalid"
    assert "zalo.yaml" in refusal.value.message


def test_without_the_simulator_a_good_file_is_enough(tmp_path: Path) -> None:
    zalo.write_demo_config(tmp_path / "zalo.yaml", "https://zalo.example", DATA)
    zalo.check_own_config(tmp_path / "zalo.yaml", {})


def test_two_persons_of_the_demonstration_have_tokens_of_their_own_that_stay(tmp_path: Path) -> None:
    file = zalo.write_demo_people(tmp_path)
    before = {path.name: path.read_text() for path in (tmp_path / "people").iterdir()}
    zalo.write_demo_people(tmp_path)

    people = yaml.safe_load(file.read_text("utf-8"))["people"]
    assert {person["person"] for person in people} == {"an", "binh"}
    assert {path.name: path.read_text() for path in (tmp_path / "people").iterdir()} == before
    assert len(set(before.values())) == 2
    for person in people:
        token = before[f"{person['person']}.token"]
        assert hashlib.sha256(token.encode()).hexdigest() == person["token_sha256"]
        assert token not in file.read_text("utf-8")
    for path in (file, *(tmp_path / "people").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
