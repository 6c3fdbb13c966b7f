"""Which Zalo the hub talks to: a generated configuration for the simulator, or the person's own."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml

from shared.api_people import DEMO_PEOPLE, new_person
from shared.directory import load_directory
from shared.errors import ConfigurationError
from shared.zalo_config import load_zalo_config
from stack.errors import StackError
from stack.supervision import write_private

TIME_ZONE = timezone(timedelta(hours=7))
DEMO_APP_ID = "1000000000000000001"
FIRST_OA_ID = 4_000_000_000_000_000_001
"""Invented, with the 19 digits of real ones."""


def write_demo_config(file: Path, simulator_url: str, data_dir: Path) -> None:
    """Write the configuration that hub and simulator share.

    Addresses follow the run and pages follow the directory of units as of today; secrets and ids are made once and
    kept, so that the simulator and the hub's stored tokens still fit together after a restart.
    """
    config: dict[str, Any] = (
        yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {"apps": [_new_app()], "pages": []}
    )
    known: dict[str, dict[str, str]] = {page["page"]: page for page in config["pages"]}
    highest = max((int(page["oa_id"]) for page in known.values()), default=FIRST_OA_ID - 1)
    pages = []
    for slug, name in _pages_of_today(data_dir).items():
        if slug not in known:
            highest += 1
        pages.append((known.get(slug) or _new_page(slug, highest)) | {"name": name})
    addresses = ("oa_api_url", "oauth_url", "upload_url", "business_url")
    config |= {**dict.fromkeys(addresses, simulator_url), "pages": pages}
    write_private(file, yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


def _pages_of_today(data_dir: Path) -> dict[str, str]:
    """Every page with the name citizens see: that of the unit which owns it."""
    try:
        view = load_directory(data_dir).as_of(datetime.now(TIME_ZONE).date())
    except ConfigurationError as error:
        raise StackError(
            "directory_invalid", f"The directory of units cannot be used: {error}.", "Correct it, or DATA_DIR."
        ) from error
    return {page: view.units[unit].name for page, unit in view.unit_by_page.items() if unit in view.units}


def _new_app() -> dict[str, str | list[str]]:
    return {
        "app_id": DEMO_APP_ID,
        "app_secret": secrets.token_urlsafe(24),
        "oa_secret_keys": [secrets.token_urlsafe(24)],
    }


def _new_page(slug: str, oa_id: int) -> dict[str, str]:
    return {
        "page": slug,
        "oa_id": str(oa_id),
        "app_id": DEMO_APP_ID,
        "name": "",
        "refresh_token": secrets.token_urlsafe(48),
    }


def write_demo_people(home: Path) -> Path:
    """Make the tokens of two persons, once: one who writes broadcasts and one who approves them.

    Returns:
        The file with their digests, for the notifier. The tokens are in `people/`, for `hub --as`.
    """
    file = home / "api-tokens.yaml"
    if not file.exists():
        (home / "people").mkdir(mode=0o700, exist_ok=True)
        rows = []
        for person, (name, roles) in DEMO_PEOPLE.items():
            token, row = new_person(person, roles, name=name)
            write_private(home / "people" / f"{person}.token", token)
            rows.append(row)
        write_private(file, yaml.safe_dump({"people": rows}, allow_unicode=True, sort_keys=False))
    return file


def check_own_config(file: Path | None, environment: Mapping[str, str]) -> None:
    """Check what `SIMULATOR=off` needs before anything is started.

    Raises:
        StackError: something is missing or wrong; the text names it and shows no secret.
    """
    missing = [name for name in ("ZALO_APPS", "ZALO_PAGES") if not environment.get(name)]
    if file is None and missing:
        raise StackError(
            "zalo_settings_missing",
            f"SIMULATOR=off needs to know Zalo's apps and pages, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set, nor is ZALO_CONFIG_FILE.",
            "Write a file like config/zalo.example.yaml and run: make up SIMULATOR=off ZALO_CONFIG_FILE=…",
        )
    try:
        load_zalo_config(file)
    except ConfigurationError as error:
        raise StackError("zalo_settings_invalid", str(error), "Correct it and run `make up` again.") from error
