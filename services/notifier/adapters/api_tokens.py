"""Who may call the HTTP API: a secret file that names people and the digests of their tokens, never the tokens."""

import hashlib
import hmac
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from services.notifier.domain.access import Person, Role
from shared.errors import ConfigurationError
from shared.events import Slug

MAX_TOKEN_CHARACTERS = 512


class _PersonRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    person: Slug
    name: str = Field(min_length=1, max_length=128)
    roles: tuple[Role, ...] = Field(min_length=1)
    units: tuple[Slug, ...] = ()
    token_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _TokensFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    people: tuple[_PersonRow, ...] = Field(max_length=1_000)

    @model_validator(mode="after")
    def _one_token_one_person(self) -> Self:
        # With one token for two people the second person could be the first one again.
        for what, values in (
            ("person", [row.person for row in self.people]),
            ("token_sha256", [row.token_sha256 for row in self.people]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"the same {what} is given twice")
        return self


class ApiTokens:
    """Tells a person by their token.

    Args:
        content: of the secret file, as YAML; empty lets nobody in.

    Raises:
        ConfigurationError: it cannot be used; the text shows no digest.
    """

    def __init__(self, content: str) -> None:
        try:
            rows = _TokensFile.model_validate(yaml.safe_load(content) or {"people": ()}).people
        except (yaml.YAMLError, ValidationError) as error:
            # A YAML error quotes the line it stumbled over, so only its kind is told.
            what = str(error) if isinstance(error, ValidationError) else "not YAML"
            raise ConfigurationError(f"API_TOKENS: {what}") from error
        self._people = [
            (bytes.fromhex(row.token_sha256), Person(row.person, row.name, frozenset(row.roles), frozenset(row.units)))
            for row in rows
        ]

    def __len__(self) -> int:
        return len(self._people)

    def person_of(self, token: str) -> Person | None:
        """Whose token this is; every digest is compared, in constant time, whichever one fits."""
        digest = hashlib.sha256(token[:MAX_TOKEN_CHARACTERS].encode("utf-8", "surrogatepass")).digest()
        found = None
        for known, person in self._people:
            if hmac.compare_digest(known, digest):
                found = person
        return found
