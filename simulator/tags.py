"""Tags: the labels a page sticks on people; every change comes back as a webhook."""

from __future__ import annotations

from typing import Any

from simulator import events
from simulator.answers import Answer, as_object, known_contact, success, words
from simulator.core import Simulator
from simulator.errors import ZaloRefusal
from simulator.world import Page


def tag_follower(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v2.0/oa/tag/tagfollower: a tag that does not exist yet is made, which is an event of its own."""
    contact, name = known_contact(page, body), words(as_object(body), "tag_name")
    if name not in page.tags:
        page.tags[name] = {}
        _tell(simulator, page, contact.user_id, "add_user_to_tag", {"name": name})
    page.tags[name][contact.user_id] = None
    _tell(simulator, page, contact.user_id, "add_user_to_tag", {"user_ids": [contact.user_id], "name": name})
    return success()


def remove_follower(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v2.0/oa/tag/rmfollowerfromtag."""
    contact, name = known_contact(page, body), _existing(page, body)
    page.tags[name].pop(contact.user_id, None)
    _tell(simulator, page, contact.user_id, "remove_user_from_tag", {"user_ids": [contact.user_id], "name": name})
    return success()


def remove_tag(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v2.0/oa/tag/rmtag."""
    name = _existing(page, body)
    del page.tags[name]
    _tell(simulator, page, "", "remove_tag", {"name": name})
    return success()


def tags_of(page: Page) -> Answer:
    """GET /v2.0/oa/tag/gettagsofoa."""
    return success(list(page.tags))


def _existing(page: Page, body: Any) -> str:
    name = words(as_object(body), "tag_name")
    if name not in page.tags:
        raise ZaloRefusal(-201, field="tag_name")
    return name


def _tell(simulator: Simulator, page: Page, user_id: str, event_name: str, tag: dict[str, Any]) -> None:
    simulator.tell(page, user_id, events.flat(page, event_name, simulator.clock.now_ms(), tag=tag))
