"""Moving cases between units in the real store: resumed after a crash, undone, nothing orphaned."""

import uuid
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.unit_moves import move, move_back
from shared.collections import create_indexes
from shared.directory import load_change, load_directory
from shared.mongo import Store, open_store
from shared.settings import HubSettings

DATA = Path(__file__).resolve().parents[2] / "data"
MERGER = load_change(DATA / "directory" / "plans" / "merger-2025.yaml")
BEFORE = load_directory(DATA, changes=()).as_of(date(2026, 1, 1))


async def test_a_move_is_resumed_after_a_crash_and_undone_completely(mongo_uri: str) -> None:
    settings = HubSettings.model_validate(
        {"mongo_uri": SecretStr(mongo_uri), "mongo_database": f"test_{uuid.uuid4().hex[:12]}"}
    )
    store = open_store(settings)
    await create_indexes(store)
    slugs = sorted(MERGER.closes)
    cases = [{"_id": f"c{n}", "code": f"C-{n}", "unit": slugs[n % 6], "page": slugs[n % 6]} for n in range(30)]
    await store["cases"].insert_many(cases)

    def crash(_: int) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        await move(store, MERGER.name, MERGER.closes, crash)
    await move(store, MERGER.name, MERGER.closes, lambda _: None)
    assert not await store["cases"].count_documents({"unit": {"$in": slugs}})
    assert await lines_of(store, "c0") == ["unit_moved"]
    assert await store["case_entries"].count_documents({}) == 30, "a line a case, in spite of the crash"
    await store["cases"].update_one({"_id": "c7"}, {"$set": {"unit": "pc07"}})  # handed over by hand meanwhile
    assert await move(store, MERGER.name, MERGER.closes, lambda _: None) == 0

    opened = {unit.slug for unit in MERGER.opens}
    assert await move_back(store, MERGER.name, BEFORE, opened, lambda _: None) == 30
    found = await store["cases"].find({}, {"unit": 1}).to_list(None)
    expected = {case["_id"]: case["unit"] for case in cases} | {"c7": "pc07"}
    assert {row["_id"]: row["unit"] for row in found} == expected
    assert await lines_of(store, "c0") == ["unit_moved", "unit_moved_back"]
    assert await lines_of(store, "c7") == ["unit_moved"], "it did not move back, so nothing says so"
    await move(store, MERGER.name, MERGER.closes, lambda _: None)
    assert await lines_of(store, "c0") == ["unit_moved", "unit_moved_back", "unit_moved"]
    await store.drop()
    await store.close()


async def lines_of(store: Store, case_id: str) -> list[str]:
    """What the history of a case tells, oldest first."""
    found = await store["case_entries"].find({"case_id": case_id}).sort([("at", 1)]).to_list(None)
    return [line["kind"] for line in found]
