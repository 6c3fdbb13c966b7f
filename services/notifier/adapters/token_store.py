"""Tokens of the pages in MongoDB, encrypted; the lease and the generation make a refresh single-flight.

`generation` counts pairs. A refresh token works once, so for each generation Zalo issues at most one new pair: whoever
holds it may store it, and storing is fenced with the generation alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from services.notifier.domain.outcomes import TokensGranted
from shared.mongo import EPOCH, Binary, Document, Store, insert_new, patiently, server_time_in, store_errors

REFRESH_TOKEN_LIFE = timedelta(days=90)

TokenState = Literal["new", "ok", "refresh_unknown", "refused", "undecryptable"]
BROKEN: tuple[TokenState, ...] = ("refused", "undecryptable", "refresh_unknown")


@dataclass(frozen=True)
class PageToken:
    """The stored state of one page's tokens.

    Attributes:
        access_token: None where the page has none yet, or where it cannot be decrypted.
        refreshed_at: when this pair was stored, by the database's clock; for the first one, when it was seeded.
        may_refresh_at: before it nobody tries again.
        lease_until: of the refresh that is going on, or was.
        is_leased: whether a refresh began and its end is not known.
    """

    oa_id: str
    page: str
    app_id: str
    state: TokenState
    generation: int
    access_token: str | None
    refresh_token: str | None
    expires_at: datetime
    refreshed_at: datetime
    may_refresh_at: datetime
    lease_until: datetime
    is_leased: bool
    is_access_dead: bool
    reason: str | None
    configured_hash: str | None


class TokenStore:
    """The `page_tokens` collection.

    Args:
        store: the database.
        keys: Fernet keys; the first encrypts, all decrypt.
    """

    def __init__(self, store: Store, *, keys: Sequence[str]) -> None:
        self._store = store
        self._tokens = store["page_tokens"]
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    async def seed(self, *, oa_id: str, page: str, app_id: str, refresh_token: str | None) -> None:
        """Create a page's document with its configured refresh token.

        One that is there already is left alone, unless its state is broken and the configuration has another token
        than the one it was seeded with: then a person has linked the page again.
        """
        now = await self._store.server_now()
        document: Document = {
            "_id": oa_id,
            "page": page,
            "app_id": app_id,
            "state": "new" if refresh_token else "refused",
            "reason": None if refresh_token else "token.not_configured",
            "generation": 0,
            "access_token": None,
            "refresh_token": self._encrypt(refresh_token),
            "configured_hash": _digest(refresh_token),
            "expires_at": EPOCH,
            "refreshed_at": now,
            "may_refresh_at": EPOCH,
            "lease_until": EPOCH,
            "lease_owner": None,
            "is_access_dead": False,
        }
        inserted = await patiently(lambda: insert_new(self._tokens, [document]))
        if inserted or refresh_token is None:
            return
        stored = await self.read(oa_id)
        if stored is None or stored.state not in BROKEN or stored.configured_hash == document["configured_hash"]:
            return
        fresh = {name: value for name, value in document.items() if name not in {"_id", "generation"}}
        with store_errors():
            await self._tokens.update_one(
                {"_id": oa_id, "generation": stored.generation, "configured_hash": stored.configured_hash},
                {"$set": {**fresh, "generation": stored.generation + 1}},
            )

    async def read(self, oa_id: str) -> PageToken | None:
        """The state of one page's tokens."""
        with store_errors():
            document = await self._tokens.find_one({"_id": oa_id})
        return None if document is None else self._token(document)

    async def read_all(self) -> list[PageToken]:
        """The state of all pages' tokens."""
        with store_errors():
            documents = await self._tokens.find({}).to_list(None)
        return [self._token(document) for document in documents]

    async def lease(self, token: PageToken, *, owner: str, seconds: float, is_by_hand: bool = False) -> bool:
        """Become the one who refreshes this generation.

        Args:
            token: as it was read.
            owner: unique to this refresh.
            seconds: how long its end may be unknown.
            is_by_hand: a person links the page, whatever its state and pause.

        Returns:
            False if another replica is at it, or has done it already.
        """
        lease_ms = int(seconds * 1_000)
        free: Document = {"_id": token.oa_id, "generation": token.generation, "lease_owner": None}
        if not is_by_hand:
            free |= {"state": token.state, "$expr": _is_past("may_refresh_at")}
        with store_errors():
            answer = await self._tokens.update_one(
                free,
                [{"$set": {"lease_owner": owner, "lease_until": server_time_in(lease_ms)}}],
            )
        return bool(answer.modified_count)

    async def give_back(self, token: PageToken, *, owner: str) -> None:
        """End a lease under which nothing happened: the page is as it was."""
        with store_errors():
            await self._tokens.update_one(
                {"_id": token.oa_id, "generation": token.generation, "lease_owner": owner},
                {"$set": {"lease_owner": None}},
            )

    async def store_pair(self, token: PageToken, granted: TokensGranted) -> bool:
        """Keep a new pair; before anybody uses it.

        Returns:
            False if this generation has its pair already (the call was repeated).
        """
        access, refresh = self._encrypt(granted.access_token), self._encrypt(granted.refresh_token)
        with store_errors():
            answer = await self._tokens.update_one(
                {"_id": token.oa_id, "generation": token.generation},
                [
                    {
                        "$set": {
                            "state": "ok",
                            "reason": None,
                            "generation": token.generation + 1,
                            "access_token": access,
                            "refresh_token": refresh,
                            "expires_at": server_time_in(granted.expires_in_seconds * 1_000),
                            "refreshed_at": "$$NOW",
                            "may_refresh_at": EPOCH,
                            "lease_owner": None,
                            "is_access_dead": False,
                        }
                    }
                ],
            )
        return bool(answer.modified_count)

    async def end_refresh(
        self, token: PageToken, *, owner: str, state: TokenState, reason: str | None, pause_seconds: float
    ) -> None:
        """Note how a refresh ended that brought no pair; fenced with generation and owner."""
        pause_ms = int(pause_seconds * 1_000)
        with store_errors():
            await self._tokens.update_one(
                {"_id": token.oa_id, "generation": token.generation, "lease_owner": owner},
                [
                    {
                        "$set": {
                            "state": state,
                            "reason": reason,
                            "lease_owner": None,
                            "may_refresh_at": server_time_in(pause_ms),
                        }
                    }
                ],
            )

    async def expire_lease(self, oa_id: str, *, pause_seconds: float) -> bool:
        """Turn a refresh whose replica never told its end into `refresh_unknown`.

        Returns:
            Whether there was one.
        """
        pause_ms = int(pause_seconds * 1_000)
        with store_errors():
            answer = await self._tokens.update_one(
                {"_id": oa_id, "lease_owner": {"$type": "string"}, "$expr": _is_past("lease_until")},
                [
                    {
                        "$set": {
                            "state": "refresh_unknown",
                            "reason": "token.refresh_interrupted",
                            "lease_owner": None,
                            "may_refresh_at": server_time_in(pause_ms),
                        }
                    }
                ],
            )
        return bool(answer.modified_count)

    async def access_proven(self, oa_id: str, generation: int, *, is_alive: bool) -> None:
        """Note what a call proved of an access token whose refresh ended unknown, or which was refused."""
        proven = {"state": "ok", "reason": None} if is_alive else {"is_access_dead": True}
        filter_: Document = {"_id": oa_id, "generation": generation}
        if is_alive:
            filter_["state"] = "refresh_unknown"
            filter_["lease_owner"] = None
        with store_errors():
            await self._tokens.update_one(filter_, {"$set": proven})

    def _encrypt(self, value: str | None) -> Binary | None:
        return None if value is None else Binary(self._fernet.encrypt(value.encode()))

    def _decrypt(self, value: bytes | None) -> str | None:
        if value is None:
            return None
        try:
            return self._fernet.decrypt(bytes(value)).decode()
        except InvalidToken:
            return None

    def _token(self, document: Document) -> PageToken:
        refresh_token = self._decrypt(document["refresh_token"])
        is_lost = document["refresh_token"] is not None and refresh_token is None
        return PageToken(
            oa_id=document["_id"],
            page=document["page"],
            app_id=document["app_id"],
            state="undecryptable" if is_lost else document["state"],
            generation=document["generation"],
            access_token=self._decrypt(document["access_token"]),
            refresh_token=refresh_token,
            expires_at=document["expires_at"],
            refreshed_at=document["refreshed_at"],
            may_refresh_at=document["may_refresh_at"],
            lease_until=document["lease_until"],
            is_leased=document["lease_owner"] is not None,
            is_access_dead=document["is_access_dead"],
            reason="token.undecryptable" if is_lost else document["reason"],
            configured_hash=document["configured_hash"],
        )


def _is_past(name: str) -> Document:
    """Whether a stored moment is over by the database's clock; as numbers, which every server compares alike."""
    return {"$lte": [{"$toLong": f"${name}"}, {"$toLong": "$$NOW"}]}


def _digest(refresh_token: str | None) -> str | None:
    """Tells one configured token from another without keeping it; it has entropy enough for a plain hash."""
    return None if refresh_token is None else hashlib.sha256(refresh_token.encode()).hexdigest()
