"""The data files of the router, read and checked at start-up: a wrong file stops the start and says where."""

from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, RootModel, ValidationError

from services.router.adapters.model_files import load_model
from services.router.domain.answers import AnswerBook, EmergencyNumber, Procedure, Templates
from services.router.domain.assignment import NewWard, UnitResolver
from services.router.domain.choices import ChoiceBook, Choices
from services.router.domain.deadlines import ServiceLevels
from services.router.domain.gazetteer import Gazetteer
from services.router.domain.layers import LayeredUnderstanding, Policy
from services.router.domain.lexicon import Lexicon
from services.router.domain.places import PlaceFinder
from services.router.domain.territories import Map, Territories
from services.router.domain.text import WritingBook
from services.router.domain.understanding import RuleBook, RuleUnderstanding
from shared.directory import Directory
from shared.errors import ConfigurationError

M = TypeVar("M", bound=BaseModel)

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there


class _NewWardLine(BaseModel):
    name: str
    code: str
    clause: int
    named_like: str
    old_wards: tuple[str, ...]


class _NewWards(BaseModel):
    works_from: date
    new_wards: tuple[_NewWardLine, ...]


class _Procedures(BaseModel):
    procedures: tuple[Procedure, ...]


class _Numbers(BaseModel):
    numbers: dict[str, EmergencyNumber]


def load_file(file: Path, model: type[M]) -> M:
    """What stands in a YAML file, checked.

    Raises:
        ConfigurationError: it is missing or wrong; the text says where.
    """
    try:
        content: Any = yaml.load(file.read_text("utf-8"), _YAML)  # noqa: S506 - both are safe loaders
        return model.model_validate(content)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{file}: {error}") from error


def load_rules(data_dir: Path) -> RuleUnderstanding:
    """The rule set.

    Raises:
        ConfigurationError: `rules/understanding.yaml`, `rules/writing.yaml` or the lexicon is missing or wrong.
    """
    file = data_dir / "rules" / "understanding.yaml"
    book = load_file(file, RuleBook)
    writing = load_file(data_dir / "rules" / "writing.yaml", WritingBook)
    lexicon = load_lexicon(data_dir)
    try:
        return RuleUnderstanding(book, writing, lexicon)
    except ValueError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def concept_files(data_dir: Path) -> list[Path]:
    """The files of the lexicon, in the order in which they are read."""
    return sorted((data_dir / "understanding" / "concepts").glob("*.yaml"))


class _Concepts(RootModel[dict[str, str]]):
    """A file of the lexicon: concept to phrases, parted by commas."""


def load_lexicon(data_dir: Path) -> Lexicon:
    """The concepts that the model weighs.

    Raises:
        ConfigurationError: there are none, a file is wrong, or two name the same concept.
    """
    concepts: dict[str, list[str]] = {}
    for file in concept_files(data_dir):
        for name, phrases in load_file(file, _Concepts).root.items():
            if name in concepts:
                raise ConfigurationError(f"{file}: the concept {name} is in another file too")
            concepts[name] = [phrase.strip() for phrase in phrases.split(",") if phrase.strip()]
    if not concepts:
        raise ConfigurationError(f"{data_dir / 'understanding' / 'concepts'} holds no concepts (*.yaml)")
    try:
        return Lexicon(concepts)
    except ValueError as error:
        raise ConfigurationError(f"{data_dir / 'understanding' / 'concepts'}: {error}") from error


def load_gazetteer(data_dir: Path) -> Gazetteer:
    """Names of wards, streets, landmarks and places elsewhere.

    Raises:
        ConfigurationError: a file of `gazetteer/` is missing or wrong.
    """
    folder = data_dir / "gazetteer"
    content: dict[str, Any] = {}
    for name in ("wards.yaml", "places.yaml", "outside.yaml"):
        try:
            content |= yaml.load((folder / name).read_text("utf-8"), _YAML)  # noqa: S506 - both are safe loaders
        except (OSError, yaml.YAMLError, TypeError) as error:
            raise ConfigurationError(f"{folder / name}: {error}") from error
    try:
        return Gazetteer.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{folder}: {error}") from error


def load_understanding(data_dir: Path, model: str | None = None) -> LayeredUnderstanding:
    """Rules, model and policy as the router uses them.

    Args:
        data_dir: the data folder.
        model: name of a model; the current one if not given.

    Raises:
        ConfigurationError: a file is missing or wrong.
    """
    policy = load_file(data_dir / "rules" / "decision.yaml", Policy)
    return LayeredUnderstanding(load_rules(data_dir), load_model(data_dir, model), policy)


def load_unit_resolver(data_dir: Path, directory: Directory) -> UnitResolver:
    """The unit rules over gazetteer and directory.

    Raises:
        ConfigurationError: a file is missing or wrong, or the gazetteer names a ward that does not exist.
    """
    gazetteer = load_gazetteer(data_dir)
    territories = load_file(data_dir / "gazetteer" / "territories.yaml", Territories)
    merger = load_file(data_dir / "directory" / "new_wards.yaml", _NewWards)
    slugs = {unit.slug for unit in directory.units}
    named = {*gazetteer.wards, *(ward for place in gazetteer.places for ward in place.wards), *territories.old_wards}
    named |= {ward for new in merger.new_wards for ward in new.old_wards}
    if strangers := sorted(named - slugs):
        raise ConfigurationError(f"gazetteer/ or new_wards.yaml name wards that do not exist: {strangers}")
    return UnitResolver(
        PlaceFinder(gazetteer),
        successors=directory.successors(),
        new_wards=[NewWard(new.named_like, new.old_wards, merger.works_from) for new in merger.new_wards],
        territory=Map(territories, {new.named_like: new.old_wards for new in merger.new_wards}),
    )


def load_service_levels(data_dir: Path) -> ServiceLevels:
    """Priorities, deadlines and windows.

    Raises:
        ConfigurationError: `service_levels.yaml` is missing or wrong.
    """
    return load_file(data_dir / "service_levels.yaml", ServiceLevels)


def load_choices(data_dir: Path, directory: Directory) -> Choices:
    """What citizens choose about broadcasts, and how they say it.

    Raises:
        ConfigurationError: `broadcasts/choices.yaml` or `rules/writing.yaml` is missing or wrong.
    """
    book = load_file(data_dir / "broadcasts" / "choices.yaml", ChoiceBook)
    writing = load_file(data_dir / "rules" / "writing.yaml", WritingBook)
    return Choices(book, writing, directory.units)


def load_answers(data_dir: Path, *, allows_unapproved: bool) -> AnswerBook:
    """Templates, procedures and numbers.

    Raises:
        ConfigurationError: a file is missing or wrong, or a text names something that does not exist.
    """
    templates = load_file(data_dir / "templates.yaml", Templates)
    procedures = load_file(data_dir / "procedures.yaml", _Procedures).procedures
    numbers = load_file(data_dir / "emergency_numbers.yaml", _Numbers).numbers
    try:
        return AnswerBook(templates, procedures, numbers, allows_unapproved=allows_unapproved)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigurationError(f"templates.yaml: a text names {error}, which does not exist") from error
