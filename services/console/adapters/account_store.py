"""Accounts in MongoDB, and their passwords (argon2id, RFC 9106's second recommended setting)."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from services.console.domain import Officer, Role
from shared.mongo import Document, Store, patiently, store_errors

MAX_HASHES_AT_ONCE = 2
"""Each takes 64 MiB and some 50 ms; more side by side would only make an old server swap."""


class Passwords:
    """Makes and checks password hashes off the event loop, a few at a time."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = asyncio.Semaphore(MAX_HASHES_AT_ONCE)
        self._nobody = self._hasher.hash("an account that does not exist")

    async def make(self, password: str) -> str:
        """Hash a new password."""
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def fits(self, password_hash: str | None, password: str) -> bool:
        """Check a password; without a hash the answer is no after the same time, so that names cannot be guessed."""
        async with self._turns:
            fits = await asyncio.to_thread(self._verify, password_hash or self._nobody, password)
        return fits and password_hash is not None

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


class AccountStore:
    """The `accounts` collection."""

    def __init__(self, store: Store) -> None:
        self._accounts = store["accounts"]

    async def find(self, account: str) -> Document | None:
        """An account that may sign in.

        Raises:
            StoreUnavailable: try again.
        """
        with store_errors():
            return await self._accounts.find_one({"_id": account, "is_active": True})

    async def save(self, officer: Officer, *, password_hash: str, is_demo: bool = False) -> None:
        """Make an account or replace it.

        Raises:
            StoreUnavailable: not saved; saving again is safe.
        """
        values: dict[str, Any] = {
            "name": officer.name,
            "unit": officer.unit,
            "role": officer.role,
            "password_hash": password_hash,
            "is_active": True,
            "is_demo": is_demo,
            "password_changed_at": datetime.now(UTC),
        }
        await patiently(
            lambda: self._accounts.update_one(
                {"_id": officer.account},
                {"$set": values, "$setOnInsert": {"created_at": datetime.now(UTC)}},
                upsert=True,
            )
        )

    async def set_password(self, account: str, password_hash: str) -> None:
        """Change the password of an account."""
        values = {
            "password_hash": password_hash,
            "password_changed_at": datetime.now(UTC),
        }
        await patiently(lambda: self._accounts.update_one({"_id": account}, {"$set": values}))

    async def disable(self, account: str) -> bool:
        """Close an account; it stays for the history.

        Returns:
            Whether there was one.
        """
        done = await patiently(lambda: self._accounts.update_one({"_id": account}, {"$set": {"is_active": False}}))
        return bool(done.matched_count)

    async def all(self) -> list[Document]:
        """Every account, without its hash."""
        with store_errors():
            return await self._accounts.find({}, {"password_hash": 0}).sort([("unit", 1), ("_id", 1)]).to_list(None)


def officer_of(document: Document) -> Officer:
    """Who an account is."""
    return Officer(
        account=document["_id"], name=document["name"], unit=document["unit"], role=cast("Role", document["role"])
    )
