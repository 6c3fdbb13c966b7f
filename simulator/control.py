"""The control API: be a citizen, set moods, move the clock, and read what happened. Not part of Zalo."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from simulator import broadcasts, events, quotas
from simulator.clock import iso
from simulator.core import Simulator, conversation_id_of
from simulator.moods import Mood, MoodRequest
from simulator.world import PAGE_STATES, PERSON_SWITCHES, App, Contact, Page, Template, UnknownPage

router = APIRouter(prefix="/control", tags=["control"])
MAX_WAIT_SECONDS = 60.0
MAX_FOLLOWERS = 1_000_000


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Who(_Request):
    """A person on a page."""

    page: str = Field(description="Slug or OA id.")
    citizen: str = Field(min_length=1, max_length=100, description="Any stable name of a person, such as 0901.")


class AttachmentIn(_Request):
    """One attachment in Zalo's shape; `business_card` becomes the link that Zalo makes of it."""

    type: Literal["image", "gif", "link", "audio", "video", "sticker", "location", "file", "business_card"]
    payload: dict[str, Any] = {}


class MessageIn(Who):
    """A person's message."""

    text: str = Field("", max_length=20_000)
    attachments: list[AttachmentIn] = []
    quote_msg_id: str = ""
    anonymous: bool = Field(False, description="A visitor without an account: anonymous_send_* events, no window.")
    hidden: bool = Field(False, description="A button of type oa.query.hide: not shown in the chat.")
    display_name: str | None = None
    phone: str | None = None
    wait: bool = Field(True, description="Answer after the first attempt of the webhook; false: at once.")


class FollowIn(Who):
    """A person follows a page or leaves it."""

    follows: bool = True
    source: str = "oa_profile"


class ReceiptIn(Who):
    """A phone received or showed messages."""

    msg_ids: list[str] = Field(max_length=1_000)
    seen: bool = False


class ReactionIn(Who):
    """A person reacts to a message of either side; `/-remove` takes it back."""

    msg_id: str
    react_icon: Literal["/-strong", "/-heart", ":>", ":o", ":-((", ":-h", "/-remove"] = "/-heart"


class InfoIn(Who):
    """A person answers a request for contact information."""

    name: str = ""
    phone: str = ""
    user_dob: str = ""
    gender: str = ""
    full_address: dict[str, str] = {}


class PersonIn(_Request):
    """How a person is called, and how their account treats a page."""

    citizen: str = Field(min_length=1, max_length=100)
    display_name: str | None = None
    phone: str | None = None
    page: str = Field("", description="Page that `switch` and `last_interaction_hours_ago` are about.")
    switch: Literal["none", "stranger", "blocked", "receive_quota_spent", "inactive", "restricted"] | None = None
    last_interaction_hours_ago: Annotated[float, Field(ge=0)] | None = None


class EventIn(Who):
    """Any event by name; `override` is laid over the template's body, null removes a member."""

    event_name: str = Field(min_length=1, max_length=200)
    override: dict[str, Any] = {}
    signature: Literal["valid", "wrong", "absent"] = "valid"
    wait: bool = True


class WebhookIn(_Request):
    """Where an app's events go and how; members left out stay as they are."""

    url: str | None = None
    enabled: bool | None = None
    time_scale: Annotated[float, Field(gt=0, le=1000)] | None = None
    app_id: str = Field("", description="Empty for all apps.")


class MoodsIn(_Request):
    """Replace all moods by these."""

    moods: list[MoodRequest]


class PageIn(_Request):
    """State of a page and what it has left; members left out stay as they are."""

    state: (
        Literal[
            "normal",
            "disabled",
            "missing",
            "quota_spent",
            "app_removed",
            "unverified",
            "unauthorized",
            "package_too_low",
        ]
        | None
    ) = None
    sub_quota_remain: Annotated[int, Field(ge=0)] | None = Field(None, description="What the package has left.")
    reward_quota: Annotated[int, Field(ge=0)] | None = None
    purchase_quota: Annotated[int, Field(ge=0)] | None = None
    rate_limit_per_minute: Annotated[int, Field(ge=0)] | None = Field(None, description="0: only the app's limit.")


class BillingIn(_Request):
    """The Zalo Cloud account that pays for what no quota covers."""

    app_id: str = Field("", description="Empty for all apps.")
    has_account: bool = True
    balance_vnd: Annotated[int, Field(ge=0)] | None = Field(None, description="Left out: as much as it takes.")


class RevokeIn(_Request):
    """End a page's tokens."""

    page: str
    refresh_token_too: bool = False


class ClockIn(_Request):
    """Move the clock by seconds, or set it."""

    shift_seconds: float | None = None
    now: datetime | None = None


class FollowersIn(_Request):
    """Make many people follow a page, without webhooks; they are named by prefix and number."""

    page: str
    count: Annotated[int, Field(ge=1, le=MAX_FOLLOWERS)]
    prefix: str = "follower-"
    last_interaction_hours_ago: Annotated[float, Field(ge=0)] | None = Field(
        None, description="When they last wrote or followed; left out: never, their window is closed."
    )


class TemplateIn(_Request):
    """An approved template; parameters stand in angle brackets."""

    template_id: str = Field(min_length=1, max_length=50)
    name: str = ""
    text: str = Field(min_length=1, max_length=2_000)
    by_user_id: bool = Field(True, description="False: made for phones only, by user id it is refused with -249.")
    is_promotion: bool = Field(False, description="By day only, and counted against a person's promotion caps.")


class ResetIn(_Request):
    """What to forget beside people, conversations, moods, clock and log."""

    tokens: bool = False


class SettingsIn(_Request):
    """Settings that can change while running."""

    auto_receipts: bool | None = None
    rate_limit_per_minute: Annotated[int, Field(ge=0)] | None = None
    page_rate_limit_per_minute: Annotated[int, Field(ge=0)] | None = None


def simulator_of(request: Request) -> Simulator:
    """The simulator behind this application."""
    simulator: Simulator = request.app.state.simulator
    return simulator


def page_of(simulator: Simulator, name: str) -> Page:
    """A page by slug or id, 404 when there is none."""
    try:
        return simulator.world.page(name)
    except UnknownPage as error:
        raise HTTPException(404, str(error)) from error


def contact_of(simulator: Simulator, who: Who) -> tuple[Page, Contact]:
    """A page and a person on it, who becomes known by being named."""
    page = page_of(simulator, who.page)
    return page, simulator.world.contact(page, who.citizen)


@router.post("/messages")
async def send_message(body: MessageIn, request: Request) -> dict[str, Any]:
    """Be a citizen: write to a page. The webhook goes out before the answer; retries go on behind it."""
    simulator = simulator_of(request)
    page, contact = contact_of(simulator, body)
    if not body.text and not body.attachments:
        raise HTTPException(422, "a message needs text or attachments")
    if body.display_name is not None or body.phone is not None:
        simulator.world.describe(body.citizen, display_name=body.display_name, phone=body.phone)
    written = await simulator.write(
        page,
        contact,
        text=body.text,
        attachments=[attachment.model_dump() for attachment in body.attachments],
        quote_message_id=body.quote_msg_id,
        hidden=body.hidden,
        anonymous=body.anonymous,
        wait=body.wait,
    )
    return {
        "msg_id": written.item.msg_id,
        "seq": written.item.seq,
        "oa_id": page.oa_id,
        "user_id": contact.user_id,
        "user_id_by_app": contact.user_id_by_app,
        "conversation_id": conversation_id_of(contact) if body.anonymous else None,
        "webhook": written.attempt.public() if written.attempt else None,
    }


@router.get("/conversations/{page_name}/{user_id}")
async def read_conversation(
    page_name: str,
    user_id: str,
    request: Request,
    after_seq: Annotated[int, Query(ge=0)] = 0,
    wait_seconds: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0,
) -> dict[str, Any]:
    """The messages of a person and a page after a number; waits up to `wait_seconds` for the first one."""
    simulator = simulator_of(request)
    page = page_of(simulator, page_name)
    contact = page.contacts.get(user_id)
    if contact is None:
        return {"items": []}
    conversation = contact.conversation
    deadline = time.monotonic() + wait_seconds
    with conversation.watch() as changes:
        while not (items := conversation.after(after_seq)) and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(changes.get(), left)
            except TimeoutError:
                break
    return {"items": [item.public() for item in items]}


@router.get("/log")
async def read_log(
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
    kind: Literal["webhook", "api"] | None = None,
    oa_id: str | None = None,
    user_id: str | None = None,
    event_name: str | None = None,
    msg_id: str | None = None,
) -> Response:
    """Every webhook attempt and every API call, oldest first; go on with `after=next`."""
    log = simulator_of(request).log
    lines, next_after = log.read(
        after, limit, any_id=msg_id, kind=kind, oa_id=oa_id, user_id=user_id, event_name=event_name
    )
    tail = orjson.dumps({"next": next_after, "first_kept": log.first_seq, "last": log.last_seq})
    return Response(b'{"items":[' + b",".join(lines) + b"]," + tail[1:], media_type="application/json")


@router.post("/follow")
async def follow(body: FollowIn, request: Request) -> dict[str, Any]:
    """Follow a page or leave it."""
    simulator = simulator_of(request)
    page, contact = contact_of(simulator, body)
    attempt = await simulator.change_follow(page, contact, follows=body.follows, source=body.source)
    return {"user_id": contact.user_id, "follows": contact.follows, "webhook": attempt.public()}


@router.post("/chat-clicks")
async def click_chat(body: Who, request: Request) -> dict[str, Any]:
    """Press the chat button; Zalo tells the page only if this person never chatted with it."""
    simulator = simulator_of(request)
    page, contact = contact_of(simulator, body)
    attempt = await simulator.click_chat(page, contact)
    return {"user_id": contact.user_id, "webhook": attempt.public() if attempt else None}


@router.post("/receipts")
async def receipts(body: ReceiptIn, request: Request) -> dict[str, Any]:
    """Tell a page that its messages arrived or were seen."""
    simulator = simulator_of(request)
    page, contact = contact_of(simulator, body)
    return {"reported": simulator.receipt(page, contact, seen=body.seen, msg_ids=body.msg_ids)}


@router.post("/reactions")
async def react(body: ReactionIn, request: Request) -> dict[str, Any]:
    """React to a message; the page hears of it."""
    simulator = simulator_of(request)
    page, contact = contact_of(simulator, body)
    attempt = await simulator.react(page, contact, body.msg_id, body.react_icon)
    if attempt is None:
        raise HTTPException(404, "no such message in this conversation")
    return {"user_id": contact.user_id, "webhook": attempt.public()}


@router.post("/user-info")
async def submit_info(body: InfoIn, request: Request) -> dict[str, Any]:
    """Answer a request for contact information."""
    simulator = simulator_of(request)
    page, contact = contact_of(simulator, body)
    attempt = await simulator.submit_info(
        page,
        contact,
        {
            "name": body.name,
            "phone": body.phone,
            "user_dob": body.user_dob,
            "gender": body.gender,
            "full_address": {"user_city": "", "user_ward": "", "user_address": ""} | body.full_address,
        },
    )
    return {"user_id": contact.user_id, "webhook": attempt.public()}


@router.post("/people")
async def describe_person(body: PersonIn, request: Request) -> dict[str, Any]:
    """Name a person; with a page, also set how sending to them is refused and how long they have been silent."""
    simulator = simulator_of(request)
    person = simulator.world.describe(body.citizen, display_name=body.display_name, phone=body.phone)
    answer: dict[str, Any] = {
        "citizen": person.citizen,
        "display_name": person.display_name,
        "phone": person.phone,
    }
    if not body.page:
        if body.switch is not None or body.last_interaction_hours_ago is not None:
            raise HTTPException(422, "switch and last_interaction_hours_ago are about a page: name it")
        return answer
    page = page_of(simulator, body.page)
    contact = simulator.world.contact(page, body.citizen)
    if body.switch is not None:
        contact.switch = body.switch
    if body.last_interaction_hours_ago is not None:
        contact.last_interaction_ms = simulator.clock.now_ms() - int(body.last_interaction_hours_ago * 3_600_000)
    return answer | _describe_contact(page, contact)


@router.get("/people/{page_name}/{citizen}")
async def read_person(page_name: str, citizen: str, request: Request) -> dict[str, Any]:
    """A person as a page knows them; asking makes them known."""
    simulator = simulator_of(request)
    page = page_of(simulator, page_name)
    person = simulator.world.person(citizen)
    contact = simulator.world.contact(page, citizen)
    return {
        "citizen": citizen,
        "display_name": person.display_name,
        "phone": person.phone,
        **_describe_contact(page, contact),
    }


def _describe_contact(page: Page, contact: Contact) -> dict[str, Any]:
    return {
        "page": page.config.page,
        "oa_id": page.oa_id,
        "user_id": contact.user_id,
        "user_id_by_app": contact.user_id_by_app,
        "follows": contact.follows,
        "switch": contact.switch,
        "refusal_code": PERSON_SWITCHES[contact.switch],
        "last_interaction_at": iso(contact.last_interaction_ms) if contact.last_interaction_ms else None,
    }


@router.post("/events")
async def fire_event(body: EventIn, request: Request) -> dict[str, Any]:
    """Send any event of the catalogue, or an unknown one, with a realistic body."""
    simulator = simulator_of(request)
    page, contact = contact_of(simulator, body)
    attempt = await simulator.fire(
        page, contact, body.event_name, override=body.override, signature=body.signature, wait=body.wait
    )
    return {
        "oa_id": page.oa_id,
        "user_id": contact.user_id,
        "in_catalogue": body.event_name in events.templates(),
        "webhook": attempt.public() if attempt else None,
    }


@router.get("/events")
async def list_events() -> dict[str, Any]:
    """The names of the catalogue."""
    return {"event_names": sorted(events.templates())}


@router.post("/webhook")
async def set_webhook(body: WebhookIn, request: Request) -> dict[str, Any]:
    """Set the URL, subscribe again after Zalo gave up, or scale the waits of the retry ladder."""
    simulator = simulator_of(request)
    for app in _apps(simulator, body.app_id):
        if body.url is not None:
            app.webhook_url = body.url
        if body.enabled is not None:
            app.subscribed = body.enabled
    if body.time_scale is not None:
        simulator.webhooks.time_scale = body.time_scale
    return _describe_webhooks(simulator)


@router.post("/webhook/check")
async def check_webhook(request: Request, app_id: str = "") -> dict[str, Any]:
    """What the console does when a URL is saved: send the signed sample once and report."""
    simulator = simulator_of(request)
    results = []
    for app in _apps(simulator, app_id):
        attempt = await simulator.webhooks.check(app)
        results.append(
            {"app_id": app.app_id, "accepted": attempt.outcome == "acknowledged", "webhook": attempt.public()}
        )
    return {"results": results}


@router.post("/webhook/retry-now")
async def retry_now(request: Request) -> dict[str, Any]:
    """Send everything that waits on the retry ladder at once."""
    return {"sent": simulator_of(request).webhooks.retry_now()}


@router.post("/moods")
async def set_moods(body: MoodRequest | MoodsIn, request: Request) -> dict[str, Any]:
    """Add one mood, or replace all by {"moods": […]}."""
    simulator = simulator_of(request)
    requests = [body]
    if isinstance(body, MoodsIn):
        simulator.moods.clear()
        requests = list(body.moods)
    for mood in requests:
        if isinstance(mood, MoodRequest):
            simulator.moods.add(mood, page_of(simulator, mood.page).oa_id if mood.page else "")
    return {"moods": [_describe_mood(mood) for mood in simulator.moods.active]}


@router.delete("/moods")
async def clear_moods(request: Request) -> dict[str, Any]:
    """Be in a good mood again."""
    simulator_of(request).moods.clear()
    return {"moods": []}


@router.delete("/moods/{mood_id}")
async def end_mood(mood_id: int, request: Request) -> dict[str, Any]:
    """End one mood; one that is over already stays over."""
    moods = simulator_of(request).moods
    moods.end(mood_id)
    return {"moods": [_describe_mood(mood) for mood in moods.active]}


@router.post("/pages/{page_name}")
async def set_page(page_name: str, body: PageIn, request: Request) -> dict[str, Any]:
    """Disable a page, take its authorisation away, make it normal again; set its quotas and its own rate limit."""
    simulator = simulator_of(request)
    page = page_of(simulator, page_name)
    quotas.renew(page, simulator.clock.now())
    for name, value in body.model_dump(exclude_none=True).items():
        setattr(page, name, value)
    return _describe_page(simulator, page)


@router.post("/billing")
async def set_billing(body: BillingIn, request: Request) -> dict[str, Any]:
    """Connect the Zalo Cloud account, take it away (-320), or give it so much money (-321 when it is spent)."""
    simulator = simulator_of(request)
    for app in _apps(simulator, body.app_id):
        app.has_cloud_account, app.balance_vnd = body.has_account, body.balance_vnd
    return _describe_webhooks(simulator)


@router.get("/pages/{page_name}/broadcasts")
async def list_broadcasts(page_name: str, request: Request) -> dict[str, Any]:
    """What a page sent to many: how many got it, and how many had got theirs of the day or of the month already."""
    page = page_of(simulator_of(request), page_name)
    return {"items": [{**asdict(sent), "at": iso(sent.at_ms), "due_at": iso(sent.due_ms)} for sent in page.broadcasts]}


@router.post("/templates")
async def add_template(body: TemplateIn, request: Request) -> dict[str, Any]:
    """Add or replace a template that pages may send."""
    templates = simulator_of(request).world.templates
    templates[body.template_id] = Template(**body.model_dump())
    return {"templates": [asdict(template) for template in templates.values()]}


@router.post("/tokens/revoke")
async def revoke_tokens(body: RevokeIn, request: Request) -> dict[str, Any]:
    """End a page's access token; with `refresh_token_too` only a new consent helps."""
    simulator = simulator_of(request)
    page = page_of(simulator, body.page)
    had_token = simulator.tokens.revoke(page)
    if body.refresh_token_too:
        simulator.tokens.revoke_refresh_token(page)
    return {"oa_id": page.oa_id, "had_token": had_token}


@router.post("/uploads/expire")
async def expire_uploads(request: Request) -> dict[str, Any]:
    """Let every uploaded file be older than its seven days."""
    media = simulator_of(request).media
    media.expire_all()
    return {"expired": len(media.uploads)}


@router.post("/clock")
async def set_clock(body: ClockIn, request: Request) -> dict[str, Any]:
    """Move the clock, so that windows and tokens run out and broadcasts arrive."""
    simulator = simulator_of(request)
    clock = simulator.clock
    if body.now is not None:
        if body.now.tzinfo is None:
            raise HTTPException(422, "now needs a time zone")
        clock.set_to(body.now)
    if body.shift_seconds is not None:
        clock.shift(body.shift_seconds)
    broadcasts.deliver_due(simulator)
    return {"now": clock.now().isoformat(), "offset_seconds": clock.offset_seconds}


@router.post("/followers")
async def add_followers(body: FollowersIn, request: Request) -> dict[str, Any]:
    """Give a page many followers at once."""
    simulator = simulator_of(request)
    page = page_of(simulator, body.page)
    since = (
        0
        if body.last_interaction_hours_ago is None
        else simulator.clock.now_ms() - int(body.last_interaction_hours_ago * 3_600_000)
    )
    started = time.perf_counter()
    for number in range(1, body.count + 1):
        contact = simulator.world.contact(page, f"{body.prefix}{number}")
        contact.follows = True
        contact.last_interaction_ms = max(contact.last_interaction_ms, since)
        if number % 5_000 == 0:
            await asyncio.sleep(0)  # let calls through while a big page fills
    return {
        "oa_id": page.oa_id,
        "contacts": len(page.contacts),
        "seconds": round(time.perf_counter() - started, 3),
    }


@router.post("/settings")
async def change_settings(body: SettingsIn, request: Request) -> dict[str, Any]:
    """Change what may change while running."""
    simulator = simulator_of(request)
    if body.auto_receipts is not None:
        simulator.auto_receipts = body.auto_receipts
    if body.rate_limit_per_minute is not None:
        simulator.rate_limit_per_minute = body.rate_limit_per_minute
    if body.page_rate_limit_per_minute is not None:
        simulator.page_rate_limit_per_minute = body.page_rate_limit_per_minute
    return _describe_settings(simulator)


def _describe_settings(simulator: Simulator) -> dict[str, Any]:
    return {
        "auto_receipts": simulator.auto_receipts,
        "rate_limit_per_minute": simulator.rate_limit_per_minute,
        "page_rate_limit_per_minute": simulator.page_rate_limit_per_minute,
    }


@router.post("/reset")
async def reset(request: Request, body: ResetIn | None = None) -> dict[str, Any]:
    """Forget people, conversations, moods, the clock's shift and the log in memory."""
    simulator = simulator_of(request)
    simulator.reset()
    if body is not None and body.tokens:
        simulator.tokens.forget_all()
    return await read_state(request)


@router.get("/state")
async def read_state(request: Request) -> dict[str, Any]:
    """Everything at a glance."""
    simulator = simulator_of(request)
    return {
        "run": simulator.run,
        "seed": simulator.world.seed,
        "now": simulator.clock.now().isoformat(),
        "clock_offset_seconds": simulator.clock.offset_seconds,
        "public_url": simulator.public_url,
        **_describe_webhooks(simulator),
        "moods": [_describe_mood(mood) for mood in simulator.moods.active],
        **_describe_settings(simulator),
        "log": {"first_kept": simulator.log.first_seq, "last": simulator.log.last_seq},
        "pages": [_describe_page(simulator, page) for page in simulator.world.pages.values()],
    }


def _describe_page(simulator: Simulator, page: Page) -> dict[str, Any]:
    return {
        "page": page.config.page,
        "oa_id": page.oa_id,
        "app_id": page.app.app_id,
        "name": page.config.name,
        "state": page.state,
        "code": PAGE_STATES[page.state],
        "package": page.package.slug,
        "sub_quota_remain": page.sub_quota_remain,
        "quota_renews_on": quotas.renewal_of(page, simulator.clock.now()),
        "reward_quota": page.reward_quota,
        "purchase_quota": page.purchase_quota,
        "contacts": len(page.contacts),
        "token": simulator.tokens.describe(page),
    }


def _apps(simulator: Simulator, app_id: str) -> list[App]:
    if not app_id:
        return list(simulator.world.apps.values())
    if app_id not in simulator.world.apps:
        raise HTTPException(404, f"no app {app_id!r}")
    return [simulator.world.apps[app_id]]


def _describe_webhooks(simulator: Simulator) -> dict[str, Any]:
    return {
        "apps": [
            {
                "app_id": app.app_id,
                "webhook_url": app.webhook_url,
                "subscribed": app.subscribed,
                "has_cloud_account": app.has_cloud_account,
                "balance_vnd": app.balance_vnd,
                "billed_vnd": app.billed_vnd,
            }
            for app in simulator.world.apps.values()
        ],
        "webhooks": {
            "time_scale": simulator.webhooks.time_scale,
            "queued": simulator.webhooks.queued,
            "in_flight": simulator.webhooks.in_flight,
            "waiting_for_retry": simulator.webhooks.waiting_for_retry,
        },
    }


def _describe_mood(mood: Mood) -> dict[str, Any]:
    return {"id": mood.mood_id, "hits": mood.hits, "over": mood.over, **mood.request.model_dump()}
