"""Deterministic ids: running any step again makes the same id, so that a redelivery repeats nothing."""

import hashlib

ID_LENGTH = 32
"""Hex characters of an id: 128 bits, so that two of a billion ids agree with a chance below 1e-20."""


def deterministic_id(*parts: str) -> str:
    """Hash the parts into one id of `ID_LENGTH` hex characters.

    Each part is preceded by its length in bytes: ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")  # ids of hostile texts must not raise
        digest.update(f"{len(raw)}:".encode())
        digest.update(raw)
    return digest.hexdigest()[:ID_LENGTH]


def citizen_key(oa_id: str, user_id: str) -> str:
    """Key of one citizen as one page sees them; the partition key of every event about them."""
    return f"{oa_id}:{user_id}"


def text_digest(text: str) -> str:
    """SHA-256 of a text, to compare an echo with what was sent without keeping the text in the report."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
