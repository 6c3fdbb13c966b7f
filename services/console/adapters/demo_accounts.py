"""Accounts of the demo profile: one for each unit and one for each other role, with one generated password."""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from services.console.adapters.account_store import AccountStore, Passwords
from services.console.domain import Officer
from shared.errors import ConfigurationError
from shared.telemetry import get_logger

log = get_logger()

FILE_NAME = "demo-accounts.json"
LEAD_ACCOUNT, DUTY_ACCOUNT, COMMANDER_ACCOUNT = "lanh-dao", "truc-ban", "chi-huy"
SHOWN_UNIT = "tan-chanh-hiep"
"""The unit that `make up` and the README show; its duty officer and its commander have accounts of their own."""
PASSWORD_BYTES = 12


def demo_officers(units: Sequence[tuple[str, str]], *, lead_unit: str) -> list[Officer]:
    """Who may sign in to a demonstration.

    Args:
        units: slug and name of each unit; the slug is the account's name.
        lead_unit: the district lead's own unit.
    """
    officers = [Officer(slug, f"Cán bộ {name}", slug, "officer") for slug, name in units]
    for slug, name in units:
        if slug == SHOWN_UNIT:
            officers.append(Officer(DUTY_ACCOUNT, f"Trực ban {name}", slug, "duty"))
            officers.append(Officer(COMMANDER_ACCOUNT, f"Chỉ huy {name}", slug, "commander"))
    return [*officers, Officer(LEAD_ACCOUNT, "Lãnh đạo phụ trách", lead_unit, "lead")]


def demo_password(home: Path, given: str | None) -> str:
    """The password of the demo accounts: the given one, the one of the last run, or a new one.

    Returns:
        The password, also written to `demo-accounts.json` for its owner only.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    file = home / FILE_NAME
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if given is None:
            new = json.dumps({"password": secrets.token_urlsafe(PASSWORD_BYTES)}).encode()
            try:  # two replicas may start at once: who comes first decides
                handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            except FileExistsError:
                pass
            else:
                with os.fdopen(handle, "wb") as opened:
                    opened.write(new)
            return str(json.loads(file.read_text("utf-8"))["password"])
        handle = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            json.dump({"password": given}, opened)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{file} cannot be used: {error}; delete it to make a new password") from error
    return given


async def seed_demo_accounts(
    accounts: AccountStore, passwords: Passwords, officers: Sequence[Officer], *, password: str
) -> int:
    """Make the demo accounts that are missing or have another password.

    Returns:
        How many were written.

    Raises:
        StoreUnavailable: run it again.
    """
    known = {account["_id"]: account for account in await accounts.all()}
    written = 0
    first = await accounts.find(officers[-1].account)
    is_current = first is not None and await passwords.fits(first["password_hash"], password)
    for officer in officers:
        account = known.get(officer.account)
        if account is not None and not account.get("is_demo"):
            continue  # a person's own account of the same name stays what it is
        if account is not None and account["is_active"] and is_current and account["unit"] == officer.unit:
            continue
        await accounts.save(officer, password_hash=await passwords.make(password), is_demo=True)
        written += 1
    log.info("demo.accounts", accounts=len(officers), written=written)
    return written
