"""Zalo's webhook signature: SHA-256 over app id, raw body, time stamp and the OA secret key, joined end to end.

It is not an HMAC. Two sources of the time stamp are in use, the `X-ZEvent-Timestamp` header and the body's own
`timestamp`, and while a key is being rotated two keys are valid: every combination is tried.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.zalo_config import ZaloConfig

_SIGNATURE = re.compile(rb"\s*(?:mac\s*=)?\s*([0-9a-f]{64})\s*", re.IGNORECASE)
_TIMESTAMP_HEADER = re.compile(rb"\s*([0-9]{1,20})\s*")
_TIMESTAMP_IN_BODY = re.compile(rb'"timestamp"\s{0,16}:\s{0,16}"?([0-9]{1,20})')
_ID_IN_BODY = re.compile(rb'"(?:oa_)?id"\s{0,16}:\s{0,16}"([A-Za-z0-9_.\-]{1,128})"')

SCANNED_BYTES = 4_096
"""How far from each end of the body its own time stamp and ids are looked for before anything is parsed."""

MAX_CANDIDATES = 6


@dataclass(frozen=True)
class Verified:
    """The body is from Zalo.

    Attributes:
        app_id: whose key signed it.
        timestamp: the signed time stamp, milliseconds as digits.
    """

    app_id: str
    timestamp: str
    timestamp_source: Literal["header", "body"]


@dataclass(frozen=True)
class NotVerified:
    """The body may be from anybody."""

    code: str


class SignatureCheck:
    """Knows every app with its valid keys."""

    def __init__(self, zalo: ZaloConfig) -> None:
        self._apps = tuple(
            (app.app_id, app.app_id.encode(), tuple(key.get_secret_value().encode() for key in app.oa_secret_keys))
            for app in zalo.apps
        )
        keys = {app_id: keys for app_id, _, keys in self._apps}
        self._page_keys = {page.oa_id.encode(): keys[page.app_id] for page in zalo.pages}

    def read_header(self, values: Sequence[bytes]) -> bytes | NotVerified:
        """Take the signature out of its header: `mac=<hex>`, in any case, with spaces or without the prefix."""
        if not values:
            return NotVerified("signature.missing")
        match = _SIGNATURE.fullmatch(values[0]) if len(values) == 1 and len(values[0]) <= 256 else None
        return match[1].lower() if match else NotVerified("signature.malformed")

    def verify(self, raw: bytes, signature: bytes, timestamp_headers: Sequence[bytes]) -> Verified | NotVerified:
        """Compare the signature with what each app's keys make of the raw body, in constant time each.

        Args:
            raw: the body, byte for byte.
            signature: 64 lower-case hex digits.
            timestamp_headers: every `X-ZEvent-Timestamp`; one that is not a plain number counts for nothing.
        """
        candidates = list(_timestamps(raw, timestamp_headers))
        for app_id, app_id_raw, keys in self._apps:
            digest = hashlib.sha256(app_id_raw + raw)
            for timestamp, source in candidates:
                for key in keys:
                    signed = digest.copy()
                    signed.update(timestamp + key)
                    if hmac.compare_digest(signed.hexdigest().encode(), signature):
                        return Verified(app_id, timestamp.decode(), source)
        if self._is_oa_id_variant(raw, signature, candidates):
            return NotVerified("signature.oa_id_variant")
        return NotVerified("signature.mismatch")

    def _is_oa_id_variant(
        self, raw: bytes, signature: bytes, candidates: Sequence[tuple[bytes, Literal["header", "body"]]]
    ) -> bool:
        # Some integrators report the OA's id in the first place. It is refused, but an operator should see it.
        ids = dict.fromkeys(match[1] for part in _both_ends(raw) for match in _ID_IN_BODY.finditer(part))
        for oa_id in [oa_id for oa_id in ids if oa_id in self._page_keys][:MAX_CANDIDATES]:
            digest = hashlib.sha256(oa_id + raw)
            for timestamp, _ in candidates:
                for key in self._page_keys[oa_id]:
                    signed = digest.copy()
                    signed.update(timestamp + key)
                    if hmac.compare_digest(signed.hexdigest().encode(), signature):
                        return True
        return False


def _both_ends(raw: bytes) -> Iterator[bytes]:
    if len(raw) <= 2 * SCANNED_BYTES:
        yield raw
    else:
        yield raw[-SCANNED_BYTES:]
        yield raw[:SCANNED_BYTES]


def _timestamps(raw: bytes, headers: Sequence[bytes]) -> Iterator[tuple[bytes, Literal["header", "body"]]]:
    seen = set()
    if len(headers) == 1 and len(headers[0]) <= 64 and (match := _TIMESTAMP_HEADER.fullmatch(headers[0])):
        seen.add(match[1])
        yield match[1], "header"
    # A text may contain something that looks like a time stamp, so that more than one place is tried.
    for part in _both_ends(raw):
        for match in _TIMESTAMP_IN_BODY.finditer(part):
            if len(seen) >= MAX_CANDIDATES:
                return
            if match[1] not in seen:
                seen.add(match[1])
                yield match[1], "body"


def sign(raw: bytes, *, app_id: str, timestamp: str, key: str) -> str:
    """Make the signature header that Zalo would send."""
    return "mac=" + hashlib.sha256(app_id.encode() + raw + timestamp.encode() + key.encode()).hexdigest()
