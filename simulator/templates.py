"""Template messages, the proactive way since March 2026: by user id on the OA host, by phone on the business host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from simulator import events, quotas
from simulator.answers import Answer, as_object, known_contact, success, words
from simulator.clock import is_night
from simulator.core import Simulator
from simulator.errors import ZaloRefusal
from simulator.limits import PROMOTIONS_A_DAY, Tally, local_day
from simulator.messages import Outgoing
from simulator.world import PERSON_SWITCHES, Contact, Page, Template

TRACKING_ID_MAX_CHARACTERS = 48
PHONE_SENDS_A_DAY = 500
_PHONE = re.compile(r"84\d{9}")
_PARAMETER = re.compile(r"<(\w+)>")


@dataclass(frozen=True, slots=True)
class _Filled:
    template: Template
    text: str


def send_by_user_id(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /v3.0/oa/message/template: no window is needed, but the person must be known to the page.

    A promotion is for the day only, once a day for each person and so many times a month as the package allows.

    Raises:
        ZaloRefusal: -249 when the template is for phones only, -213 and the person's switches, -234 and -218 for
            promotions, -320 and -321 when nobody pays, -201.
    """
    body = as_object(body)
    contact = known_contact(page, body)
    if "tracking_id" in body:
        raise ZaloRefusal(-201, field="tracking_id")
    filled = _fill(simulator, body)
    if not filled.template.by_user_id:
        raise ZaloRefusal(-249)
    if code := PERSON_SWITCHES[contact.switch]:
        raise ZaloRefusal(code)
    if filled.template.is_promotion:
        _admit_promotion(simulator, page, contact)
    outgoing = Outgoing(contact.user_id, "oa_send_template", filled.text)
    data = simulator.post(page, contact, outgoing, "sub_quota")
    if filled.template.is_promotion:
        contact.promotions = contact.promotions or Tally()
        contact.promotions.count(local_day(simulator.clock.now()))
    return success(data)


def _admit_promotion(simulator: Simulator, page: Page, contact: Contact) -> None:
    if is_night(simulator.clock.now()):
        raise ZaloRefusal(-234)
    today, this_month = (contact.promotions or Tally()).read(local_day(simulator.clock.now()))
    if today >= PROMOTIONS_A_DAY or this_month >= page.package.promotions_a_month:
        raise ZaloRefusal(-218)


def send_by_phone(simulator: Simulator, page: Page, body: Any) -> Answer:
    """POST /message/template of the business host; delivery comes back with the header X-ZEvent-Server: ZNS.

    Raises:
        ZaloRefusal: with the business host's codes: -108 phone, -133 night, -144 daily limit; -320 and -321.
    """
    body = as_object(body)
    phone = str(body.get("phone") or "")
    if not _PHONE.fullmatch(phone):
        raise ZaloRefusal(-108)
    tracking_id = body.get("tracking_id", "")
    if not isinstance(tracking_id, str) or len(tracking_id) > TRACKING_ID_MAX_CHARACTERS:
        raise ZaloRefusal(-201, field="tracking_id")
    filled = _fill(simulator, body)
    if is_night(simulator.clock.now()):
        raise ZaloRefusal(-133)
    day = local_day(simulator.clock.now())
    sent_today, _ = page.phone_sends.read(day)
    if sent_today >= PHONE_SENDS_A_DAY:
        raise ZaloRefusal(-144)
    quotas.bill(page.app)
    page.phone_sends.count(day)
    now, msg_id = simulator.clock.now_ms(), simulator.message_ids.next()
    if contact := _owner_of(simulator, page, phone):
        contact.conversation.add("out", msg_id, now, text=filled.text)
    event = events.delivered_to_phone(page, phone, msg_id, tracking_id, now)
    simulator.tell(page, "", event, {"X-ZEvent-Server": "ZNS"})
    quota = {"dailyQuota": str(PHONE_SENDS_A_DAY), "remainingQuota": str(PHONE_SENDS_A_DAY - sent_today - 1)}
    return success({"msg_id": msg_id, "sent_time": str(now), "quota": quota})


def _fill(simulator: Simulator, body: dict[str, Any]) -> _Filled:
    template = simulator.world.templates.get(words(body, "template_id"))
    if template is None:
        raise ZaloRefusal(-201, field="template_id")
    data = body.get("template_data")
    if not isinstance(data, dict):
        raise ZaloRefusal(-201, field="template_data")
    for name in _PARAMETER.findall(template.text):
        if not isinstance(data.get(name), str | int) or data[name] == "":
            raise ZaloRefusal(-201, field=name)
    return _Filled(template, _PARAMETER.sub(lambda found: str(data[found[1]]), template.text))


def _owner_of(simulator: Simulator, page: Page, phone: str) -> Contact | None:
    """Whose phone this is, if they ever had to do with the page; nobody else can look at the message."""
    for person in simulator.world.people.values():
        if person.phone == phone:
            return simulator.world.known(page, person.citizen)
    return None
