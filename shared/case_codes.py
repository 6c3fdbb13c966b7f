"""Case codes as people quote, shorten and type them. Their first part is data: `data/service_levels.yaml`."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, Field, ValidationError

from shared.errors import ConfigurationError

CodePrefix = Annotated[str, Field(pattern=r"^[A-Z0-9]{1,8}$")]
MIN_TYPED_CHARACTERS = 3
MAX_TYPED_CHARACTERS = 32
_CODE = re.compile(r"^[A-Z0-9]{1,8}-\d{6}-\d{4,}$")
_WITHOUT_FIRST_PART = re.compile(r"^\d{6}(-\d*)?$")
_RUNNING_NUMBER = re.compile(r"^\d{1,4}$")


class _PrefixRow(BaseModel):
    case_code_prefix: CodePrefix


@dataclass(frozen=True)
class CodeSearch:
    """Which cases somebody means.

    Attributes:
        codes: whole codes, the one most probably meant first; the first that is there is meant.
        prefix: how the codes begin, where no whole code was typed.
    """

    codes: tuple[str, ...] = ()
    prefix: str = ""


def case_code(prefix: str, day: date, number: int) -> str:
    """The code people quote, such as Q12-261124-0042.

    Args:
        prefix: the first part.
        day: local date on which the case was opened.
        number: of the case within its day, from 1.
    """
    return f"{prefix}-{day:%y%m%d}-{number:04d}"


def code_search(typed: str, *, today: date, prefix: str) -> CodeSearch | None:
    """Read what was typed to find a case; nothing to search for is None.

    A bare number of up to four digits is today's case of that number, since that is how it is said on the phone; where
    there is none, yesterday's, for whoever is on duty at midnight. The first part may be left out.

    Args:
        typed: as it came.
        today: local date.
        prefix: first part of the codes.
    """
    text = re.sub(r"[^A-Z0-9\-]", "", unicodedata.normalize("NFKC", typed).upper().replace("–", "-"))
    if _RUNNING_NUMBER.match(text):
        return CodeSearch(tuple(case_code(prefix, today - timedelta(days=ago), int(text)) for ago in (0, 1)))
    if len(text) < MIN_TYPED_CHARACTERS:
        return None
    if _WITHOUT_FIRST_PART.match(text):
        text = f"{prefix}-{text}"
    return CodeSearch((text,)) if _CODE.match(text) else CodeSearch(prefix=text[:MAX_TYPED_CHARACTERS])


def load_case_code_prefix(data_dir: Path) -> str:
    """The first part of every code.

    Raises:
        ConfigurationError: `service_levels.yaml` is missing or wrong.
    """
    file = data_dir / "service_levels.yaml"
    try:
        return _PrefixRow.model_validate(yaml.safe_load(file.read_text("utf-8"))).case_code_prefix
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{file}: {error}") from error
