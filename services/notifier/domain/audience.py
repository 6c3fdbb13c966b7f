"""Who a broadcast is for: filters, one person over all pages, and why somebody in the audience gets nothing.

A person is the same on every page by `user_id_by_app`; a contact without one is a person of its own. Contacts come in
the order of persons, so that a million of them need no memory.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from services.notifier.domain.lanes import (
    Choice,
    Chosen,
    LanesOfDay,
    Offer,
    Reach,
    Refused,
    cap_reached,
    choose_lane,
)
from services.notifier.domain.rules import WindowRule
from shared.events import Language, Slug

Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Some = Field(default=(), max_length=100)


class Audience(BaseModel):
    """Who is meant. Every filter that is given must hold, on one and the same page.

    Attributes:
        units: units whose pages are meant; empty is all pages.
        wards: areas a citizen chose; for one who chose none it is the unit that owns the page.
        topics: subjects of the broadcast; a citizen who chose topics gets only those, one who chose none gets all.
        tags: Zalo tags of the page; one of them is enough.
        languages: `vi`, `en`; a citizen who chose none counts as `vi`.
        interacted_within_hours: wrote, followed, called or pressed a button in this time.
        followed_before: follows since before this moment.
        followed_after: follows since this moment.
        followers_only: leave out people who write to a page without following it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: tuple[Slug, ...] = Some
    wards: tuple[Slug, ...] = Some
    topics: tuple[Word, ...] = Some
    tags: tuple[Word, ...] = Some
    languages: tuple[Language, ...] = Some
    interacted_within_hours: float | None = Field(default=None, gt=0, le=87_600)
    followed_before: AwareDatetime | None = None
    followed_after: AwareDatetime | None = None
    followers_only: bool = False


@dataclass(frozen=True, slots=True)
class ContactView:
    """One person on one page, with what audiences can ask for."""

    person: str
    reach: Reach
    followed_at: datetime | None = None
    topics: frozenset[str] = frozenset()
    wards: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    language: str | None = None

    @property
    def is_follower(self) -> bool:
        """Whether their last word was a follow."""
        return self.followed_at is not None and not self.reach.unfollowed


@dataclass(frozen=True)
class Terms:
    """What planning one broadcast's recipients rests on; the same for all of them.

    Attributes:
        unit_by_page: of the day.
        now: by the database's clock.
        heirs: who answers now for wards that have ended, which people chose before a merger.
    """

    audience: Audience
    offer: Offer
    rules: LanesOfDay
    window: WindowRule
    unit_by_page: Mapping[str, str]
    now: datetime
    heirs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Had:
    """How many broadcasts a person has had, or has coming, from all pages."""

    in_a_day: int = 0
    in_a_week: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """One person of the audience: how they are reached, or why they are not.

    Attributes:
        reach: of the page concerned.
    """

    person: str
    choice: Choice
    reach: Reach


Plan: TypeAlias = Planned | None
NOBODY = Had()


def matches(contact: ContactView, terms: Terms) -> bool:
    """Whether the audience means this contact."""
    audience, unit = terms.audience, terms.unit_by_page.get(contact.reach.page)
    wards = [terms.heirs.get(ward, ward) for ward in contact.wards] or ([unit] if unit else [])
    last = contact.reach.last_interaction_at
    within = audience.interacted_within_hours
    return (
        (not audience.units or unit in audience.units)
        and (not audience.wards or _any(audience.wards, wards))
        and (not audience.topics or not contact.topics or _any(audience.topics, contact.topics))
        and (not audience.tags or _any(audience.tags, contact.tags))
        and (not audience.languages or (contact.language or "vi") in audience.languages)
        and (within is None or (last is not None and terms.now - last < timedelta(hours=within)))
        and (not audience.followers_only or contact.is_follower)
        and _followed_in(contact.followed_at, audience)
    )


def _any(wanted: Sequence[str], there: Collection[str]) -> bool:
    return any(one in there for one in wanted)


def _followed_in(followed_at: datetime | None, audience: Audience) -> bool:
    if audience.followed_before is None and audience.followed_after is None:
        return True
    if followed_at is None:
        return False
    return (audience.followed_before is None or followed_at < audience.followed_before) and (
        audience.followed_after is None or followed_at >= audience.followed_after
    )


def plan(contacts: Sequence[ContactView], terms: Terms, had: Had = NOBODY) -> Plan:
    """Decide about one person.

    Args:
        contacts: all contacts of the person, on whatever page; an opt-out on one of them is one on all.
        terms: of the broadcast.
        had: broadcasts of the last day and week.

    Returns:
        None for somebody the audience does not mean.
    """
    meant = [contact.reach for contact in contacts if matches(contact, terms)]
    if not meant:
        return None
    person = contacts[0].person
    choice: Choice
    if any(contact.reach.opted_out for contact in contacts):
        choice = Refused("contact.opted_out")
    else:
        choice = choose_lane(meant, terms.offer, terms.rules, terms.window, terms.now)
    if isinstance(choice, Chosen):
        capped = cap_reached(
            terms.rules.policy,
            in_a_day=had.in_a_day,
            in_a_week=had.in_a_week,
            is_emergency=terms.offer.is_emergency,
        )
        return Planned(person, capped or choice, choice.reach)
    return Planned(person, choice, meant[0])
