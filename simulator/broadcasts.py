"""Broadcasts (v2 message with a target): one article to all followers of a kind, by day only, once a day for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulator import ids
from simulator.answers import Answer, success
from simulator.articles import link_to, thumbnail_of
from simulator.clock import VIETNAM
from simulator.core import Simulator
from simulator.errors import ZaloRefusal
from simulator.world import PERSON_SWITCHES, Article, Broadcast, Page

DAY_STARTS_HOUR, NIGHT_STARTS_HOUR = 6, 22
# Highest code of each target; gender 0 means everybody.
_HIGHEST = {"ages": 7, "gender": 2, "locations": 2, "cities": 63, "platform": 3}


@dataclass(frozen=True, slots=True)
class Traits:
    """What a target can ask for. People have them by their name, so that the same run meets the same people."""

    ages: int
    gender: int
    locations: int
    cities: int
    platform: int


def traits_of(seed: int, citizen: str) -> Traits:
    """Age group, gender, region, city and phone of a person."""
    dice = int(ids.user_id(seed, "traits", citizen)) % 10**18
    return Traits(
        ages=dice % 8,
        gender=1 + dice // 8 % 2,
        locations=dice // 16 % 3,
        cities=dice // 48 % 64,
        platform=1 + dice // 3072 % 2,
    )


def broadcast(simulator: Simulator, page: Page, target: Any, message: Any) -> Answer:
    """POST /v2.0/oa/message with recipient.target: reaches its people at once and has no echo.

    Raises:
        ZaloRefusal: -234 at night, -233 for anything but one article, -201 and -214 for the article and the target.
    """
    wanted = read_target(target)
    article = _article(page, message)
    local = simulator.clock.now().astimezone(VIETNAM)
    if not DAY_STARTS_HOUR <= local.hour < NIGHT_STARTS_HOUR:
        raise ZaloRefusal(-234)
    today = local.toordinal()
    now_ms, message_id = simulator.clock.now_ms(), simulator.message_ids.next()
    shown = [
        {
            "type": "link",
            "payload": {
                "title": article.fields["title"],
                "description": article.fields["description"],
                "thumbnail": thumbnail_of(article),
                "url": link_to(simulator, article),
            },
        }
    ]
    sent = Broadcast(message_id, article.article_id, now_ms)
    for contact in page.contacts.values():
        if not contact.follows or PERSON_SWITCHES[contact.switch]:
            continue
        if wanted and not _fits(traits_of(simulator.world.seed, contact.citizen), wanted):
            continue
        if contact.broadcast_day == today:
            sent.held_back += 1
            continue
        contact.broadcast_day = today
        contact.conversation.add("out", message_id, now_ms, attachments=shown)
        sent.delivered += 1
    page.broadcasts.append(sent)
    return success({"message_id": message_id})


def read_target(target: Any) -> dict[str, frozenset[int]]:
    """The wanted codes by name; names that do not narrow anything are left out.

    Clients write codes as "0,1", as 1 and as [0, 1]: all three are read. Cities replace locations.

    Raises:
        ZaloRefusal: -201 for a name or a code that does not exist.
    """
    if not isinstance(target, dict):
        raise ZaloRefusal(-201, field="target")
    wanted: dict[str, frozenset[int]] = {}
    for name, value in target.items():
        if name not in _HIGHEST:
            raise ZaloRefusal(-201, field=f"target.{name}")
        codes = _codes(name, value)
        if codes and not (name == "gender" and 0 in codes):
            wanted[name] = codes
    if "cities" in wanted:
        wanted.pop("locations", None)
    return wanted


def _codes(name: str, value: Any) -> frozenset[int]:
    parts = value if isinstance(value, list) else str(value).split(",") if value not in (None, "") else []
    texts = [str(part).strip() for part in parts]
    if not all(text.isascii() and text.isdigit() and int(text) <= _HIGHEST[name] for text in texts):
        raise ZaloRefusal(-201, field=f"target.{name}")
    return frozenset(map(int, texts))


def _fits(traits: Traits, wanted: dict[str, frozenset[int]]) -> bool:
    return all(getattr(traits, name) in codes for name, codes in wanted.items())


def _article(page: Page, message: Any) -> Article:
    attachment = message.get("attachment") if isinstance(message, dict) else None
    if not isinstance(attachment, dict) or attachment.get("type") != "template":
        raise ZaloRefusal(-233)
    payload = attachment.get("payload")
    elements = payload.get("elements") if isinstance(payload, dict) else None
    if not isinstance(elements, list) or len(elements) != 1 or not isinstance(elements[0], dict):
        raise ZaloRefusal(-201, field="elements")
    if elements[0].get("media_type") != "article":
        raise ZaloRefusal(-233)
    attachment_id = elements[0].get("attachment_id")
    article = page.articles.get(attachment_id) if isinstance(attachment_id, str) else None
    if article is not None:
        return article
    if isinstance(attachment_id, str) and attachment_id in page.pending_articles:
        raise ZaloRefusal(-214)
    raise ZaloRefusal(-201, field="attachment_id")
