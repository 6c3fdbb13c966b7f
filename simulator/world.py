"""Apps, Official Accounts and people: everything that has a state of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator import ids
from simulator.conversations import Conversation
from simulator.limits import Package, Tally, packages
from simulator.settings import AppConfig, PageConfig, ZaloConfig

# What an operator can do to a page, and the code that every call of it then gets.
PAGE_STATES: dict[str, int] = {
    "normal": 0,
    "disabled": -204,
    "missing": -205,
    "quota_spent": -211,
    "app_removed": -219,
    "unverified": -221,
    "unauthorized": -223,
    "package_too_low": -224,
}

# What a person can do (or have done to them), and the code that a message to them then gets.
PERSON_SWITCHES: dict[str, int] = {
    "none": 0,
    "stranger": -213,
    "blocked": -217,
    "receive_quota_spent": -218,
    "inactive": -227,
    "restricted": -244,
}


@dataclass(slots=True)
class Minute:
    """Calls counted in the current minute of the clock."""

    minute: int = 0
    calls: int = 0

    def count(self, now_ms: int) -> int:
        """Count one more; how many there were in this minute."""
        minute = now_ms // 60_000
        if self.minute != minute:
            self.minute, self.calls = minute, 0
        self.calls += 1
        return self.calls


@dataclass(slots=True)
class App:
    """A registration in the developer console; its one webhook serves all its pages."""

    config: AppConfig
    webhook_url: str = ""
    subscribed: bool = True
    calls: Minute = field(default_factory=Minute)
    uploads: Tally = field(default_factory=Tally)
    has_cloud_account: bool = True  # a Zalo Cloud account pays for what no quota covers
    balance_vnd: int | None = None  # None: as much money as it takes
    billed_vnd: int = 0

    @property
    def app_id(self) -> str:
        """The id in Zalo's events."""
        return self.config.app_id

    @property
    def signing_key(self) -> str:
        """The OA secret key that signs webhooks now."""
        return self.config.oa_secret_keys[0]


@dataclass(slots=True)
class Person:
    """A human being with a phone; the same one for all pages."""

    citizen: str
    display_name: str
    phone: str = ""


@dataclass(slots=True)
class Contact:
    """A person as one page knows them."""

    user_id: str
    user_id_by_app: str
    citizen: str
    follows: bool = False
    left: bool = False
    last_interaction_ms: int = 0
    wrote: bool = False
    switch: str = "none"
    shared_info: dict[str, str] = field(default_factory=dict)
    custom_info: dict[str, Any] = field(default_factory=dict)
    alias: str = ""
    external_id: str = ""
    anonymous: bool = False  # wrote without an account; may be answered by conversation id only
    broadcasts: Tally | None = None
    promotions: Tally | None = None
    conversation: Conversation = field(default_factory=Conversation)

    def interact(self, at_ms: int) -> None:
        """A follow, a message, a tap: it opens the page's right to answer."""
        self.last_interaction_ms = at_ms
        self.left = False


@dataclass(frozen=True, slots=True)
class Template:
    """An approved text with parameters in angle brackets."""

    template_id: str
    name: str
    text: str
    by_user_id: bool = True
    is_promotion: bool = False


@dataclass(slots=True)
class Article:
    """What a page published; `fields` are the checked members of its request."""

    article_id: str
    fields: dict[str, Any]
    created_ms: int
    updated_ms: int
    views: int = 0


@dataclass(slots=True)
class PendingArticle:
    """A request to publish that Zalo still works on; without an id it will be a new article."""

    article_id: str
    ready_ms: int
    fields: dict[str, Any]
    done: bool = False


@dataclass(slots=True)
class Video:
    """An uploaded video while and after it is converted."""

    video_id: str
    ready_ms: int


@dataclass(slots=True)
class Broadcast:
    """An article sent to many: how many got it, and how many had got theirs of the day or of the month already."""

    message_id: str
    article_id: str
    at_ms: int
    due_ms: int
    target: dict[str, list[int]] = field(default_factory=dict)
    is_delivered: bool = False
    delivered: int = 0
    held_back: int = 0


@dataclass(slots=True)
class Page:
    """An Official Account."""

    config: PageConfig
    app: App
    state: str = "normal"
    calls: Minute = field(default_factory=Minute)
    rate_limit_per_minute: int | None = None  # None: as set for all pages
    sub_quota_remain: int = 0
    quota_period: str = ""  # the day on which the package's current month began
    reward_quota: int = 0
    purchase_quota: int = 0
    articles_made: Tally = field(default_factory=Tally)
    contacts: dict[str, Contact] = field(default_factory=dict)
    # user ids by the time of their newest message, newest last
    recent: dict[str, None] = field(default_factory=dict)
    # tag -> user ids
    tags: dict[str, dict[str, None]] = field(default_factory=dict)
    # key of a custom field -> its definition
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    articles: dict[str, Article] = field(default_factory=dict)
    pending_articles: dict[str, PendingArticle] = field(default_factory=dict)
    videos: dict[str, Video] = field(default_factory=dict)
    broadcasts: list[Broadcast] = field(default_factory=list)
    phone_sends: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.sub_quota_remain = self.package.messages_a_month

    @property
    def package(self) -> Package:
        """What the account has paid for."""
        return packages()[self.config.package]

    @property
    def oa_id(self) -> str:
        """The id in Zalo's events."""
        return self.config.oa_id

    def touch(self, user_id: str) -> None:
        """Move a person to the top of the page's recent chats."""
        self.recent.pop(user_id, None)
        self.recent[user_id] = None

    def forget_all(self) -> None:
        """Be as on the first day: no people, nothing published, nothing spent."""
        fresh = Page(self.config, self.app)
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))


class UnknownPage(LookupError):
    """No page has this slug or id."""


class World:
    """All apps, pages and people of one simulator."""

    def __init__(
        self, config: ZaloConfig, *, seed: int, webhook_url: str, names: list[str], templates: Sequence[Template] = ()
    ) -> None:
        self.seed = seed
        self._names = names
        self.apps = {app.app_id: App(app, webhook_url=webhook_url) for app in config.apps}
        self.pages = {page.oa_id: Page(page, self.apps[page.app_id]) for page in config.pages}
        self._by_slug = {page.config.page: page for page in self.pages.values()}
        self.people: dict[str, Person] = {}
        self.templates: dict[str, Template] = {template.template_id: template for template in templates}

    def page(self, slug_or_oa_id: str) -> Page:
        """Find a page by its short name or its id.

        Raises:
            UnknownPage: there is none.
        """
        page = self._by_slug.get(slug_or_oa_id) or self.pages.get(slug_or_oa_id)
        if page is None:
            raise UnknownPage(f"no page {slug_or_oa_id!r}; known: {', '.join(sorted(self._by_slug))}")
        return page

    def person(self, citizen: str) -> Person:
        """The person of this name; whoever was never mentioned gets a plausible name."""
        return self.people.get(citizen) or Person(citizen, self._default_name(citizen))

    def describe(self, citizen: str, *, display_name: str | None, phone: str | None) -> Person:
        """Remember how a person wants to be called."""
        person = self.people.setdefault(citizen, self.person(citizen))
        if display_name is not None:
            person.display_name = display_name
        if phone is not None:
            person.phone = phone
        return person

    def known(self, page: Page, citizen: str) -> Contact | None:
        """This person on this page, if the page has met them."""
        return page.contacts.get(ids.user_id(self.seed, page.oa_id, citizen))

    def contact(self, page: Page, citizen: str) -> Contact:
        """This person on this page; a first meeting makes them known, without opening any window."""
        user_id = ids.user_id(self.seed, page.oa_id, citizen)
        contact = page.contacts.get(user_id)
        if contact is None:
            by_app = ids.user_id_by_app(self.seed, page.app.app_id, citizen)
            contact = page.contacts[user_id] = Contact(user_id, by_app, citizen)
        return contact

    def _default_name(self, citizen: str) -> str:
        number = int(ids.user_id(0, "name", citizen)) // 7
        return self._names[number % len(self._names)]
