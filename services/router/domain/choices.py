"""What a citizen chooses about broadcasts and their language.

They say it by a word that is the whole message, or by a button, which sends such words. Pure over
`data/broadcasts/choices.yaml`. Inside a sentence the same words mean nothing here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.memory import Memory
from services.router.domain.text import Spelling, WritingBook, fold, plain_word
from shared.directory import DirectoryView, Unit
from shared.events import LANGUAGES, ChoiceSubject, Language, ReplyButton, Slug

MAX_CHARACTERS = 100
WARDS_ON_A_PAGE = 4
"""Zalo shows five buttons at most; the fifth leads to the next wards."""

Menu = Literal["topics", "wards"]
Phrase = Annotated[tuple[str, ...], Field(min_length=1)]


class Topic(BaseModel):
    """A subject of broadcasts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: Slug
    name: str
    name_en: str


class Phrases(BaseModel):
    """How each wish is said in one language; the first of a list stands on the button."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop: Phrase
    resume: Phrase
    topics_menu: Phrase
    wards_menu: Phrase
    more_wards: str
    choose: Phrase
    drop: Phrase
    keep_ward: Phrase
    keep_no_ward: Phrase
    forget_ward: Phrase


class ChoiceBook(BaseModel):
    """`data/broadcasts/choices.yaml`; see there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    courtesies: tuple[str, ...]
    phrases: dict[Language, Phrases]
    languages: dict[Language, Phrase]
    topics: tuple[Topic, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        value: the topic, the ward or the language; None for broadcasts as a whole.
    """

    subject: ChoiceSubject
    is_on: bool
    value: str | None = None


@dataclass(frozen=True, slots=True)
class MenuAsked:
    """The citizen wants to see what there is to choose; `page` counts from 1."""

    menu: Menu
    page: int = 1


@dataclass(frozen=True, slots=True)
class WardMemory:
    """The citizen answers whether to remember a ward, or wants it forgotten."""

    memory: Memory


Wish: TypeAlias = Choice | MenuAsked | WardMemory
_Forms = tuple[tuple[str, ...], tuple[str, ...]]


def ward_name(unit: Unit, language: Language = "vi") -> str:
    """A unit by the name of its ward, as it stands on a button."""
    name = unit.name.removeprefix("Công an ") if language == "vi" else unit.name_en.removesuffix(" Police")
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
        self._topics = {topic.slug: topic for topic in book.topics}
        self._spelling = Spelling(writing, [*book.courtesies, *(phrase for phrase, _ in self._phrases())])
        self._courtesies = sorted((self._fold(c)[0] for c in book.courtesies), key=len, reverse=True)

    def _fold(self, text: str) -> _Forms:
        words = fold(text, self._spelling)
        return tuple(plain_word(word) for word in words.marked), words.marked

    def _phrases(self) -> Iterator[tuple[str, Wish]]:
        """Everything that can be said, with what it means."""
        for spoken, phrases in self._book.languages.items():
            yield from ((phrase, Choice("language", is_on=True, value=spoken)) for phrase in phrases)
        for language, said in self._book.phrases.items():
            yield from ((phrase, Choice("broadcasts", is_on=False)) for phrase in said.stop)
            yield from ((phrase, Choice("broadcasts", is_on=True)) for phrase in said.resume)
            yield from ((phrase, MenuAsked("topics")) for phrase in said.topics_menu)
            for phrase in said.wards_menu:
                yield phrase, MenuAsked("wards")
                yield from ((f"{phrase} {page}", MenuAsked("wards", page)) for page in range(2, len(self._wards)))
            yield from ((phrase, WardMemory(Memory("refused"))) for phrase in said.keep_no_ward)
            yield from ((phrase, WardMemory(Memory("forgotten"))) for phrase in said.forget_ward)
            for slug, unit in self._wards.items():
                name = ward_name(unit, language)
                yield from ((form.format(name=name), WardMemory(Memory("kept", slug))) for form in said.keep_ward)
            for is_on, forms in ((True, said.choose), (False, said.drop)):
                values = [Choice("topic", is_on, topic) for topic in self._topics]
                values += [Choice("ward", is_on, ward) for ward in self._wards]
                yield from ((form.format(name=self.name_of(one, language)), one) for form in forms for one in values)

    @cached_property
    def _meanings(self) -> Mapping[tuple[str, ...], Sequence[tuple[tuple[str, ...], Wish]]]:
        found: dict[tuple[str, ...], list[tuple[tuple[str, ...], Wish]]] = {}
        for phrase, wish in self._phrases():
            plain, marked = self._fold(phrase)
            found.setdefault(plain, []).append((marked, wish))
        return found

    def name_of(self, wish: Wish, language: Language) -> str:
        """What was chosen, as people say it in a language; "" where it is no topic and no ward."""
        match wish:
            case Choice("topic", value=str(slug)):
                return self._topics[slug].name if language == "vi" else self._topics[slug].name_en
            case Choice("ward", value=str(slug)) | WardMemory(Memory(ward=str(slug))):
                return ward_name(self._wards[slug], language)
            case _:
                return ""

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

    def buttons(
        self, wish: Wish, view: DirectoryView, page_unit: str | None, language: Language
    ) -> tuple[ReplyButton, ...]:
        """What may be chosen next; pressing a button sends its payload as a message."""
        said = self._book.phrases[language]
        topics_menu, wards_menu = said.topics_menu[0], said.wards_menu[0]
        other = [self.language_phrase(one) for one in LANGUAGES if one != language]
        payloads: list[str] = []
        more: list[ReplyButton] = []
        match wish:
            case WardMemory():
                pass
            case Choice("broadcasts", is_on=False):
                payloads = [said.resume[0]]
            case Choice("broadcasts"):
                payloads = [topics_menu, wards_menu, *other, said.stop[0]]
            case Choice("language"):
                payloads = [*other, topics_menu, wards_menu]
            case Choice("topic", is_on=True) | Choice("ward", is_on=True):
                payloads = [said.drop[0].format(name=self.name_of(wish, language)), topics_menu, wards_menu]
            case Choice():
                payloads = [topics_menu, wards_menu]
            case MenuAsked("topics"):
                names = [self.name_of(Choice("topic", is_on=True, value=topic), language) for topic in self._topics]
                payloads = [said.choose[0].format(name=name) for name in names]
            case MenuAsked("wards", page):
                # The ward of the page the citizen is on comes first: it is most often theirs.
                wards = sorted(view.wards(), key=lambda unit: (unit.slug != page_unit, unit.name))
                first = (page - 1) * WARDS_ON_A_PAGE
                shown = wards[first : first + WARDS_ON_A_PAGE]
                payloads = [said.choose[0].format(name=ward_name(unit, language)) for unit in shown]
                if len(wards) > first + WARDS_ON_A_PAGE:
                    more = [_button(f"{wards_menu} {page + 1}", said.more_wards)]
        return (*(_button(payload) for payload in payloads), *more)

    def language_phrase(self, language: Language) -> str:
        """What chooses this language."""
        return self._book.languages[language][0]

    def language_button(self, language: Language) -> ReplyButton:
        """Chooses this language."""
        return _button(self.language_phrase(language))

    def consent_buttons(self, unit: Unit, language: Language) -> tuple[ReplyButton, ...]:
        """Under the question whether to remember a ward."""
        said = self._book.phrases[language]
        return _button(said.keep_ward[0].format(name=ward_name(unit, language))), _button(said.keep_no_ward[0])


def _ward_of(wish: Wish) -> str | None:
    match wish:
        case Choice("ward", value=ward):
            return ward
        case WardMemory(memory):
            return memory.ward
        case _:
            return None


def _button(payload: str, title: str | None = None) -> ReplyButton:
    return ReplyButton(title=title or payload[:1].upper() + payload[1:], type="oa.query.show", payload=payload)
