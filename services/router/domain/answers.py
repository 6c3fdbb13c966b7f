"""What to answer by itself: the choice is a rule, every word is data (`data/templates.yaml`, `data/procedures.yaml`).

Nothing here quotes the citizen's text. A procedure text that no officer approved is answered in the demo only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.assignment import Assignment
from services.router.domain.understanding import INCIDENTS, Reading
from shared.events import Language, ReplyButton

MAX_ANSWER_CHARACTERS = 900
"""What an older person reads on a phone without giving up."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Template(_Data):
    """One text in Vietnamese and, for foreigners, in English; `{names}` are filled from numbers, case and unit."""

    vi: str
    en: str


class Templates(_Data):
    """`data/templates.yaml`.

    Attributes:
        person_button: title and payload of the button that asks for a person, by language.
        with_person_button: templates that carry it.
    """

    person_button: dict[Language, ReplyButton]
    with_person_button: tuple[str, ...]
    texts: dict[str, Template]


class Procedure(_Data):
    """One answer about a procedure.

    Attributes:
        topic: finer than the subtopic; None is the general answer.
        valid_from: since when the text holds.
        sure: V verified wording, L from the law named, U unverified.
        approved_by: the officer who approved it; None answers in the demo only.
    """

    key: str = Field(pattern=r"^[a-z0-9_]+$")
    subtopic: str
    topic: str | None = None
    title: str
    title_en: str | None = None
    text: str
    text_en: str | None = None
    valid_from: date
    source: str
    sure: Literal["V", "L", "U"]
    approved_by: str | None = None


class EmergencyNumber(_Data):
    """A number to call, with its source."""

    number: str = Field(pattern=r"^[0-9]{3,4}$")
    about: str
    source: str
    checked_on: date


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said.

    Attributes:
        template: key of the text; with the message's id it makes the reply's id.
        is_direct: answers a question and is given every time; an acknowledgement is given once in a window.
        closes: nothing more is needed unless the citizen says so.
        reason: why this one.
    """

    template: str
    is_direct: bool = False
    closes: bool = False
    reason: str = "answer.given"


class AnswerBook:
    """Templates, procedures and numbers, checked and ready to use."""

    def __init__(
        self,
        templates: Templates,
        procedures: tuple[Procedure, ...],
        numbers: Mapping[str, EmergencyNumber],
        *,
        allows_unapproved: bool,
    ) -> None:
        self._templates = templates
        self._procedures = {(p.subtopic, p.topic): p for p in procedures}
        self._by_key = {f"procedure.{p.key}": p for p in procedures}
        self._numbers = {name: entry.number for name, entry in numbers.items()}
        self._allows_unapproved = allows_unapproved
        for key in (*(k for k in templates.texts if k != "procedure.wrapper"), *self._by_key):
            self.text(key, language="vi", case_code="", unit="")  # an unknown {name} shows at start-up
            self.text(key, language="en", case_code="", unit="")

    def choose(self, reading: Reading, assignment: Assignment, *, language: Language) -> Answer | None:
        """The answer a message deserves on its own; None where silence is right.

        Args:
            reading: what it is about.
            assignment: who answers.
            language: of the answer; the message itself may be written in the other.
        """
        match reading.category:
            case "emergency":
                return Answer(self._first(f"emergency.{t}" for t in (*reading.topics, "general")))
            case "crime_report" | "security_tip" | "complaint":
                if assignment.is_outside and reading.category in INCIDENTS:
                    return Answer("out_of_area.incident")
                return Answer(self._first(f"{reading.category}.{t}" for t in (*reading.topics, "received")))
            case "procedure":
                return self._procedure(reading, assignment, language)
            case "greeting" if reading.needs_person and not reading.cancels:
                return Answer("unknown.to_person")
            case "greeting":
                return None if "thanks" in reading.topics[:1] or reading.cancels else self._greeting(reading)
            case _:
                return self._other(reading)

    def _first(self, keys: Iterable[str]) -> str:
        return next(key for key in keys if key in self._templates.texts)

    def _procedure(self, reading: Reading, assignment: Assignment, language: Language) -> Answer:
        if assignment.is_outside:
            return Answer("out_of_area.procedure", is_direct=True, closes=not reading.needs_person)
        if reading.needs_person or reading.subtopic is None:
            return Answer("procedure.to_person", reason="answer.unsure")
        found = self.procedure_of(reading)
        if found is None:
            return Answer("procedure.to_person", reason="answer.no_text")
        if found.approved_by is None and not self._allows_unapproved:
            return Answer("procedure.to_person", reason="answer.needs_approval")
        if language == reading.language == "en" and found.text_en is None:  # who writes Vietnamese can read it
            return Answer("procedure.to_person", reason="answer.no_text")
        return Answer(f"procedure.{found.key}", is_direct=True, closes=True)

    def procedure_of(self, reading: Reading) -> Procedure | None:
        """The text for the finest key that has one."""
        if reading.subtopic is None:
            return None
        for topic in (*reading.topics, None):
            found = self._procedures.get((reading.subtopic, topic))
            if found is not None:
                return found
        return None

    def _greeting(self, reading: Reading) -> Answer:
        return Answer("greeting.bot" if "bot" in reading.topics else "greeting.hello")

    def _other(self, reading: Reading) -> Answer | None:
        if reading.is_contentless:
            return Answer("attachment.to_person") if _is_unread_attachment(reading) else None
        for topic in reading.topics:
            key = f"other_body.{topic}"
            if key in self._templates.texts:
                return Answer(key, is_direct=True, closes=not reading.needs_person)
        if "wrong_recipient" in reading.topics:
            return Answer("greeting.hello")
        return Answer("unknown.to_person") if reading.needs_person else None

    def text(self, template: str, *, language: Language, case_code: str, unit: str, choice: str = "") -> str:
        """The words of an answer; `choice` names what a citizen chose."""
        procedure = self._by_key.get(template)
        if procedure is None:
            found = self._templates.texts[template]
            words = found.en if language == "en" else found.vi
            return words.format(case_code=case_code, unit=unit, choice=choice, **self._numbers)
        wrapper = self._templates.texts["procedure.wrapper"]
        words, title, body = wrapper.vi, procedure.title, procedure.text
        if language == "en" and procedure.text_en:  # whole in one language, whichever there is
            words, title, body = wrapper.en, procedure.title_en or title, procedure.text_en
        return words.format(
            title=title,
            answer=body.strip(),
            source=procedure.source,
            valid_from=f"{procedure.valid_from:%d/%m/%Y}",
            case_code=case_code,
            unit=unit,
            **self._numbers,
        )

    def buttons(self, template: str, *, language: Language, choices: Sequence[str] = ()) -> tuple[ReplyButton, ...]:
        """The buttons under an answer; pressing one of the `choices` sends its title as a message."""
        wants = template in self._templates.with_person_button or template in self._by_key
        person = (self._templates.person_button[language],) if wants else ()
        return (*(ReplyButton(title=c, type="oa.query.show", payload=c) for c in choices), *person)


def _is_unread_attachment(reading: Reading) -> bool:
    return any(reason.startswith("reading.only_") for reason in reading.reasons)
