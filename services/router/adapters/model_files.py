"""The trained model as files: `data/models/<hash>/` holds one model, `data/models/current` names the one in use.

The name is the hash of the content, so a file that was changed by hand does not load.
"""

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from services.router.domain.feature_table import Rows
from services.router.domain.text_model import KeptLayers, Layers, ModelCard, TextModel
from shared.errors import ConfigurationError

FORMAT = 3
_NAME = re.compile(r"^[0-9a-f]{12}$")
_FILES = ("model.json", "features.txt", "rows.i8", "scale.f32", "bias.f32", "out.f32")


def models_dir(data_dir: Path) -> Path:
    """Where the models lie."""
    return data_dir / "models"


def current_model(data_dir: Path) -> str:
    """Name of the model in use.

    Raises:
        ConfigurationError: the pointer is missing or names nothing.
    """
    pointer = models_dir(data_dir) / "current"
    try:
        name = pointer.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{pointer}: {error}; `hub model train` and `hub model promote` make it") from error
    if not _NAME.match(name):
        raise ConfigurationError(f"{pointer} holds {name!r}, which is no name of a model")
    return name


def point_to(data_dir: Path, name: str) -> None:
    """Make a model the one in use; a router reads the pointer when it starts."""
    pointer = models_dir(data_dir) / "current"
    if pointer.exists() and (before := pointer.read_text("ascii").strip()) != name:
        (models_dir(data_dir) / "previous").write_text(f"{before}\n", "ascii")
    fresh = pointer.with_suffix(".new")
    fresh.write_text(f"{name}\n", "ascii")
    fresh.replace(pointer)


def previous_model(data_dir: Path) -> str:
    """Name of the model that was in use before the current one.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return (models_dir(data_dir) / "previous").read_text("ascii").strip()
    except OSError as error:
        raise ConfigurationError("no model was in use before this one") from error


def known_models(data_dir: Path) -> list[str]:
    """Names of all models, by name."""
    folder = models_dir(data_dir)
    return sorted(entry.name for entry in folder.iterdir() if _NAME.match(entry.name)) if folder.is_dir() else []


def load_model(data_dir: Path, name: str | None = None) -> TextModel:
    """Load a model.

    Args:
        data_dir: the data folder.
        name: which one; the current one if not given.

    Raises:
        ConfigurationError: it is missing, damaged, or of another format.
    """
    name = name or current_model(data_dir)
    folder = models_dir(data_dir) / name
    try:
        content = {file: (folder / file).read_bytes() for file in _FILES}
    except OSError as error:
        raise ConfigurationError(f"model {name}: {error}") from error
    if (found := name_of(content)) != name:
        raise ConfigurationError(f"model {name} was changed: its content is {found}. Train it again or restore it")
    try:
        card = ModelCard.model_validate_json(content["model.json"])
    except ValidationError as error:
        raise ConfigurationError(f"model {name}: {error}") from error
    if card.format != FORMAT:
        raise ConfigurationError(f"model {name} has format {card.format}; this router reads {FORMAT}: train it again")
    features = content["features.txt"].decode("utf-8").split("\n")
    rows = np.frombuffer(content["rows.i8"], dtype=np.int8).reshape(len(features), -1)
    scale = np.frombuffer(content["scale.f32"], dtype="<f4")
    bias = np.frombuffer(content["bias.f32"], dtype="<f4")
    out = np.frombuffer(content["out.f32"], dtype="<f4").reshape(len(bias), -1)
    return TextModel(card, features, KeptLayers(Rows(rows, scale), bias, out))


def model_content(card: ModelCard, features: list[str], layers: Layers) -> dict[str, bytes]:
    """The files of a model."""
    kept = layers.kept()
    return {
        "model.json": (json.dumps(card.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode(),
        "features.txt": "\n".join(features).encode("utf-8"),
        "rows.i8": kept.rows.steps.tobytes(),
        "scale.f32": kept.rows.scale.astype("<f4").tobytes(),
        "bias.f32": kept.bias.astype("<f4").tobytes(),
        "out.f32": kept.out.astype("<f4").tobytes(),
    }


def save_model(data_dir: Path, content: dict[str, bytes]) -> str:
    """Write a model under the name of its content; the same content is written once.

    Returns:
        Its name.
    """
    name = name_of(content)
    folder = models_dir(data_dir) / name
    if not folder.exists():
        partial = folder.with_name(f"{name}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        for file, data in content.items():
            (partial / file).write_bytes(data)
        partial.rename(folder)
    return name


def name_of(content: dict[str, bytes]) -> str:
    """The first letters of the hash over all files."""
    whole = hashlib.sha256()
    for file in _FILES:
        whole.update(f"{file} {len(content[file])}\n".encode())
        whole.update(content[file])
    return whole.hexdigest()[:12]
