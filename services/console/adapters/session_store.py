"""Sessions on the server: a token is worth nothing once its document is gone. Only the token's hash is stored."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Literal

from services.console.adapters.account_store import officer_of
from services.console.domain import Officer, Session, session_is_over
from shared.mongo import Document, Store, patiently, store_errors

TOKEN_BYTES = 32
TOUCH_SECONDS = 60
"""A use is written down at most so often: a page load must not cost a write."""


def token_digest(token: str) -> str:
    """The id under which a token's session is stored."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class SessionStore:
    """The `sessions` collection, and the accounts behind it."""

    def __init__(self, store: Store, *, idle_seconds: int, session_seconds: int) -> None:
        self._sessions = store["sessions"]
        self._accounts = store["accounts"]
        self._idle_seconds = idle_seconds
        self._lifetime = timedelta(seconds=session_seconds)

    async def open(
        self, officer: Officer, *, kind: Literal["browser", "api"], address: str, user_agent: str
    ) -> tuple[str, Session]:
        """Start a session.

        Returns:
            The token, known to nobody else, and the session.

        Raises:
            StoreUnavailable: nobody is signed in.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = datetime.now(UTC)
        document: Document = {
            "_id": token_digest(token),
            "kind": kind,
            "account": officer.account,
            "csrf": secrets.token_urlsafe(TOKEN_BYTES),
            "created_at": now,
            "last_seen_at": now,
            "expires_at": now + self._lifetime,
            "address": address[:64],
            "user_agent": user_agent[:200],
        }
        with store_errors():
            await self._sessions.insert_one(document)
        return token, _session(document, officer)

    async def find(self, token: str, *, is_use: bool) -> Session | None:
        """The session of a token, if it is still good and its account too; role and unit are the account's of now.

        Args:
            token: as the cookie or the header has it.
            is_use: whether a person did something; what a page fetches by itself keeps nobody signed in.

        Raises:
            StoreUnavailable: cannot tell.
        """
        with store_errors():
            document = await self._sessions.find_one({"_id": token_digest(token)})
            if document is None:
                return None
            account = await self._accounts.find_one({"_id": document["account"], "is_active": True})
        if account is None:
            return None
        session = _session(document, officer_of(account))
        now = datetime.now(UTC)
        if session_is_over(session, now=now, idle_seconds=self._idle_seconds):
            await self.close(session.session_id)
            return None
        if is_use and (now - session.last_seen_at).total_seconds() >= TOUCH_SECONDS:
            await patiently(
                lambda: self._sessions.update_one({"_id": session.session_id}, {"$set": {"last_seen_at": now}})
            )
        return session

    async def close(self, session_id: str, *, account: str | None = None) -> bool:
        """End one session.

        Args:
            session_id: which.
            account: whose it must be, where a person names it.

        Returns:
            Whether there was one.
        """
        wanted = {"_id": session_id} | ({"account": account} if account is not None else {})
        done = await patiently(lambda: self._sessions.delete_one(wanted))
        return bool(done.deleted_count)

    async def close_all(self, account: str, *, except_id: str | None = None) -> int:
        """End every session of an account, at once and everywhere.

        Returns:
            How many.
        """
        wanted: Document = {"account": account} | ({"_id": {"$ne": except_id}} if except_id is not None else {})
        done = await patiently(lambda: self._sessions.delete_many(wanted))
        return int(done.deleted_count)

    async def of_account(self, officer: Officer) -> list[Session]:
        """Where an officer is signed in, newest first."""
        with store_errors():
            found = await self._sessions.find({"account": officer.account}).sort([("created_at", -1)]).to_list(100)
        now = datetime.now(UTC)
        sessions = [_session(document, officer) for document in found]
        return [s for s in sessions if not session_is_over(s, now=now, idle_seconds=self._idle_seconds)]


def _session(document: Document, officer: Officer) -> Session:
    return Session(
        session_id=document["_id"],
        kind=document["kind"],
        officer=officer,
        csrf=document["csrf"],
        created_at=document["created_at"],
        last_seen_at=document["last_seen_at"],
        expires_at=document["expires_at"],
        address=document["address"],
        user_agent=document["user_agent"],
    )
