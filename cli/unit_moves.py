"""Moving what belongs to units that end: journalled first, so that it can be resumed after a crash and undone."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from shared.directory import DirectoryView
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
            for target, ids in targets.items():
                await store["cases"].update_many({"_id": {"$in": ids}, "unit": slug}, {"$set": {"unit": target}})
    return moved
