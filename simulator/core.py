"""The simulator without its HTTP edges: one object that owns all state, and what people and pages do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simulator import events, quotas, snapshot
from simulator.clock import Clock
from simulator.conversations import Conversation, Item
from simulator.ids import MessageIds
from simulator.limits import Tally
from simulator.log import Log
from simulator.messages import Outgoing, QuotaType
from simulator.moods import Moods
from simulator.oauth import TokenOffice
from simulator.settings import SimulatorSettings, load_zalo_config
from simulator.storage import next_run_number
from simulator.uploads import MediaStore
from simulator.webhooks import Attempt, Delivery, WebhookSender
from simulator.world import Contact, Minute, Page, Template, World

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Written:
    """A person's message after its webhook's first attempt; `attempt` is None when nobody waited for it."""

    item: Item
    attempt: Attempt | None


class Simulator:
    """Zalo as one process: apps, pages, people, tokens, webhooks, moods, log.

    Raises:
        SettingsError: the configuration file cannot be used.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        config = load_zalo_config(settings.config)
        self.settings = settings
        self.public_url = (settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
        self.run = next_run_number(settings.state_dir / "run.json")
        self.clock = Clock()
        self.world = World(
            config,
            seed=settings.seed,
            webhook_url=settings.webhook_url,
            names=yaml.safe_load((_DATA / "names.yaml").read_text(encoding="utf-8")),
            templates=[
                Template(**fields) for fields in yaml.safe_load((_DATA / "templates.yaml").read_text(encoding="utf-8"))
            ],
        )
        self.tokens = TokenOffice(self.world, self.clock, settings.state_dir / "tokens.json")
        self.media = MediaStore(settings.state_dir / "media", settings.state_dir / "uploads.json")
        self.moods = Moods(settings.seed)
        self.message_ids = MessageIds(settings.seed, self.run)
        self.log = Log(
            settings.state_dir / "log.jsonl", keep=settings.log_entries, file_max_bytes=settings.log_file_max_bytes
        )
        self.webhooks = WebhookSender(
            clock=self.clock,
            log=self.log,
            moods=self.moods,
            concurrency=settings.webhook_concurrency,
            timeout_seconds=settings.webhook_timeout_seconds,
            time_scale=settings.time_scale,
            retry_on=settings.retry_on,
        )
        self.closing = asyncio.Event()
        self._saving: asyncio.Task[None] | None = None
        snapshot.restore(settings.state_dir / "people.json", self.world, self.clock)
        self.auto_receipts = settings.auto_receipts
        self.rate_limit_per_minute = settings.rate_limit_per_minute
        self.page_rate_limit_per_minute = settings.page_rate_limit_per_minute

    @property
    def media_url(self) -> str:
        """Address under which stored files are served."""
        return f"{self.public_url}/media/"

    async def start(self) -> None:
        """Open the log and the way to the webhooks."""
        self.log.open()
        await self.webhooks.start()
        self._saving = asyncio.create_task(snapshot.save_forever(lambda: self.log.last_seq, self.save))

    async def stop(self) -> None:
        """Close in reverse."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
            self._saving = None
        await self.webhooks.stop()
        self.save()
        await self.log.close()

    def save(self) -> None:
        """Remember people, pages and conversations for the next run."""
        snapshot.save(self.settings.state_dir / "people.json", self.world, self.clock)

    # What people do

    async def write(
        self,
        page: Page,
        contact: Contact,
        *,
        text: str = "",
        attachments: list[dict[str, Any]] | None = None,
        quote_message_id: str = "",
        hidden: bool = False,
        anonymous: bool = False,
        wait: bool = True,
    ) -> Written:
        """A person sends a message to a page; it opens the page's window and becomes a webhook.

        An anonymous visitor's message opens no window: its answer needs the event's conversation id.
        """
        attachments = attachments or []
        now = self.clock.now_ms()
        msg_id = self.message_ids.next()
        wire = [events.wire_attachment(attachment) for attachment in attachments]
        message: dict[str, Any] = {"msg_id": msg_id}
        if text:
            message["text"] = text
        if quote_message_id:
            message["quote_msg_id"] = quote_message_id
        if wire:
            message["attachments"] = wire
        if anonymous:
            contact.anonymous = True
            message["conversation_id"] = conversation_id_of(contact)
        else:
            contact.interact(now)
            contact.wrote = True
            page.touch(contact.user_id)
        conversation = contact.conversation
        item = conversation.add(
            "in",
            msg_id,
            now,
            text=text,
            attachments=[
                {"type": attachment["type"], "payload": sent["payload"]}
                for attachment, sent in zip(attachments, wire, strict=True)
            ],
            quote_message_id=quote_message_id,
            state="sending",
            hidden=hidden,
        )
        event_name = events.user_message_name(attachments)
        if anonymous:
            event_name = event_name.replace("user_send_", "anonymous_send_")
        event = events.from_user(page, contact, event_name, now, message=message)
        delivery = self._delivery(page, contact, event)
        delivery.on_attempt = lambda attempt: _mark(conversation, item, attempt)
        if wait:
            return Written(item, await self.webhooks.deliver(delivery))
        self.webhooks.enqueue(delivery)
        return Written(item, None)

    async def change_follow(self, page: Page, contact: Contact, *, follows: bool, source: str) -> Attempt:
        """A person follows a page or leaves it."""
        now = self.clock.now_ms()
        contact.follows = follows
        if follows:
            contact.interact(now)
        else:
            contact.left = True
        event = events.follow_change(page, contact, follows=follows, source=source, at_ms=now)
        return await self.webhooks.deliver(self._delivery(page, contact, event))

    async def click_chat(self, page: Page, contact: Contact) -> Attempt | None:
        """A person opens the chat for the first time; once somebody has chatted, Zalo sends nothing."""
        if contact.last_interaction_ms:
            return None
        contact.interact(self.clock.now_ms())
        return await self.fire(page, contact, "user_click_chatnow")

    def receipt(self, page: Page, contact: Contact, *, seen: bool, msg_ids: list[str]) -> int:
        """A person's phone reports that it received or showed messages of the page; each is reported once."""
        conversation = contact.conversation
        fresh: list[str] = []
        for msg_id in msg_ids:
            item = conversation.find(msg_id)
            if (
                item is None
                or item.direction != "out"
                or item.state == "seen"
                or (item.state == "received" and not seen)
            ):
                continue
            conversation.set_state(item, "seen" if seen else "received")
            fresh.append(msg_id)
        now = self.clock.now_ms()
        if seen and fresh:
            event = events.from_page(page, contact, "user_seen_message", now, message={"msg_ids": fresh})
            self.webhooks.enqueue(self._delivery(page, contact, event))
        elif fresh:
            for msg_id in fresh:
                event = events.from_page(page, contact, "user_received_message", now, message={"msg_id": msg_id})
                self.webhooks.enqueue(self._delivery(page, contact, event))
        return len(fresh)

    async def react(self, page: Page, contact: Contact, msg_id: str, icon: str) -> Attempt | None:
        """A person reacts to a message or takes the reaction back; None when there is no such message."""
        item = contact.conversation.find(msg_id)
        if item is None:
            return None
        item.reaction = "" if icon == "/-remove" else icon
        contact.conversation.announce(item)
        message = {"msg_id": msg_id, "react_icon": icon}
        event = events.from_user(page, contact, "user_reacted_message", self.clock.now_ms(), message=message)
        return await self.webhooks.deliver(self._delivery(page, contact, event))

    async def submit_info(self, page: Page, contact: Contact, info: dict[str, Any]) -> Attempt:
        """A person shares contact information with a page; it counts as an interaction."""
        now = self.clock.now_ms()
        contact.interact(now)
        address = info.get("full_address") or {}
        contact.shared_info = {
            "name": str(info.get("name", "")),
            "phone": str(info.get("phone", "")),
            "address": str(address.get("user_address", "")),
            "city": str(address.get("user_city", "")),
            "district": "",
        }
        event = events.from_user(page, contact, "user_submit_info", now, info=info)
        return await self.webhooks.deliver(self._delivery(page, contact, event))

    async def fire(
        self,
        page: Page,
        contact: Contact,
        event_name: str,
        *,
        override: Mapping[str, Any] | None = None,
        signature: str = "valid",
        wait: bool = True,
    ) -> Attempt | None:
        """Send any event of the catalogue (or an unknown one) without changing the state it speaks of."""
        now = self.clock.now_ms()
        person = self.world.person(contact.citizen)
        values = {
            "msg_id": self.message_ids.next(),
            "user_id": contact.user_id,
            "user_id_by_app": contact.user_id_by_app,
            "oa_id": page.oa_id,
            "app_id": page.app.app_id,
            "now_ms": str(now),
            "later_ms": str(now + 86_400_000),
            "phone": person.phone or "84900000000",
            "name": person.display_name,
            "text": "Xin chào",
            "media_url": f"{self.public_url}/static/sample.png",
            "group_id": f"f{page.oa_id}",
            "conversation_id": conversation_id_of(contact),
        }
        event = events.from_template(page, contact, event_name, now, values=values, override=override or {})
        delivery = self._delivery(page, contact, event)
        if signature == "wrong":
            delivery.headers["X-ZEvent-Signature"] = "mac=" + "0" * 64
        elif signature == "absent":
            del delivery.headers["X-ZEvent-Signature"]
        if wait:
            return await self.webhooks.deliver(delivery)
        self.webhooks.enqueue(delivery)
        return None

    # What pages do

    def tell(self, page: Page, user_id: str, event: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Send an event on its way without waiting; a person's events keep their order."""
        delivery = self.webhooks.prepare(page.app, event, oa_id=page.oa_id, user_id=user_id)
        delivery.headers.update(headers or {})
        self.webhooks.enqueue(delivery)

    def post(
        self, page: Page, contact: Contact, outgoing: Outgoing, quota: QuotaType | None, *, conversation_id: str = ""
    ) -> dict[str, Any]:
        """An accepted message reaches the phone, its echo the webhook; returns Zalo's answer data.

        Raises:
            ZaloRefusal: -320 and -321 when nobody pays for it.
        """
        charged = quotas.charge(page, quota, self.clock.now()) if quota else None
        now = self.clock.now_ms()
        msg_id = self.message_ids.next()
        message: dict[str, Any] = {"msg_id": msg_id}
        if outgoing.text:
            message["text"] = outgoing.text
        if outgoing.quote_message_id:
            message["quote_msg_id"] = outgoing.quote_message_id
        if outgoing.attachments:
            message["attachments"] = outgoing.attachments
        if conversation_id:
            message["conversation_id"] = conversation_id
        conversation = contact.conversation
        conversation.add(
            "out",
            msg_id,
            now,
            text=outgoing.text,
            attachments=outgoing.attachments,
            buttons=outgoing.buttons,
            quote_message_id=outgoing.quote_message_id,
        )
        for item in reversed(conversation.items[-20:]):
            if item.direction == "in" and item.state == "received":
                conversation.set_state(item, "seen")
        if not conversation_id:
            page.touch(contact.user_id)
        self.webhooks.enqueue(
            self._delivery(page, contact, events.from_page(page, contact, outgoing.event_name, now, message=message))
        )
        if self.auto_receipts:
            self.receipt(page, contact, seen=False, msg_ids=[msg_id])
            self.receipt(page, contact, seen=True, msg_ids=[msg_id])
        data: dict[str, Any] = {"message_id": msg_id, "user_id": contact.user_id, "sent_time": str(now)}
        if charged:
            data["quota"] = charged
        return data

    # What tests do

    def reset(self) -> None:
        """Forget people, conversations, moods, clock and memory of the log; tokens stay unless asked for."""
        self.webhooks.forget_all()
        self.moods.clear()
        self.clock.offset_seconds = 0.0
        self.world.people.clear()
        for page in self.world.pages.values():
            page.forget_all()
        for app in self.world.apps.values():
            app.subscribed = True
            app.calls = Minute()
            app.uploads = Tally()
            app.has_cloud_account, app.balance_vnd, app.billed_vnd = True, None, 0
        self.media.forget_all()
        self.log.clear()

    def _delivery(self, page: Page, contact: Contact, event: dict[str, Any]) -> Delivery:
        return self.webhooks.prepare(page.app, event, oa_id=page.oa_id, user_id=contact.user_id)


def conversation_id_of(contact: Contact) -> str:
    """Id of an anonymous visitor's conversation."""
    return f"c{contact.user_id}"


def _mark(conversation: Conversation, item: Item, attempt: Attempt) -> None:
    """Show on the phone how the webhook of a person's message fares."""
    item.retry_wait_seconds = attempt.retry_in_seconds or 0.0
    if attempt.retry_in_seconds is not None:
        item.state = "refused"
        conversation.announce(item)
    elif attempt.outcome != "acknowledged":
        conversation.set_state(item, "undelivered")
    elif item.state != "seen":
        conversation.set_state(item, "received")
