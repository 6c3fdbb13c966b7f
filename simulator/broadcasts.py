"""Broadcasts (v2 message with a target): one article to all followers of a kind.

By day only, after Zalo's review of about half an hour, and for each follower once a day and so many times a month as
the page's package allows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from simulator import ids
from simulator.answers import Answer, success
from simulator.articles import link_to, thumbnail_of
from simulator.clock import is_night
from simulator.core import Simulator
from simulator.errors import ZaloRefusal
from simulator.limits import BROADCASTS_A_DAY, Tally, local_day
from simulator.world import PERSON_SWITCHES, Article, Broadcast, Page

# Highest code of each target; gender 0 means everybody.
_HIGHEST = {"ages": 7, "gender": 2, "locations": 2, "cities": 63, "platform": 3}
_LOOK_SECONDS = 0.5


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
    """POST /v2.0/oa/message with recipient.target: reaches its people after the review and has no echo.

    Raises:
        ZaloRefusal: -234 at night, -233 for anything but one article, -201 and -214 for the article and the target.
    """
    wanted = read_target(target)
    article = _article(page, message)
    if is_night(simulator.clock.now()):
        raise ZaloRefusal(-234)
    now_ms, message_id = simulator.clock.now_ms(), simulator.message_ids.next()
    due_ms = now_ms + int(simulator.settings.broadcast_seconds * 1000)
    target = {name: sorted(codes) for name, codes in wanted.items()}
    page.broadcasts.append(Broadcast(message_id, article.article_id, now_ms, due_ms, target))
    deliver_due(simulator)
    return success({"message_id": message_id})


def deliver_due(simulator: Simulator) -> None:
    """Let every broadcast arrive whose review is over by the clock; an article that was removed arrives nowhere."""
    now_ms = simulator.clock.now_ms()
    for page in simulator.world.pages.values():
        for sent in page.broadcasts:
            if not sent.is_delivered and sent.due_ms <= now_ms:
                sent.is_delivered = True
                if article := page.articles.get(sent.article_id):
                    _deliver(simulator, page, sent, article)


async def keep_delivering(simulator: Simulator) -> None:
    """Look for broadcasts that are due until cancelled."""
    while True:
        deliver_due(simulator)
        await asyncio.sleep(_LOOK_SECONDS)


def _deliver(simulator: Simulator, page: Page, sent: Broadcast, article: Article) -> None:
    today, now_ms = local_day(simulator.clock.now()), simulator.clock.now_ms()
    wanted = {name: frozenset(codes) for name, codes in sent.target.items()}
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
    for contact in page.contacts.values():
        if not contact.follows or PERSON_SWITCHES[contact.switch]:
            continue
        if wanted and not _fits(traits_of(simulator.world.seed, contact.citizen), wanted):
            continue
        had = contact.broadcasts = contact.broadcasts or Tally()
        had_today, had_this_month = had.read(today)
        if had_today >= BROADCASTS_A_DAY or had_this_month >= page.package.broadcasts_a_month:
            sent.held_back += 1
            continue
        had.count(today)
        contact.conversation.add("out", sent.message_id, now_ms, attachments=shown)
        sent.delivered += 1


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
