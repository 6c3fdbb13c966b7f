"""Reads what changes without a release: the window rules and the quick replies."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.console.domain import CATEGORIES, MAX_REPLY_CHARACTERS, WindowRule
from shared.errors import ConfigurationError

M = TypeVar("M", bound=BaseModel)
QUICK_REPLIES_FILE = Path(__file__).parent.parent / "data" / "quick_replies.yaml"


Text = Annotated[str, Field(min_length=1, max_length=MAX_REPLY_CHARACTERS)]


class _InBoth(BaseModel):
    model_config = ConfigDict(extra="forbid")

    vi: Text
    en: Text


class _QuickReplyRow(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str
    categories: tuple[str, ...] = Field(default=(), alias="for")
    title: _InBoth
    text: _InBoth


class _QuickRepliesFile(BaseModel):
    quick_replies: tuple[_QuickReplyRow, ...]


class _WindowRow(BaseModel):
    valid_from: date
    free_hours: float
    allowed_hours: float


class _WindowsFile(BaseModel):
    consultation: tuple[_WindowRow, ...] = Field(min_length=1)


@dataclass(frozen=True)
class QuickReply:
    """A text an officer starts from.

    Attributes:
        titles: by the officer's language.
        texts: by the citizen's language.
    """

    key: str
    categories: tuple[str, ...]
    titles: dict[str, str]
    texts: dict[str, str]


def load_windows(data_dir: Path) -> tuple[WindowRule, ...]:
    """The consultation windows of all times, the same file that the notifier decides by.

    Raises:
        ConfigurationError: the file is missing or wrong.
    """
    rows = _read(data_dir / "delivery" / "windows.yaml", _WindowsFile).consultation
    return tuple(
        WindowRule(row.valid_from, timedelta(hours=row.free_hours), timedelta(hours=row.allowed_hours)) for row in rows
    )


def load_quick_replies(file: Path = QUICK_REPLIES_FILE) -> tuple[QuickReply, ...]:
    """The quick replies in their order.

    Raises:
        ConfigurationError: the file is missing or wrong.
    """
    replies = tuple(
        QuickReply(row.key, row.categories, row.title.model_dump(), row.text.model_dump())
        for row in _read(file, _QuickRepliesFile).quick_replies
    )
    if strange := sorted({name for reply in replies for name in reply.categories} - set(CATEGORIES)):
        raise ConfigurationError(f"{file} names categories that do not exist: {', '.join(strange)}")
    return replies


def quick_replies_for(category: str, replies: tuple[QuickReply, ...]) -> list[QuickReply]:
    """Those that fit the category first, then those that fit everywhere."""
    return [r for r in replies if category in r.categories] + [r for r in replies if not r.categories]


def _read(file: Path, model: type[M]) -> M:
    try:
        return model.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{file}: {error}") from error
