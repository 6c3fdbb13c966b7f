"""OAuth v4 of Official Accounts: codes and refresh tokens that work once, access tokens that die when replaced."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from simulator.clock import Clock
from simulator.errors import OAuthRefusal, ZaloRefusal
from simulator.storage import read_document, write_atomically
from simulator.world import Page, World

ACCESS_TOKEN_SECONDS = 90_000  # 25 hours
REFRESH_TOKEN_SECONDS = 90 * 86_400  # three months
CODE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Grant:
    """The token pair that a page holds now."""

    access_token: str
    access_expires_ms: int
    refresh_token: str
    refresh_expires_ms: int


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code on its way from the consent page to the token endpoint."""

    oa_id: str
    expires_ms: int
    challenge: str


def challenge_of(verifier: str) -> str:
    """PKCE: base64url of the SHA-256, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class TokenOffice:
    """Issues and checks tokens; every change is on disk before it is answered."""

    def __init__(self, world: World, clock: Clock, path: Path) -> None:
        self._world = world
        self._clock = clock
        self._path = path
        self._codes: dict[str, Code] = {}
        self._grants: dict[str, Grant] = {}
        self._pages_by_token: dict[str, Page] = {}
        self._used_initial: set[str] = set()
        document = read_document(path)
        self._used_initial.update(document.get("used_initial_tokens", []))
        for oa_id, grant in document.get("grants", {}).items():
            if page := world.pages.get(oa_id):
                self._remember(page, Grant(**grant))

    def exchange(self, form: dict[str, str], secret_key: str) -> tuple[Page, dict[str, Any]]:
        """Answer POST /v4/oa/access_token.

        Raises:
            OAuthRefusal: nothing was issued and nothing was used up.
        """
        app = self._world.apps.get(form.get("app_id", ""))
        if app is None or not secrets.compare_digest(secret_key.encode(), app.config.app_secret.encode()):
            raise OAuthRefusal(-14002)
        match form.get("grant_type"):
            case "refresh_token":
                page = self._page_of_refresh_token(form.get("refresh_token", ""), app.app_id)
            case "authorization_code":
                page = self._page_of_code(form.get("code", ""), form.get("code_verifier", ""), app.app_id)
            case _:
                raise OAuthRefusal(-14014)
        grant = self.issue(page)
        return page, {
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "expires_in": str(ACCESS_TOKEN_SECONDS),
        }

    def issue(self, page: Page) -> Grant:
        """Give a page a new pair; the old access and refresh tokens stop working now."""
        now = self._clock.now_ms()
        grant = Grant(
            access_token=secrets.token_urlsafe(48),
            access_expires_ms=now + ACCESS_TOKEN_SECONDS * 1000,
            refresh_token=secrets.token_urlsafe(48),
            refresh_expires_ms=now + REFRESH_TOKEN_SECONDS * 1000,
        )
        if initial := page.config.initial_refresh_token():
            self._used_initial.add(_fingerprint(initial))
        self._remember(page, grant)
        self._save()
        return grant

    def consent(self, page: Page, redirect_uri: str, challenge: str, state: str) -> str:
        """The address to send the administrator's browser to after consent."""
        code = secrets.token_urlsafe(24)
        self._codes[code] = Code(page.oa_id, self._clock.now_ms() + CODE_SECONDS * 1000, challenge)
        query = {"code": code, "oa_id": page.oa_id} | ({"state": state} if state else {})
        parts = urlsplit(redirect_uri)
        joined = "&".join(part for part in (parts.query, urlencode(query)) if part)
        return urlunsplit(parts._replace(query=joined))

    def page_of(self, access_token: str) -> Page:
        """The page an access token speaks for.

        Raises:
            ZaloRefusal: -216 for a token that is not current, -220 for one that ran out or was revoked.
        """
        page = self._pages_by_token.get(access_token)
        if page is None:
            raise ZaloRefusal(-216)
        if self._grants[page.oa_id].access_expires_ms <= self._clock.now_ms():
            raise ZaloRefusal(-220)
        return page

    def revoke(self, page: Page) -> bool:
        """End the access token of a page as if its time were over; the refresh token goes on working."""
        grant = self._grants.get(page.oa_id)
        if grant is None:
            return False
        self._remember(page, Grant(grant.access_token, 0, grant.refresh_token, grant.refresh_expires_ms))
        self._save()
        return True

    def revoke_refresh_token(self, page: Page) -> None:
        """Let no refresh token of the page work any more, so that a human has to grant access anew."""
        if initial := page.config.initial_refresh_token():
            self._used_initial.add(_fingerprint(initial))
        if grant := self._grants.get(page.oa_id):
            self._remember(page, Grant(grant.access_token, 0, "", 0))
        self._save()

    def forget_all(self) -> None:
        """Back to the first day: configured refresh tokens work again."""
        self._codes.clear()
        self._grants.clear()
        self._pages_by_token.clear()
        self._used_initial.clear()
        self._save()

    def describe(self, page: Page) -> dict[str, Any]:
        """What the control API may show of a page's tokens."""
        grant = self._grants.get(page.oa_id)
        return {
            "granted": grant is not None,
            "access_expires_in_seconds": (grant.access_expires_ms - self._clock.now_ms()) // 1000 if grant else None,
        }

    def _page_of_refresh_token(self, token: str, app_id: str) -> Page:
        now = self._clock.now_ms()
        for page in self._world.pages.values():
            if page.app.app_id != app_id or not token:
                continue
            grant = self._grants.get(page.oa_id)
            if grant is not None and grant.refresh_token == token:
                if grant.refresh_expires_ms <= now:
                    raise OAuthRefusal(-14020)
                return page
            if page.config.initial_refresh_token() == token and _fingerprint(token) not in self._used_initial:
                return page
        raise OAuthRefusal(-14014)

    def _page_of_code(self, code: str, verifier: str, app_id: str) -> Page:
        known = self._codes.get(code)
        if known is None or known.expires_ms <= self._clock.now_ms():
            raise OAuthRefusal(-14010)
        page = self._world.pages[known.oa_id]
        if page.app.app_id != app_id:
            raise OAuthRefusal(-14010)
        if known.challenge and challenge_of(verifier) != known.challenge:
            raise OAuthRefusal(-14010)
        del self._codes[code]
        return page

    def _remember(self, page: Page, grant: Grant) -> None:
        if old := self._grants.get(page.oa_id):
            self._pages_by_token.pop(old.access_token, None)
        self._grants[page.oa_id] = grant
        self._pages_by_token[grant.access_token] = page

    def _save(self) -> None:
        write_atomically(
            self._path,
            {
                "used_initial_tokens": sorted(self._used_initial),
                "grants": {
                    oa_id: {
                        "access_token": grant.access_token,
                        "access_expires_ms": grant.access_expires_ms,
                        "refresh_token": grant.refresh_token,
                        "refresh_expires_ms": grant.refresh_expires_ms,
                    }
                    for oa_id, grant in self._grants.items()
                },
            },
        )


def _fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
