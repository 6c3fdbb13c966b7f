import hashlib

import pytest

from services.intake.channels.zalo.signature import NotVerified, SignatureCheck, Verified, sign
from tests.unit.intake.support import (
    APP_ID,
    KEY,
    NEXT_KEY,
    OA_ID,
    OTHER_APP_ID,
    OTHER_KEY,
    ZALO,
    as_raw,
    payload,
    signature_of,
)

CHECK = SignatureCheck(ZALO)
BODY = '{"event_name":"user_send_text","message":{"text":"chào","msg_id":"m1"},"timestamp":"1764000000000"}'.encode()

# Made with sha256sum and openssl from app id, body, time stamp and key, without the product's code.
VECTORS = {
    "the body's time stamp and the first key": (
        BODY,
        [],
        b"79d75c0c35c06c82387df9d4a8c5f88146182910f74336a794204e91ac3a7388",
        "body",
    ),
    "the header's time stamp and the second key": (
        BODY,
        [b"1764000099999"],
        b"90afb20dc52b5a9ba3d5cbf4b86bb62d79c12de000ddcfa8fd82c6373446025b",
        "header",
    ),
    "a numeric time stamp with spaces around": (
        b'{"timestamp": 1764000000001 , "x":1}',
        [],
        b"6d0610d340a645f09477495d6753878f82ea5213b3ebff90af5b63c596d4c1d3",
        "body",
    ),
    "the right time stamp in the body though the header has another": (
        BODY,
        [b"1"],
        b"79d75c0c35c06c82387df9d4a8c5f88146182910f74336a794204e91ac3a7388",
        "body",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_signature_made_by_other_tools_is_accepted(name: str) -> None:
    raw, headers, signature, source = VECTORS[name]

    verdict = CHECK.verify(raw, signature, headers)

    assert isinstance(verdict, Verified)
    assert (verdict.app_id, verdict.timestamp_source) == (APP_ID, source)


@pytest.mark.parametrize("key", [KEY, NEXT_KEY])
def test_both_keys_are_valid_while_one_is_being_rotated(key: str) -> None:
    signature = signature_of(BODY, key=key).encode()

    assert isinstance(CHECK.verify(BODY, signature, []), Verified)


def test_the_app_whose_key_signed_is_named() -> None:
    signature = signature_of(BODY, first=OTHER_APP_ID, key=OTHER_KEY).encode()

    assert CHECK.verify(BODY, signature, []) == Verified(OTHER_APP_ID, "1764000000000", "body")


@pytest.mark.parametrize(
    ("first", "key"), [(APP_ID, "another key"), (APP_ID, OTHER_KEY), (OTHER_APP_ID, KEY), ("", KEY)]
)
def test_a_signature_of_another_key_or_app_is_refused(first: str, key: str) -> None:
    signature = signature_of(BODY, first=first, key=key).encode()

    assert CHECK.verify(BODY, signature, []) == NotVerified("signature.mismatch")


def test_a_signature_over_the_oa_id_is_refused_and_named() -> None:
    raw = as_raw(payload("user_send_text"))
    timestamp = payload("user_send_text")["timestamp"]
    signature = signature_of(raw, first=OA_ID, timestamp=timestamp).encode()

    assert CHECK.verify(raw, signature, []) == NotVerified("signature.oa_id_variant")


@pytest.mark.parametrize("where", range(0, len(BODY), 7))
def test_one_changed_byte_breaks_the_signature(where: int) -> None:
    changed = bytearray(BODY)
    changed[where] ^= 1

    assert isinstance(
        CHECK.verify(bytes(changed), VECTORS["the body's time stamp and the first key"][2], []), NotVerified
    )


def test_a_text_that_looks_like_a_time_stamp_does_not_hide_the_real_one() -> None:
    raw = b'{"message":{"text":"x","timestamp":"5"},"more":{"timestamp":"6"},"timestamp":"1764000000000"}'

    assert isinstance(CHECK.verify(raw, signature_of(raw).encode(), []), Verified)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_time_stamp_is_found_at_either_end_of_a_large_body(is_first: bool) -> None:
    filling = b'"x":"' + b"y" * 400_000 + b'"'
    stamp = b'"timestamp":"1764000000000"'
    raw = b"{" + b",".join((stamp, filling) if is_first else (filling, stamp)) + b"}"

    assert isinstance(CHECK.verify(raw, signature_of(raw).encode(), []), Verified)


def test_bytes_cannot_be_moved_from_the_body_into_the_time_stamp() -> None:
    raw, timestamp = BODY, b"1764000000000"
    signature = signature_of(raw).encode()

    assert isinstance(CHECK.verify(raw[:-1], signature, [b"}" + timestamp]), NotVerified)
    assert isinstance(CHECK.verify(raw[:-1], signature, [raw[-1:] + timestamp]), NotVerified)


@pytest.mark.parametrize("form", ["mac={}", "mac = {}", " MAC={} ", "{}", "Mac= {}"])
def test_the_header_is_read_in_every_form_seen(form: str) -> None:
    hex_digits = "ab" * 32

    assert CHECK.read_header([form.format(hex_digits.upper()).encode()]) == hex_digits.encode()


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"mac="],
        [b"mac=abc"],
        [b"mac=" + b"g" * 64],
        [b"mac=" + b"a" * 65],
        [b"sha256=" + b"a" * 64],
        [b"mac=" + b"a" * 64 + b" " * 300],
        [b"\xff\xfe"],
        [b"mac=" + "ａ".encode() * 64],
        [b"mac=" + b"a" * 64, b"mac=" + b"b" * 64],
    ],
)
def test_an_odd_header_is_malformed(values: list[bytes]) -> None:
    assert CHECK.read_header(values) == NotVerified("signature.malformed")


def test_no_header_is_missing() -> None:
    assert CHECK.read_header([]) == NotVerified("signature.missing")


@pytest.mark.parametrize("header", [b"", b"-1", b"1" * 21, b"1e9", b"\xff", b"1" * 100, b"0x10"])
def test_an_odd_time_stamp_header_counts_for_nothing(header: bytes) -> None:
    assert isinstance(CHECK.verify(BODY, signature_of(BODY).encode(), [header]), Verified)


def test_signing_makes_what_is_accepted() -> None:
    header = sign(BODY, app_id=APP_ID, timestamp="7", key=NEXT_KEY)

    assert header == "mac=" + hashlib.sha256(f"{APP_ID}".encode() + BODY + b"7" + NEXT_KEY.encode()).hexdigest()
