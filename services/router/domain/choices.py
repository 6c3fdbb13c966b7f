"""What a citizen chooses about broadcasts: by a word that is the whole message, or by a button, which sends such words.

Pure over `data/broadcasts/choices.yaml`. Inside a sentence the same words mean nothing here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from services.router.domain.memory import Memory
from services.router.domain.text import Spelling, WritingBook, fold, plain_word
from shared.directory import DirectoryView, Unit
from shared.events import ChoiceSubject, ReplyButton, Slug

MAX_CHARACTERS = 100
WARDS_ON_A_PAGE = 4
"""Zalo shows five buttons at most; the fifth leads to the next wards."""

Menu = Literal["topics", "wards"]


class Topic(BaseModel):
    """A subject of broadcasts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: Slug
    name: str


class ChoiceBook(BaseModel):
    """`data/broadcasts/choices.yaml`; see there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop: tuple[str, ...]
    resume: tuple[str, ...]
    topics_menu: tuple[str, ...]
    wards_menu: tuple[str, ...]
    courtesies: tuple[str, ...]
    keep_ward: str
    keep_no_ward: tuple[str, ...]
    forget_ward: tuple[str, ...]
    choose: tuple[str, ...]
    drop: tuple[str, ...]
    topics: tuple[Topic, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        value: the topic or the ward; None for broadcasts as a whole.
        name: of the value, as people say it.
    """

    subject: ChoiceSubject
    is_on: bool
    value: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class MenuAsked:
    """The citizen wants to see what there is to choose; `page` counts from 1."""

    menu: Menu
    page: int = 1


@dataclass(frozen=True, slots=True)
class WardMemory:
    """The citizen answers whether to remember a ward, or wants it forgotten."""

    memory: Memory
    name: str = ""


Wish: TypeAlias = Choice | MenuAsked | WardMemory
_Forms = tuple[tuple[str, ...], tuple[str, ...]]


def ward_name(unit: Unit) -> str:
    """A unit by the name of its ward, as it stands on a button."""
    name = unit.name.removeprefix("Công an ")
    return name[:1].upper() + name[1:]


class Choices:
    """Understands wishes and knows the buttons that lead to them.

    Args:
        book: the phrases and topics.
        writing: how people write.
        units: of all times.
    """

    def __init__(self, book: ChoiceBook, writing: WritingBook, units: Iterable[Unit]) -> None:
        self._book = book
        self._wards = {unit.slug: unit for unit in units if unit.role == "ward"}
        phrases = [
            *(*book.stop, *book.resume, *book.topics_menu, *book.wards_menu, *book.courtesies),
            *(*book.keep_no_ward, *book.forget_ward),
            *(form.format(name=name) for form in (*book.choose, *book.drop) for name in self._names),
            *(book.keep_ward.format(name=ward_name(unit)) for unit in self._wards.values()),
        ]
        self._spelling = Spelling(writing, phrases)
        self._courtesies = sorted((self._fold(c)[0] for c in book.courtesies), key=len, reverse=True)

    @property
    def _names(self) -> list[str]:
        return [*(topic.name for topic in self._book.topics), *(ward_name(unit) for unit in self._wards.values())]

    def _fold(self, text: str) -> _Forms:
        words = fold(text, self._spelling)
        return tuple(plain_word(word) for word in words.marked), words.marked

    @cached_property
    def _meanings(self) -> Mapping[tuple[str, ...], Sequence[tuple[tuple[str, ...], Wish]]]:
        book = self._book
        meanings: list[tuple[str, Wish]] = [
            *((phrase, Choice("broadcasts", is_on=False)) for phrase in book.stop),
            *((phrase, Choice("broadcasts", is_on=True)) for phrase in book.resume),
            *((phrase, MenuAsked("topics")) for phrase in book.topics_menu),
            *((phrase, MenuAsked("wards")) for phrase in book.wards_menu),
            *((f"{p} {n}", MenuAsked("wards", n)) for p in book.wards_menu for n in range(2, len(self._wards))),
        ]
        meanings += [(phrase, WardMemory(Memory("refused"))) for phrase in book.keep_no_ward]
        meanings += [(phrase, WardMemory(Memory("forgotten"))) for phrase in book.forget_ward]
        meanings += [
            (self.keep_phrase(unit), WardMemory(Memory("kept", unit.slug), ward_name(unit)))
            for unit in self._wards.values()
        ]
        for is_on, forms in ((True, book.choose), (False, book.drop)):
            for form in forms:
                values = [Choice("topic", is_on, topic.slug, topic.name) for topic in book.topics]
                values += [Choice("ward", is_on, unit.slug, ward_name(unit)) for unit in self._wards.values()]
                meanings += [(form.format(name=choice.name), choice) for choice in values]
        found: dict[tuple[str, ...], list[tuple[tuple[str, ...], Wish]]] = {}
        for phrase, wish in meanings:
            plain, marked = self._fold(phrase)
            found.setdefault(plain, []).append((marked, wish))
        return found

    def of(self, text: str, view: DirectoryView) -> Wish | None:
        """The wish that a whole message is; None for every other message.

        A word may lack its marks, but those it has must be right: "dùng nhận tin" is not "dừng nhận tin".
        """
        if not text or len(text) > MAX_CHARACTERS:
            return None
        plain, marked = self._without_courtesies(*self._fold(text))
        for right, wish in self._meanings.get(plain, ()):
            is_written_so = all(m in (r, p) for m, r, p in zip(marked, right, plain, strict=True))
            ward = _ward_of(wish)
            if is_written_so and (ward is None or ward in view.units):
                return wish
        return None

    def _without_courtesies(self, plain: tuple[str, ...], marked: tuple[str, ...]) -> _Forms:
        start, end = 0, len(plain)
        found = True
        while found:
            found = False
            for courtesy in self._courtesies:
                length = len(courtesy)
                if end - start <= length:
                    continue
                if plain[start : start + length] == courtesy:
                    start, found = start + length, True
                elif plain[end - length : end] == courtesy:
                    end, found = end - length, True
        return plain[start:end], marked[start:end]

    def template(self, wish: Wish) -> str:
        """Key of the text that answers a wish."""
        match wish:
            case MenuAsked(menu):
                return f"choice.{menu}"
            case WardMemory(memory):
                return f"home.{memory.what}"
            case Choice(subject, is_on):
                return f"choice.{subject}_{'on' if is_on else 'off'}"

    def buttons(self, wish: Wish, view: DirectoryView, page_unit: str | None) -> tuple[ReplyButton, ...]:
        """What may be chosen next; pressing a button sends its payload as a message."""
        book = self._book
        topics_menu, wards_menu = book.topics_menu[0], book.wards_menu[0]
        payloads: list[str] = []
        match wish:
            case WardMemory():
                pass
            case Choice("broadcasts", is_on=False):
                payloads = [book.resume[0]]
            case Choice("broadcasts"):
                payloads = [topics_menu, wards_menu, book.stop[0]]
            case Choice("topic", is_on=True) | Choice("ward", is_on=True):
                payloads = [book.drop[0].format(name=wish.name), topics_menu, wards_menu]
            case Choice():
                payloads = [topics_menu, wards_menu]
            case MenuAsked("topics"):
                payloads = [book.choose[0].format(name=topic.name) for topic in book.topics]
            case MenuAsked("wards", page):
                # The ward of the page the citizen is on comes first: it is most often theirs.
                wards = sorted(view.wards(), key=lambda unit: (unit.slug != page_unit, unit.name))
                first = (page - 1) * WARDS_ON_A_PAGE
                shown = wards[first : first + WARDS_ON_A_PAGE]
                payloads = [book.choose[0].format(name=ward_name(unit)) for unit in shown]
                if len(wards) > first + WARDS_ON_A_PAGE:
                    payloads.append(f"{wards_menu} {page + 1}")
        return tuple(_button(payload) for payload in payloads)

    def keep_phrase(self, unit: Unit) -> str:
        """What lets us remember this ward."""
        return self._book.keep_ward.format(name=ward_name(unit))

    def consent_buttons(self, unit: Unit) -> tuple[ReplyButton, ...]:
        """Under the question whether to remember a ward."""
        return _button(self.keep_phrase(unit)), _button(self._book.keep_no_ward[0])


def _ward_of(wish: Wish) -> str | None:
    match wish:
        case Choice("ward", value=ward):
            return ward
        case WardMemory(memory):
            return memory.ward
        case _:
            return None


def _button(payload: str) -> ReplyButton:
    return ReplyButton(title=payload[:1].upper() + payload[1:], type="oa.query.show", payload=payload)
