"""What people put around a matter without saying anything of it, for training and for measuring.

A model that has only seen matters alone takes a theft with a thank-you behind it for thanks; by rule 1 that is nothing.
"""

import random
import zlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from services.router.adapters.data_files import load_file
from services.router.domain.understanding import INCIDENTS, Category

ASKS_TO_ACT: frozenset[Category] = INCIDENTS | {"complaint"}
"""Categories beside which "please come and see" is nothing new; beside a greeting it would be a matter."""

PUT_AROUND = 0.6
"""Share of the copies of a message that get something."""

_JOINTS = (" ", " ", ", ", ". ", "\n")


class Phrases(BaseModel):
    """Phrases by where they stand; see `data/understanding/around.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    openings: tuple[str, ...] = ()
    closings: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()


class Around(Phrases):
    """`data/understanding/around.yaml`.

    Attributes:
        english: the same for English texts.
        measured: kept from training.
    """

    english: Phrases = Field(default_factory=Phrases)
    measured: Phrases = Field(default_factory=Phrases)

    def for_training(self, text: str, category: Category, copy: str, *, is_english: bool) -> str:
        """A text with something around it, or as it is; the same each time for the same copy of a text."""
        chance = random.Random(zlib.crc32(f"around {copy}:{text}".encode()))  # noqa: S311 - the same everywhere, no secret
        if chance.random() >= PUT_AROUND:
            return text
        phrases: Phrases = self.english if is_english else self
        tails = [phrases.closings] * 3 + [phrases.places] * 2
        if category in ASKS_TO_ACT:
            tails.append(phrases.requests)
        return _around(text, phrases.openings if chance.random() < 0.4 else (), chance.choice(tails), chance)

    def for_measuring(self, text: str) -> str:
        """A text with hello and thanks, or hello and a place, that the training does not know."""
        chance = random.Random(zlib.crc32(f"around:{text}".encode()))  # noqa: S311 - the same everywhere, no secret
        tails = chance.choice((self.measured.closings, self.measured.places))
        return _around(text, self.measured.openings, tails, chance)


def _around(text: str, openings: tuple[str, ...], closings: tuple[str, ...], chance: random.Random) -> str:
    if openings:
        text = chance.choice(openings) + chance.choice(_JOINTS) + text
    if closings:
        text += chance.choice(_JOINTS) + chance.choice(closings)
    return text


def load_around(data_dir: Path) -> Around:
    """What stands around messages.

    Raises:
        ConfigurationError: the file is missing or wrong; the text says where.
    """
    return load_file(data_dir / "understanding" / "around.yaml", Around)
