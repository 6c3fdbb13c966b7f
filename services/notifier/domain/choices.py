"""What a citizen chose to receive, over all pages: registers in which the newest choice counts.

A choice is kept with the contact it was made on and combined when it is read, so that a page that a person follows
later knows it too, and a resume on one page ends a stop on another.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.events import ChoiceSubject

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
Key = tuple[ChoiceSubject, str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One choice.

    Attributes:
        at: by Zalo's clock.
        by: the event; it decides between two choices of one moment, so that every order of arrival ends alike.
    """

    is_on: bool
    at: datetime
    by: str

    @property
    def rank(self) -> tuple[datetime, str]:
        """The greater one counts."""
        return self.at, self.by


@dataclass(frozen=True, slots=True)
class ContactChoices:
    """The choices of one contact, and when the person asked to be forgotten there."""

    chosen: Mapping[Key, Chosen] = field(default_factory=dict)
    withdrawn_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person wants.

    Attributes:
        topics: only these; empty is all.
        wards: areas they chose; empty is none chosen.
        language: the one they chose last; None of who never did.
    """

    opted_out: bool = False
    topics: frozenset[str] = frozenset()
    wards: frozenset[str] = frozenset()
    language: str | None = None


def newest(one: Mapping[Key, Chosen], other: Mapping[Key, Chosen]) -> dict[Key, Chosen]:
    """Both together."""
    result = dict(one)
    for key, chosen in other.items():
        if key not in result or result[key].rank < chosen.rank:
            result[key] = chosen
    return result


def wishes(contacts: Iterable[ContactChoices], topics: Collection[str]) -> Wishes:
    """What a person wants, by all their contacts.

    A withdrawal on one page erases the topics, areas and languages chosen before it on any; a stop stays a stop.

    Args:
        contacts: of one person.
        topics: all there are; who dropped some and chose none gets the others.
    """
    contacts = list(contacts)
    since = max((contact.withdrawn_at for contact in contacts if contact.withdrawn_at is not None), default=LONG_AGO)
    merged: dict[Key, Chosen] = {}
    for contact in contacts:
        merged = newest(
            merged, {key: one for key, one in contact.chosen.items() if key[0] == "broadcasts" or one.at > since}
        )
    of_topics = {value: one.is_on for (subject, value), one in merged.items() if subject == "topic"}
    wanted = frozenset(topic for topic, is_on in of_topics.items() if is_on)
    if of_topics and not wanted:
        wanted = frozenset(topic for topic in topics if topic not in of_topics)
    languages = [(one.rank, value) for (subject, value), one in merged.items() if subject == "language" and one.is_on]
    broadcasts = merged.get(("broadcasts", ""))
    return Wishes(
        opted_out=broadcasts is not None and not broadcasts.is_on,
        topics=wanted,
        wards=frozenset(value for (subject, value), one in merged.items() if subject == "ward" and one.is_on),
        language=max(languages)[1] if languages else None,
    )
