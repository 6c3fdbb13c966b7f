"""What events say about a citizen. Every fact is a moment or a newest value, so that events may repeat and overtake."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from services.notifier.domain.choices import Chosen, Key, newest
from shared.events import CitizenChanged, CitizenChose, CitizenEvent, CitizenMessageReceived

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Profile:
    """What a citizen told of themselves, and when."""

    details: dict[str, Scalar]
    at: datetime


@dataclass(frozen=True)
class Tag:
    """Whether a citizen has a tag, and since when that is so."""

    is_set: bool
    at: datetime


@dataclass(frozen=True)
class ContactFacts:
    """Facts of one or more events about one citizen.

    Attributes:
        seen_at: the newest event.
        named_at: the newest event that names the person; the name is kept only if that is later than a withdrawal.
    """

    citizen_key: str
    page: str
    oa_id: str
    user_id: str
    seen_at: datetime
    user_id_by_app: str | None = None
    named_at: datetime | None = None
    interaction_at: datetime | None = None
    followed_at: datetime | None = None
    unfollowed_at: datetime | None = None
    withdrawn_at: datetime | None = None
    profile: Profile | None = None
    tags: dict[str, Tag] = field(default_factory=dict)
    chosen: dict[Key, Chosen] = field(default_factory=dict)


def facts_of_message(message: CitizenMessageReceived) -> ContactFacts:
    """A message is an interaction: it opens the window."""
    return _facts(message, message.sent_at, interaction_at=message.sent_at)


def facts_of_choice(choice: CitizenChose) -> ContactFacts:
    """What a citizen wants to receive; the message in which they said so is an interaction of its own."""
    chosen: dict[Key, Chosen] = {
        (choice.subject, choice.value or ""): Chosen(choice.is_on, choice.chosen_at, choice.event_id)
    }
    return _facts(choice, choice.chosen_at, chosen=chosen)


def facts_of_change(change: CitizenChanged) -> ContactFacts:
    """What a change says; a change without a fact of its own still tells that the citizen exists."""
    at = change.changed_at
    interaction_at = at if change.is_interaction else None
    match change.change:
        case "followed":
            return _facts(change, at, interaction_at=interaction_at, followed_at=at)
        case "unfollowed":
            return _facts(change, at, interaction_at=interaction_at, unfollowed_at=at)
        case "withdrawn":
            return _facts(change, at, interaction_at=interaction_at, withdrawn_at=at)
        case "profile_shared" | "profile_updated":
            return _facts(change, at, interaction_at=interaction_at, profile=Profile(dict(change.details), at))
        case "tag_added" | "tag_removed":
            name = change.details.get("tag")
            tags = {name: Tag(change.change == "tag_added", at)} if isinstance(name, str) and name else {}
            return _facts(change, at, interaction_at=interaction_at, tags=tags)
        case _:
            return _facts(change, at, interaction_at=interaction_at)


def _facts(
    event: CitizenEvent,
    at: datetime,
    *,
    interaction_at: datetime | None = None,
    followed_at: datetime | None = None,
    unfollowed_at: datetime | None = None,
    withdrawn_at: datetime | None = None,
    profile: Profile | None = None,
    tags: dict[str, Tag] | None = None,
    chosen: dict[Key, Chosen] | None = None,
) -> ContactFacts:
    return ContactFacts(
        citizen_key=event.citizen_key,
        page=event.page,
        oa_id=event.oa_id,
        user_id=event.user_id,
        seen_at=at,
        user_id_by_app=event.user_id_by_app,
        named_at=at if event.user_id_by_app is not None else None,
        interaction_at=interaction_at,
        followed_at=followed_at,
        unfollowed_at=unfollowed_at,
        withdrawn_at=withdrawn_at,
        profile=profile,
        tags=tags or {},
        chosen=chosen or {},
    )


def merged(facts: Iterable[ContactFacts]) -> list[ContactFacts]:
    """One entry for each citizen, the same in whatever order the facts come."""
    by_citizen: dict[str, ContactFacts] = {}
    for new in facts:
        known = by_citizen.get(new.citizen_key)
        by_citizen[new.citizen_key] = new if known is None else _merge(known, new)
    return list(by_citizen.values())


def _merge(one: ContactFacts, other: ContactFacts) -> ContactFacts:
    older, newer = (one, other) if one.seen_at <= other.seen_at else (other, one)
    profiles = [profile for profile in (one.profile, other.profile) if profile is not None]
    tags = dict(one.tags)
    for name, tag in other.tags.items():
        if name not in tags or tags[name].at <= tag.at:
            tags[name] = tag
    return ContactFacts(
        citizen_key=one.citizen_key,
        page=newer.page,
        oa_id=one.oa_id,
        user_id=one.user_id,
        seen_at=newer.seen_at,
        user_id_by_app=newer.user_id_by_app or older.user_id_by_app,
        named_at=_latest(one.named_at, other.named_at),
        interaction_at=_latest(one.interaction_at, other.interaction_at),
        followed_at=_latest(one.followed_at, other.followed_at),
        unfollowed_at=_latest(one.unfollowed_at, other.unfollowed_at),
        withdrawn_at=_latest(one.withdrawn_at, other.withdrawn_at),
        profile=max(profiles, key=lambda profile: profile.at, default=None),
        tags=tags,
        chosen=newest(one.chosen, other.chosen),
    )


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    known = [at for at in (one, other) if at is not None]
    return max(known, default=None)
