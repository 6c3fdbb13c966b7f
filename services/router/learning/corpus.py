"""The written messages: reading, checking and telling near-duplicates apart.

Format and craft are described in docs/data-card.md.
"""

import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from services.router.adapters.data_files import load_file
from services.router.domain.text import fold
from services.router.domain.understanding import PROCEDURE_SUBTOPICS, Category, Urgency
from services.router.offline import Line
from shared.errors import ConfigurationError

Writer = Literal[
    "old",
    "young",
    "migrant_worker",
    "landlord",
    "shop_owner",
    "driver",
    "parent",
    "angry",
    "frightened",
    "polite",
    "foreign",
    "joker",
    "officers",
]
WRITERS: tuple[Writer, ...] = tuple(writer for writer in get_args(Writer) if writer != "officers")
OFFICERS = "officers"
"""The writer of what officers corrected."""

LINE_BREAK = "⏎"


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled message.

    Attributes:
        source: file and line, for a person who looks it up.
    """

    text: str
    category: Category
    subtopic: str | None
    urgency: Urgency
    writer: str
    source: str = ""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    category: Category
    subtopic: str | None = None
    urgency: Urgency
    texts: str

    @model_validator(mode="after")
    def _follows_the_rules(self) -> "_Group":
        if fault := label_fault(self.category, self.subtopic, self.urgency):
            raise ValueError(fault)
        return self


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: Writer
    groups: tuple[_Group, ...]


def usual_urgency(category: str) -> Urgency:
    """The urgency that goes with a category unless somebody says otherwise."""
    match category:
        case "emergency":
            return "emergency"
        case "crime_report":
            return "high"
        case _:
            return "normal"


def label_fault(category: str, subtopic: str | None, urgency: str | None) -> str | None:
    """What is wrong with a label; None if nothing is."""
    if category not in get_args(Category):
        return f"{category!r} is no category"
    if (category == "procedure") != (subtopic is not None):
        return "a procedure has a subtopic, and nothing else has one"
    if subtopic is not None and subtopic not in PROCEDURE_SUBTOPICS:
        return f"{subtopic!r} is no subtopic"
    wanted = {"emergency": {"emergency"}, "crime_report": {"high"}, "security_tip": {"high", "normal"}}
    if urgency is not None and urgency not in wanted.get(category, {"normal"}):
        return f"urgency {urgency!r} does not go with {category}"
    return None


def load_messages(folder: Path) -> list[Example]:
    """All written messages of a folder, in the order of file names and lines.

    Raises:
        ConfigurationError: a file is wrong; the text says which and where.
    """
    examples: list[Example] = []
    for file in sorted(folder.glob("*.yaml")):
        examples += read_messages(file)
    if not examples:
        raise ConfigurationError(f"{folder} holds no messages (*.yaml)")
    return examples


def read_messages(file: Path) -> list[Example]:
    """The messages of one file.

    Raises:
        ConfigurationError: it is wrong.
    """
    content = load_file(file, _File)
    return [
        Example(
            text=line.strip().replace(LINE_BREAK, "\n").strip(),
            category=group.category,
            subtopic=group.subtopic,
            urgency=group.urgency,
            writer=content.writer,
            source=f"{file.name} group {number} line {at}",
        )
        for number, group in enumerate(content.groups, 1)
        for at, line in enumerate(group.texts.splitlines(), 1)
        if line.strip()
    ]


class Expected(BaseModel):
    """What a held-out message should be read as."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: Category
    subtopic: str | None = None
    urgency: Urgency | None = None
    ward: str | None = None


class HeldOut(Line):
    """One line of `data/understanding/held_out/*.jsonl`: a line of `hub understand`, and what to make of it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    writer: str = "unknown"
    style: str = "unknown"
    expected: Expected


def load_held_out(folder: Path) -> list[HeldOut]:
    """The held-out messages of a folder; empty where there are none.

    Raises:
        ConfigurationError: a line is wrong; the text says which.
    """
    lines: list[HeldOut] = []
    for file in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                lines.append(HeldOut.model_validate(json.loads(line)))
            except ValueError as error:
                raise ConfigurationError(f"{file} line {number}: {error}") from error
    return lines


def digest(examples: Iterable[Example]) -> str:
    """What a model was trained on, in one line: changes with every text and label, not with the order of files."""
    lines = sorted(json.dumps([e.text, e.category, e.subtopic, e.urgency, e.writer]) for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------- near-duplicates

SHINGLE_WORDS = 2
NEAR = 0.7
"""From this share of common pairs of words on, two messages are the same one with small changes."""


def shingles(text: str) -> frozenset[str]:
    """Pairs of neighbouring words without diacritics; of a very short text its words."""
    words = fold(text).plain
    return frozenset(map(" ".join, itertools.pairwise(words))) if len(words) > SHINGLE_WORDS else frozenset(words)


@dataclass(frozen=True, slots=True)
class Twin:
    """Two messages that are nearly the same: positions in the two lists, and the Jaccard similarity."""

    first: int
    second: int
    similarity: float


def near_duplicates(texts: Sequence[str], others: Sequence[str] | None = None, *, near: float = NEAR) -> list[Twin]:
    """Pairs of nearly the same texts, within one list or between two.

    Exact by prefix filtering: two sets as similar as `near` share one of their rarest shingles, so only texts that
    share a rare one are compared.
    """
    own = [shingles(text) for text in texts]
    theirs = own if others is None else [shingles(text) for text in others]
    seen: dict[str, int] = defaultdict(int)
    for one in (*own, *(theirs if others is not None else ())):
        for shingle in one:
            seen[shingle] += 1
    postings: dict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(own):
        for shingle in _prefix(one, seen, near):
            postings[shingle].append(at)
    twins: dict[tuple[int, int], Twin] = {}
    for at, one in enumerate(theirs):
        candidates = {c for shingle in _prefix(one, seen, near) for c in postings.get(shingle, ())}
        for candidate in candidates:
            if others is None and candidate >= at:
                continue
            similarity = _similarity(own[candidate], one)
            if similarity >= near:
                twins[candidate, at] = Twin(candidate, at, round(similarity, 3))
    return [twins[key] for key in sorted(twins)]


def _prefix(one: frozenset[str], seen: Mapping[str, int], near: float) -> list[str]:
    keep = len(one) - -int(-near * len(one) // 1) + 1
    return sorted(one, key=lambda shingle: (seen[shingle], shingle))[: max(keep, 1)]


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 1.0


# ---------------------------------------------------------------------------------------------- personal data

_PHONE = re.compile(r"(?<!\d)(?:\+?84|0)(?:[ .\-]?\d){8,10}(?!\d)")
_ID_NUMBER = re.compile(r"(?<!\d)\d{9}(?:\d{3})?(?!\d)")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_LINK = re.compile(r"https?://\S+|www\.\S+")
INVENTED_PHONE = re.compile(r"0900[ .\-]?000[ .\-]?\d{3}")
"""The one range of numbers that written messages may use; nobody has them."""


def personal_data(text: str) -> Iterator[tuple[str, str]]:
    """What could lead to a person, by pattern: kind and text. Names cannot be found this way; a person looks."""
    for kind, pattern in (("phone", _PHONE), ("id_number", _ID_NUMBER), ("email", _EMAIL), ("link", _LINK)):
        for match in pattern.finditer(text):
            if not INVENTED_PHONE.fullmatch(match.group()):
                yield kind, match.group()


_STAND_INS = {
    "phone": "0900 000 000",
    "id_number": "079000000000",
    "email": "ten@example.vn",
    "link": "https://example.vn",
}


def scrubbed(text: str) -> tuple[str, tuple[str, ...]]:
    """A text with invented numbers, addresses and links in place of real ones, and the kinds that were replaced."""
    kinds: list[str] = []
    for kind, value in list(personal_data(text)):
        text = text.replace(value, _STAND_INS[kind])
        kinds.append(kind)
    return text, tuple(dict.fromkeys(kinds))
