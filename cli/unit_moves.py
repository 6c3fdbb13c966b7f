"""Moving what belongs to units that end: journalled first, so that it can be resumed after a crash and undone.

Each case's history tells of it. A line is written before the case moves, under an id that a repetition finds again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from services.router.adapters.case_store import entry_document
from services.router.domain.plans import CaseEntry
from shared.directory import DirectoryView
from shared.ids import deterministic_id
from shared.mongo import Document, Store, insert_new

BATCH = 500
Progress = Callable[[int], None]


async def move(store: Store, change: str, routes: Mapping[str, str], progress: Progress) -> int:
    """Give cases and accounts of units that ended to their successors; repeating it moves what is left."""
    moved = 0
    for kind in ("cases", "accounts"):
        collection = store[kind]
        for old, new in routes.items():
            while found := await collection.find({"unit": old}, {"_id": 1}).limit(BATCH).to_list(BATCH):
                ids = [row["_id"] for row in found]
                rows: list[Document] = [
                    {
                        "_id": f"{change}:{kind}:{one}",
                        "change": change,
                        "kind": kind,
                        "of": one,
                        "from": old,
                        "to": new,
                        "at": datetime.now(UTC),
                    }
                    for one in ids
                ]
                await insert_new(store["unit_moves"], rows)
                if kind == "cases":
                    kept = await store["unit_moves"].find({"_id": {"$in": [row["_id"] for row in rows]}}).to_list(None)
                    await _tell(store, "moved", kept)
                await collection.update_many({"_id": {"$in": ids}, "unit": old}, {"$set": {"unit": new}})
                if kind == "accounts":  # a session remembers its unit
                    await store["sessions"].delete_many({"account": {"$in": ids}})
                moved += len(ids)
                progress(len(ids))
    return moved


async def move_back(store: Store, change: str, before: DirectoryView, opened: set[str], progress: Progress) -> int:
    """Undo `move`; what came to a unit that will not exist any more goes to its page's unit, else to the district."""
    moved = 0
    journal = store["unit_moves"]
    while rows := await journal.find({"change": change}).limit(BATCH).to_list(BATCH):
        groups: dict[tuple[str, str, str], list[str]] = {}
        for row in rows:
            groups.setdefault((row["kind"], row["from"], row["to"]), []).append(row["of"])
        await _tell(store, "moved_back", [row for row in rows if row["kind"] == "cases"])
        for (kind, old, new), ids in groups.items():
            await store[kind].update_many({"_id": {"$in": ids}, "unit": new}, {"$set": {"unit": old}})
            if kind == "accounts":
                await store["sessions"].delete_many({"account": {"$in": ids}})
        await journal.delete_many({"_id": {"$in": [row["_id"] for row in rows]}})
        moved += len(rows)
        progress(len(rows))
    for slug in sorted(opened - set(before.units)):
        while strays := await store["cases"].find({"unit": slug}, {"page": 1}).limit(BATCH).to_list(BATCH):
            targets: dict[str, list[str]] = {}
            for case in strays:
                owner = before.unit_of_page(case["page"]) or before.district()
                targets.setdefault(owner.slug, []).append(case["_id"])
            now = datetime.now(UTC)
            await _tell(
                store,
                "moved_back",
                [
                    {"change": change, "of": one, "from": target, "to": slug, "at": now}
                    for target, ids in targets.items()
                    for one in ids
                ],
            )
            for target, ids in targets.items():
                await store["cases"].update_many({"_id": {"$in": ids}, "unit": slug}, {"$set": {"unit": target}})
    return moved


async def _tell(store: Store, way: str, moves: Sequence[Document]) -> None:
    """Write a line into the history of every case that is about to change hands; who changed hands since stays."""
    is_back = way == "moved_back"
    leaves, comes_to = ("to", "from") if is_back else ("from", "to")
    by_case = {move["of"]: move for move in moves}
    now = datetime.now(UTC)
    codes = await _codes(store, by_case)
    entries: list[CaseEntry] = []
    for case_id, move in by_case.items():
        code, unit = codes.get(case_id, (None, None))
        if code is None or unit != move[leaves]:
            continue
        entries.append(
            CaseEntry(
                entry_id=deterministic_id("entry", move["change"], case_id, way, move["at"].isoformat()),
                case_id=case_id,
                case_code=code,
                kind=f"unit_{way}",
                at=now,
                event_id=None,
                reasons=("unit.change",),
                changes=(("unit", move[leaves], move[comes_to]),),
                by="hub",
                text=move["change"],
            )
        )
    await insert_new(store["case_entries"], [entry_document(entry) for entry in entries])


async def _codes(store: Store, case_ids: Collection[str]) -> dict[str, tuple[str, str]]:
    found = await store["cases"].find({"_id": {"$in": list(case_ids)}}, {"code": 1, "unit": 1}).to_list(None)
    return {case["_id"]: (case["code"], case["unit"]) for case in found}
