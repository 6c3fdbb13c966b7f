"""Ids that look like Zalo's and follow from the seed, so that two runs of a test meet the same people."""

from __future__ import annotations

from hashlib import blake2b

_TEN_TO_18 = 10**18


def _digits(leading: int, *parts: str) -> str:
    digest = blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return str(leading * _TEN_TO_18 + int.from_bytes(digest) % _TEN_TO_18)


def user_id(seed: int, oa_id: str, citizen: str) -> str:
    """Id of a person as one Official Account sees them: another one for each account."""
    return _digits(2, str(seed), "user", oa_id, citizen)


def user_id_by_app(seed: int, app_id: str, citizen: str) -> str:
    """Id of the same person as the app sees them: one for all accounts of the app."""
    return _digits(3, str(seed), "app", app_id, citizen)


class MessageIds:
    """Twenty hexadecimal digits each, never repeated: the run number keeps a restart from starting over."""

    def __init__(self, seed: int, run: int) -> None:
        self._prefix = f"{seed}:{run}:".encode()
        self._count = 0

    def next(self) -> str:
        """A new message id."""
        self._count += 1
        return blake2b(self._prefix + str(self._count).encode(), digest_size=10).hexdigest()
