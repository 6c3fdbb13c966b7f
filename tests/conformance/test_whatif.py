"""`hub whatif` over stored messages: it lists what other rules would send elsewhere, and shows no text unasked."""

import asyncio
import json
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from cli.app import app
from services.router.adapters.model_files import current_model, save_model
from shared.mongo import open_store
from shared.settings import HubSettings

DATA = Path(__file__).resolve().parents[2] / "data"
TEXT = "có trộm ở Vườn Lài"


def test_a_street_that_moves_is_listed_with_its_messages(
    mongo_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:

    name = f"test_{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("HUB_HOME", str(tmp_path))
    monkeypatch.setenv("MONGO_URI", mongo_uri)
    monkeypatch.setenv("MONGO_DATABASE", name)
    asyncio.run(_store(mongo_uri, name))
    other = shutil.copytree(DATA, tmp_path / "data")
    places = other / "gazetteer" / "places.yaml"
    written = places.read_text("utf-8")
    places.write_text(
        written.replace("[vườn lài], kind: street, wards: [an-phu-dong]", "[vườn lài], kind: street, wards: [thoi-an]"),
        "utf-8",
    )

    result = CliRunner().invoke(app, ["whatif", "--rules", str(other), "--json"])

    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    (change,) = report["changes"]
    assert (change["field"], change["from"], change["to"], change["messages"]) == ("ward", "an-phu-dong", "thoi-an", 1)
    assert change["examples"] == [{"id": "a" * 32}]
    assert TEXT not in result.stdout


def test_another_model_is_asked_by_its_name(mongo_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"test_{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("HUB_HOME", str(tmp_path))
    monkeypatch.setenv("MONGO_URI", mongo_uri)
    monkeypatch.setenv("MONGO_DATABASE", name)
    asyncio.run(_store(mongo_uri, name))
    other = shutil.copytree(DATA, tmp_path / "data")
    model = _contrary_model(other)

    result = CliRunner().invoke(app, ["whatif", "--rules", str(other), "--model", model, "--json"])

    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["read"] == 2
    assert {change["field"] for change in report["changes"]} >= {"category"}
    unknown = CliRunner().invoke(app, ["whatif", "--model", "0" * 12])
    assert unknown.exit_code != 0


def _contrary_model(data_dir: Path) -> str:
    """The model in use with all its weights turned round, beside it."""
    folder = data_dir / "models" / current_model(data_dir)
    content = {file.name: file.read_bytes() for file in folder.iterdir()}
    content["out.f32"] = (-np.frombuffer(content["out.f32"], dtype="<f4")).tobytes()
    return save_model(data_dir, content)


async def _store(uri: str, name: str) -> None:
    store = open_store(HubSettings.model_validate({"mongo_uri": SecretStr(uri), "mongo_database": name}))
    at = datetime(2024, 6, 1, tzinfo=UTC)
    common = {"page": "district", "location": None, "sent_at": at}
    await store["messages"].insert_many(
        [{"_id": "a" * 32, "text": TEXT, **common}, {"_id": "b" * 32, "text": "có trộm ở HT 13", **common}]
    )
    await store.close()
