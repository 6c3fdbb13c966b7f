"""What Zalo tells a page about itself, its people, its quota and its conversations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from simulator import events, quotas
from simulator.answers import Answer, as_object, known_contact, number, success, words
from simulator.clock import VIETNAM
from simulator.conversations import Item
from simulator.core import Simulator
from simulator.errors import ZaloRefusal
from simulator.limits import PROMOTIONS_A_DAY, Tally, local_day
from simulator.messages import FREE_WINDOW_MS
from simulator.world import Contact, Page

LIST_MAX_OFFSET = 9_951
LIST_MAX_COUNT = 50
LIST_CEILING = 10_000
CHATS_MAX_COUNT = 10
REACTIONS = frozenset({"/-strong", "/-heart", ":>", ":o", ":-((", ":-h", "/-remove"})


def _vietnamese_date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=VIETNAM).strftime("%d/%m/%Y")


def detail(simulator: Simulator, page: Page, data: dict[str, Any]) -> Answer:
    """GET /v3.0/oa/user/detail."""
    contact = known_contact(page, data)
    person = simulator.world.person(contact.citizen)
    avatar = f"{simulator.public_url}/static/avatar.svg"
    return success(
        {
            "user_id": contact.user_id,
            "user_id_by_app": contact.user_id_by_app,
            "user_external_id": contact.external_id,
            "display_name": person.display_name,
            "user_alias": contact.alias or person.display_name,
            "is_sensitive": False,
            "user_last_interaction_date": (
                _vietnamese_date(contact.last_interaction_ms) if contact.last_interaction_ms else ""
            ),
            "user_is_follower": contact.follows,
            "avatar": avatar,
            "avatars": {"120": avatar, "240": avatar},
            "dynamic_param": "",
            "tags_and_notes_info": {
                "notes": [],
                "tag_names": [name for name, members in page.tags.items() if contact.user_id in members],
            },
            "shared_info": _shared_info(contact),
        }
    )


def _shared_info(contact: Contact) -> dict[str, str]:
    shared = contact.shared_info
    return {name: shared.get(name, "") for name in ("name", "phone", "address", "city", "district")}


def update(page: Page, body: Any) -> Answer:
    """POST /v3.0/oa/user/update: what a page writes down about a person; members left out stay as they are."""
    contact, body = known_contact(page, body), as_object(body)
    shared = body.get("shared_info", {})
    if not isinstance(shared, dict):
        raise ZaloRefusal(-201, field="shared_info")
    for name in ("user_alias", "user_external_id"):
        if name in body:
            words(body, name)
    contact.alias = body.get("user_alias", contact.alias)
    contact.external_id = body.get("user_external_id", contact.external_id)
    names: dict[str, str] = {"city_id": "city", "district_id": "district"}
    contact.shared_info |= {names.get(str(name), str(name)): str(value) for name, value in shared.items()}
    return success()


def erase(page: Page, body: Any) -> Answer:
    """POST /v2.0/oa/deletefollowerinfo: forget what the page wrote down; the conversation stays on the phone."""
    contact = known_contact(page, body)
    contact.shared_info, contact.alias, contact.external_id, contact.custom_info = {}, "", "", {}
    for members in page.tags.values():
        members.pop(contact.user_id, None)
    return success()


def getlist(simulator: Simulator, page: Page, data: dict[str, Any]) -> Answer:
    """GET /v3.0/oa/user/getlist: people of a page by interaction period and following."""
    offset = number(data, "offset", 0, LIST_MAX_OFFSET)
    count = number(data, "count", LIST_MAX_COUNT, LIST_MAX_COUNT)
    follower, tag_name = data.get("is_follower"), data.get("tag_name")
    since, until = _period(data.get("last_interaction_period"), simulator.clock.now())
    found = [
        contact.user_id
        for contact in page.contacts.values()
        if (contact.follows or contact.last_interaction_ms)
        and (follower is None or contact.follows == (str(follower).lower() == "true"))
        and (not since or since <= contact.last_interaction_ms < until)
        and (not tag_name or contact.user_id in page.tags.get(tag_name, {}))
    ]
    total = min(len(found), LIST_CEILING)
    return success(
        {
            "total": total,
            "count": count,
            "offset": offset,
            "users": [{"user_id": user_id} for user_id in found[offset : min(offset + count, total)]],
        }
    )


def _period(name: Any, now: datetime) -> tuple[int, int]:
    """First and last millisecond of a named period in Vietnamese days; (0, 0) means all time."""
    if name is None:
        return 0, 0
    today = now.astimezone(VIETNAM).replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    match name:
        case "TODAY":
            first, last = today, today + day
        case "YESTERDAY":
            first, last = today - day, today
        case "L7D":
            first, last = today - 7 * day, today + day
        case "L30D":
            first, last = today - 30 * day, today + day
        case str() if ":" in name:
            try:
                first, last = (datetime.strptime(part, "%Y_%m_%d").replace(tzinfo=VIETNAM) for part in name.split(":"))
            except ValueError as error:
                raise ZaloRefusal(-201, field="last_interaction_period") from error
            last += day
        case _:
            raise ZaloRefusal(-201, field="last_interaction_period")
    return int(first.timestamp() * 1000), int(last.timestamp() * 1000)


def getoa(simulator: Simulator, page: Page) -> Answer:
    """GET /v2.0/oa/getoa; the id comes under both names that clients read."""
    name = page.config.name or page.config.page
    return success(
        {
            "oaid": page.oa_id,
            "oa_id": page.oa_id,
            "name": name,
            "description": name,
            "oa_alias": page.config.page,
            "is_verified": page.state != "unverified",
            "oa_type": 4,
            "cate_name": "Cơ quan nhà nước",
            "num_follower": sum(contact.follows for contact in page.contacts.values()),
            "avatar": "",
            "cover": "",
            "package_name": page.package.name,
            "package_valid_through_date": "31/12/2027",
            "package_auto_renew_date": quotas.renewal_of(page, simulator.clock.now()),
            "linked_ZCA": f"ZCA-{page.app.app_id}" if page.app.has_cloud_account else "",
        }
    )


def quota(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v3.0/oa/quota/message: of one person, or the assets of an owner."""
    if isinstance(body, dict) and "quota_owner" in body:
        return success([_asset(simulator, page, body)])
    contact = known_contact(page, body)
    open_now = _window_is_free(simulator, contact)
    today, this_month = (contact.promotions or Tally()).read(local_day(simulator.clock.now()))
    monthly = page.package.promotions_a_month
    return success(
        {
            "last_interaction": str(contact.last_interaction_ms),
            "cs_reply": {"remain": 8 if open_now else 0, "total": 8},
            "promotion": {
                "daily_total": PROMOTIONS_A_DAY,
                "daily_remain": max(0, PROMOTIONS_A_DAY - today),
                "monthly_total": monthly,
                "monthly_remain": max(0, monthly - this_month),
            },
        }
    )


def _asset(simulator: Simulator, page: Page, body: dict[str, Any]) -> dict[str, str]:
    if str(body["quota_owner"]).upper() not in {"OA", "APP"}:
        raise ZaloRefusal(-201, field="quota_owner")
    quotas.renew(page, simulator.clock.now())
    quota_type = str(body.get("quota_type") or "sub_quota")
    remain = {
        "sub_quota": page.sub_quota_remain,
        "reward_quota": page.reward_quota,
        "purchase_quota": page.purchase_quota,
    }.get(quota_type)
    if remain is None:
        raise ZaloRefusal(-201, field="quota_type")
    is_package = quota_type == "sub_quota"
    return {
        "quota_owner": str(body["quota_owner"]),
        "product_type": str(body.get("product_type") or "cs"),
        "quota_type": quota_type,
        "total": str(page.package.messages_a_month if is_package else remain),
        "remain": str(remain),
        "valid_through": quotas.renewal_of(page, simulator.clock.now()) if is_package else "",
    }


def quota_v2(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v2.0/oa/quota/message: the free quota, or whether a message is still inside its 48 hours."""
    if isinstance(body, dict) and (message_id := body.get("message_id")):
        contact, _ = _find_message(page, message_id)
        return success({"type": "reply", "remain": 8 if _window_is_free(simulator, contact) else 0, "total": 8})
    if isinstance(body, dict) and "user_id" in body:
        contact = known_contact(page, body)
        today, _ = (contact.promotions or Tally()).read(local_day(simulator.clock.now()))
        remain = max(0, PROMOTIONS_A_DAY - today)
        return success({"type": "promotion", "remain": remain, "total": PROMOTIONS_A_DAY})
    quotas.renew(page, simulator.clock.now())
    return success({"type": "sub_quota", "remain": page.sub_quota_remain, "total": page.package.messages_a_month})


def message_status(page: Page, body: Any) -> Answer:
    """/v3.0/oa/message/status {message_id}: how far a message of the page is."""
    contact, item = _find_message(page, as_object(body).get("message_id"))
    if item.direction != "out":
        raise ZaloRefusal(-201, field="message_id")
    return success(
        {
            "message_id": item.msg_id,
            "user_id": contact.user_id,
            "status": item.state,
            "sent_time": str(item.at_ms),
        }
    )


def _find_message(page: Page, message_id: Any) -> tuple[Contact, Item]:
    for contact in page.contacts.values():
        if item := contact.conversation.find(str(message_id)):
            return contact, item
    raise ZaloRefusal(-201, field="message_id")


def _window_is_free(simulator: Simulator, contact: Contact) -> bool:
    return simulator.clock.now_ms() - contact.last_interaction_ms <= FREE_WINDOW_MS


def recent_chats(simulator: Simulator, page: Page, data: dict[str, Any]) -> Answer:
    """GET /v2.0/oa/listrecentchat: the newest message of each person, newest first."""
    offset = number(data, "offset", 0, 1_000_000)
    count = number(data, "count", CHATS_MAX_COUNT, CHATS_MAX_COUNT)
    newest = list(reversed(page.recent))[offset : offset + count]
    chats = [
        _chat(simulator, page, contact, contact.conversation.items[-1])
        for contact in map(page.contacts.__getitem__, newest)
        if contact.conversation.items
    ]
    return success(chats)


def conversation(simulator: Simulator, page: Page, data: dict[str, Any]) -> Answer:
    """GET /v2.0/oa/conversation: messages with one person, newest first."""
    contact = known_contact(page, data)
    offset = number(data, "offset", 0, 1_000_000)
    count = number(data, "count", CHATS_MAX_COUNT, CHATS_MAX_COUNT)
    newest = list(reversed(contact.conversation.items))[offset : offset + count]
    return success([_chat(simulator, page, contact, item) for item in newest])


def _chat(simulator: Simulator, page: Page, contact: Contact, item: Item) -> dict[str, Any]:
    person = simulator.world.person(contact.citizen)
    page_name = page.config.name or page.config.page
    from_page = item.direction == "out"
    ends = [(page.oa_id, page_name), (contact.user_id, person.display_name)]
    (from_id, from_name), (to_id, to_name) = ends if from_page else reversed(ends)
    first: dict[str, Any] = item.attachments[0] if item.attachments else {"type": "text", "payload": {}}
    payload: dict[str, Any] = first["payload"]
    return {
        "src": 0 if from_page else 1,
        "time": item.at_ms,
        "sent_time": datetime.fromtimestamp(item.at_ms / 1000, tz=UTC)
        .astimezone(VIETNAM)
        .strftime("%H:%M:%S %d/%m/%Y"),
        "type": {"image": "photo", "link": "links"}.get(first["type"], first["type"]),
        "message": item.text,
        "message_id": item.msg_id,
        "from_id": from_id,
        "to_id": to_id,
        "from_display_name": from_name,
        "from_avatar": "",
        "to_display_name": to_name,
        "to_avatar": "",
        "links": [],
        "thumb": payload.get("thumbnail", ""),
        "url": payload.get("url", ""),
        "description": payload.get("description", ""),
        "location": payload.get("coordinates", ""),
    }


def react(simulator: Simulator, page: Page, recipient: dict[str, Any], action: dict[str, Any]) -> Answer:
    """POST /v2.0/oa/message with sender_action: a page reacts to a person's message; it costs no quota."""
    contact = known_contact(page, recipient)
    icon, message_id = action.get("react_icon"), action.get("react_message_id")
    item = contact.conversation.find(str(message_id))
    if item is None:
        raise ZaloRefusal(-201, field="react_message_id")
    if icon not in REACTIONS:
        raise ZaloRefusal(-201, field="react_icon")
    item.reaction = "" if icon == "/-remove" else str(icon)
    contact.conversation.announce(item)
    now = simulator.clock.now_ms()
    event = events.from_page(
        page, contact, "oa_reacted_message", now, message={"msg_id": item.msg_id, "react_icon": icon}
    )
    simulator.tell(page, contact.user_id, event)
    return success({"message_id": item.msg_id, "user_id": contact.user_id, "sent_time": str(now)})
