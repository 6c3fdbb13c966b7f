"""Secret files and database rights: each program gets what it needs and no more; no engine needed."""

import ast
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import mongo_setup
from deploy.make_secrets import MONGO_USERS, Folder, main, make
from services.notifier.adapters.api_tokens import ApiTokens
from shared.collections import ALL_COLLECTIONS
from shared.zalo_config import load_zalo_config
from tests.compose.harness import ROOT, missing


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "secrets")
    make(made, zalo=None)
    return made


def _zalo(folder: Folder, reader: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((folder.path / f"zalo_{reader}.yaml").read_text("utf-8"))
    return config


def test_a_container_can_read_its_file_and_other_users_of_the_host_cannot(folder: Folder) -> None:
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.path.iterdir()} == {0o444}


def test_a_second_run_changes_nothing(folder: Folder) -> None:
    before = {file.name: file.read_bytes() for file in folder.path.iterdir()}
    again = Folder(folder.path)
    make(again, zalo=None)
    assert again.made == []
    assert {file.name: file.read_bytes() for file in folder.path.iterdir()} == before


def test_an_update_makes_what_is_new_and_keeps_what_was_there(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in folder.path.iterdir()}
    (folder.path / "console_demo_password").unlink()
    monkeypatch.setattr("sys.argv", ["make-secrets", "--folder", str(folder.path), "--update"])
    assert main() == 0
    assert "1 files written (console_demo_password)" in capsys.readouterr().out
    after = {file.name: file.read_bytes() for file in folder.path.iterdir()}
    assert after.pop("console_demo_password") != before.pop("console_demo_password")
    assert after == before


def test_there_is_nothing_to_update_before_the_first_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["make-secrets", "--folder", str(tmp_path), "--update"])
    assert main() == 1
    assert list(tmp_path.iterdir()) == []


def test_two_installations_share_no_secret(folder: Folder, tmp_path: Path) -> None:
    other = Folder(tmp_path / "other")
    make(other, zalo=None)
    same = [file.name for file in folder.path.iterdir() if file.read_bytes() == (other.path / file.name).read_bytes()]
    assert same == ["hub.env"]


def test_intake_gets_the_webhook_keys_and_nothing_that_opens_zalo(folder: Folder) -> None:
    everything, intake = _zalo(folder, "simulator"), _zalo(folder, "intake")
    assert intake["apps"][0]["oa_secret_keys"] == everything["apps"][0]["oa_secret_keys"]
    assert intake["apps"][0]["app_secret"] != everything["apps"][0]["app_secret"]
    assert all("refresh_token" not in page for page in intake["pages"])


def test_notifier_gets_what_opens_zalo_and_no_webhook_key(folder: Folder) -> None:
    everything, notifier = _zalo(folder, "simulator"), _zalo(folder, "notifier")
    assert notifier["apps"][0]["app_secret"] == everything["apps"][0]["app_secret"]
    assert notifier["apps"][0]["oa_secret_keys"] != everything["apps"][0]["oa_secret_keys"]
    assert all(page["refresh_token"] for page in notifier["pages"])


def test_router_gets_the_pages_and_no_key_at_all(folder: Folder) -> None:
    text = (folder.path / "zalo_router.yaml").read_text("utf-8")
    app = _zalo(folder, "simulator")["apps"][0]
    assert app["app_secret"] not in text
    assert app["oa_secret_keys"][0] not in text
    assert "refresh_token" not in text


def test_the_notifiers_file_of_people_holds_digests_and_their_tokens_are_mounted_nowhere(folder: Folder) -> None:
    text = (folder.path / "api_tokens.yaml").read_text("utf-8")
    tokens = {file.name: file.read_text("utf-8") for file in folder.path.glob("api_token_*")}
    assert set(tokens) == {"api_token_an", "api_token_binh"}
    assert not any(token in text for token in tokens.values())
    assert "api_token_" not in (ROOT / "docker-compose.yml").read_text("utf-8")
    assert len(ApiTokens(text)) == 2


def test_with_real_pages_nobody_is_let_in_until_somebody_is_named(folder: Folder, tmp_path: Path) -> None:
    mine = _zalo(folder, "simulator") | {"oa_api_url": "https://zalo.example"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine), "utf-8")
    real = Folder(tmp_path / "real")
    make(real, zalo=tmp_path / "mine.yaml")
    assert len(ApiTokens((real.path / "api_tokens.yaml").read_text("utf-8"))) == 0
    assert list(real.path.glob("api_token_*")) == []


@pytest.mark.parametrize("reader", ["intake", "router", "notifier", "console", "simulator"])
def test_every_derived_file_is_a_whole_zalo_configuration(folder: Folder, reader: str) -> None:
    config = load_zalo_config(folder.path / f"zalo_{reader}.yaml")
    assert len(config.pages) == 15
    assert config.oa_api_url == "http://simulator:9000"


def test_real_pages_make_it_production_and_reach_their_readers(folder: Folder, tmp_path: Path) -> None:
    mine = _zalo(folder, "simulator") | {"oa_api_url": "https://zalo.example"}
    mine["apps"][0]["oa_secret_keys"] = ["new-key", "old-key"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(mine), "utf-8")
    make(Folder(folder.path), zalo=file)
    assert (folder.path / "hub.env").read_text("utf-8") == "HUB_ENVIRONMENT=production\n"
    assert _zalo(folder, "intake")["apps"][0]["oa_secret_keys"] == ["new-key", "old-key"]


def test_every_program_has_its_own_database_user(folder: Folder) -> None:
    variables = {f"MONGO_URI_{name.upper()}_FILE": str(folder.path / f"mongo_uri_{name}") for name in MONGO_USERS}
    users = list(mongo_setup.credentials(variables))
    assert {user for _, user, _ in users} == {f"hub-{name}" for name in MONGO_USERS}
    assert len({password for _, _, password in users}) == len(MONGO_USERS)


def _rights(service: str) -> dict[str, set[str]]:
    return {p["resource"]["collection"]: set(p["actions"]) for p in mongo_setup.privileges_of(service, "binhyen")}


def test_a_service_writes_to_its_own_and_the_shared_collections_only() -> None:
    for service in mongo_setup.services():
        written = {name for name, actions in _rights(service).items() if "insert" in actions}
        owned = {spec.name for spec in ALL_COLLECTIONS if spec.owner in {service, "shared"}}
        buckets = {f"{b}.{part}" for b in mongo_setup.BUCKETS.get(service, ()) for part in ("files", "chunks")}
        assert written == owned | buckets


def test_no_service_may_do_anything_outside_its_database_or_create_users() -> None:
    for service in mongo_setup.services():
        for privilege in mongo_setup.privileges_of(service, "binhyen"):
            assert privilege["resource"]["db"] == "binhyen"
            assert privilege["resource"]["collection"], "an empty name would mean every collection"


@pytest.mark.parametrize("service", mongo_setup.services())
def test_every_collection_that_a_service_opens_is_one_it_has_rights_on(service: str) -> None:
    # The stand-in database does not enforce rights, so a forgotten one would show on the real MongoDB only.
    rights = _rights(service)
    opened = _opened(ROOT / "services" / service) | _opened(ROOT / "shared")
    assert missing(opened, rights) == []


def _opened(folder: Path) -> set[str]:
    """Names that stand in `store["…"]` and `store.files("…")`."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Subscript(value=ast.Name(id="store"), slice=ast.Constant(value=str(name))):
                    names.add(name)
                case ast.Subscript(value=ast.Attribute(attr="_store"), slice=ast.Constant(value=str(name))):
                    names.add(name)
                case ast.Call(func=ast.Attribute(attr="files"), args=[ast.Constant(value=str(name))]):
                    names |= {f"{name}.files", f"{name}.chunks"}
    return names
