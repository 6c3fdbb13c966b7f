"""What people and pages remember over a restart: a file written now and then, and when the simulator stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

from simulator.clock import Clock
from simulator.conversations import Item
from simulator.limits import Tally
from simulator.storage import read_document, write_atomically
from simulator.world import App, Article, Broadcast, Contact, Page, Person, World

KEPT_ITEMS = 100
_ITEM_MEMBERS = tuple(member.name for member in fields(Item))
_PURSES = ("sub_quota_remain", "quota_period", "reward_quota", "purchase_quota")
_MIN_INTERVAL_SECONDS = 20.0
# With a million followers one writing takes seconds: it may cost a hundredth of the time at most.
_COST_FACTOR = 100


def save(path: Path, world: World, clock: Clock) -> None:
    """Write everything that a restart should not forget."""
    write_atomically(
        path,
        {
            "clock_offset_seconds": clock.offset_seconds,
            "apps": {app.app_id: _app(app) for app in world.apps.values()},
            "people": [asdict(person) for person in world.people.values()],
            "pages": {page.oa_id: _page(page) for page in world.pages.values()},
        },
        durable=False,
    )


def restore(path: Path, world: World, clock: Clock) -> None:
    """Read what an earlier run wrote; pages that are no longer configured are skipped."""
    document = read_document(path)
    clock.offset_seconds = float(document.get("clock_offset_seconds", 0.0))
    for person in document.get("people", []):
        world.people[person["citizen"]] = Person(**person)
    for app_id, saved in document.get("apps", {}).items():
        if app := world.apps.get(app_id):
            app.uploads = Tally(*saved["uploads"])
            app.has_cloud_account = saved["has_cloud_account"]
            app.balance_vnd, app.billed_vnd = saved["balance_vnd"], saved["billed_vnd"]
    for oa_id, saved in document.get("pages", {}).items():
        page = world.pages.get(oa_id)
        if page is None:
            continue
        page.state = saved["state"]
        for name in _PURSES:
            setattr(page, name, saved.get(name, getattr(page, name)))
        page.articles_made = Tally(*saved.get("articles_made", ()))
        for contact in saved["contacts"]:
            _restore_contact(page, world.contact(page, contact["citizen"]), contact)
        page.recent = {user_id: None for user_id in saved["recent"] if user_id in page.contacts}
        page.tags = {name: dict.fromkeys(members) for name, members in saved.get("tags", {}).items()}
        page.fields = saved.get("fields", {})
        page.articles = {article["article_id"]: Article(**article) for article in saved.get("articles", [])}
        page.broadcasts = [
            # What an older version wrote had arrived at once.
            Broadcast(**{"due_ms": broadcast["at_ms"], "is_delivered": True, **broadcast})
            for broadcast in saved.get("broadcasts", [])
        ]


async def save_forever(changes: Callable[[], int], write: Callable[[], None]) -> None:
    """Write whenever something changed since the last time, more rarely the longer a writing takes."""
    written_at_change, interval = changes(), _MIN_INTERVAL_SECONDS
    while True:
        await asyncio.sleep(interval)
        if changes() != written_at_change:
            written_at_change = changes()
            started = time.perf_counter()
            write()
            interval = max(_MIN_INTERVAL_SECONDS, (time.perf_counter() - started) * _COST_FACTOR)


def _app(app: App) -> dict[str, Any]:
    return {
        "uploads": astuple(app.uploads),
        "has_cloud_account": app.has_cloud_account,
        "balance_vnd": app.balance_vnd,
        "billed_vnd": app.billed_vnd,
    }


def _page(page: Page) -> dict[str, Any]:
    return {
        "state": page.state,
        **{name: getattr(page, name) for name in _PURSES},
        "articles_made": astuple(page.articles_made),
        "recent": list(page.recent),
        "tags": {name: list(members) for name, members in page.tags.items()},
        "fields": page.fields,
        "articles": [asdict(article) for article in page.articles.values()],
        "broadcasts": [asdict(broadcast) for broadcast in page.broadcasts],
        "contacts": [_contact(contact) for contact in page.contacts.values()],
    }


def _contact(contact: Contact) -> dict[str, Any]:
    saved: dict[str, Any] = {
        "citizen": contact.citizen,
        "follows": contact.follows,
        "last_interaction_ms": contact.last_interaction_ms,
    }
    if contact.conversation.last_seq:
        saved["last_seq"] = contact.conversation.last_seq
        saved["items"] = [_item(item) for item in contact.conversation.items[-KEPT_ITEMS:]]
    extra = {
        "left": contact.left,
        "wrote": contact.wrote,
        "shared_info": contact.shared_info,
        "custom_info": contact.custom_info,
        "alias": contact.alias,
        "external_id": contact.external_id,
        "anonymous": contact.anonymous,
        "broadcasts": contact.broadcasts and astuple(contact.broadcasts),
        "promotions": contact.promotions and astuple(contact.promotions),
        "switch": "" if contact.switch == "none" else contact.switch,
    }
    return saved | {name: value for name, value in extra.items() if value}


def _item(item: Item) -> dict[str, Any]:
    """What a message says beside its defaults: a broadcast leaves one with each of 60,000 people."""
    members = {name: getattr(item, name) for name in _ITEM_MEMBERS}
    return {name: value for name, value in members.items() if value}


def _restore_contact(page: Page, contact: Contact, saved: dict[str, Any]) -> None:
    contact.follows = saved["follows"]
    contact.last_interaction_ms = saved["last_interaction_ms"]
    contact.left = saved.get("left", False)
    contact.wrote = saved.get("wrote", False)
    contact.switch = saved.get("switch", "none")
    contact.shared_info = saved.get("shared_info", {})
    contact.custom_info = saved.get("custom_info", {})
    contact.alias = saved.get("alias", "")
    contact.external_id = saved.get("external_id", "")
    contact.anonymous = saved.get("anonymous", False)
    contact.broadcasts = Tally(*saved["broadcasts"]) if "broadcasts" in saved else None
    contact.promotions = Tally(*saved["promotions"]) if "promotions" in saved else None
    if "items" in saved:
        # Webhooks that were still on their way died with the process.
        items = [Item(**item) for item in saved["items"]]
        for item in items:
            if item.state in {"sending", "refused"}:
                item.state = "undelivered"
        contact.conversation.restore(items, saved["last_seq"])
        page.touch(contact.user_id)
