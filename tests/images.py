"""Which images production runs, and whether what an engine has under their names is a stand-in.

A machine without a registry makes stand-ins under the production tags (docs/air-gapped.md); a label tells them apart.
"""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LABEL = "binh-yen.stand-in"


@cache
def production_file() -> dict[str, Any]:
    """docker-compose.yml, as data."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


def image_of(service: str) -> str:
    """Name and version of the image that a service runs in production."""
    return str(production_file()["services"][service]["image"])


def stand_in_of(image: str, *, docker: str = "docker") -> str | None:
    """What an image stands on here, by its label; None for the official one, or where the engine has no such image."""
    form = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    asked = subprocess.run([docker, "image", "inspect", "-f", form, image], capture_output=True, text=True, timeout=20)
    return asked.stdout.strip() or None if asked.returncode == 0 else None
