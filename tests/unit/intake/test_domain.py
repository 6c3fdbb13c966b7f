from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.domain import (
    KEPT_TYPES,
    SKIPPED_KINDS,
    AddressPolicy,
    GiveUp,
    RetryAt,
    after_failed_attempt,
    believable_time,
    kept_type,
    normalise_text,
    plan_attachments,
)
from services.intake.errors import AttachmentAddressRefused, AttachmentError, AttachmentUrlRefused
from shared.events import MAX_TEXT_CHARACTERS, Attachment
from tests.factories import a_message
from tests.unit.intake.support import RECEIVED_AT

OPEN = AddressPolicy(allows_private=True)
STRICT = AddressPolicy(allows_private=False)
NOWHERE = "0.0.0.0"  # noqa: S104 - an address to refuse, nothing binds to it


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("xin chào", "xin chào"),
        ("a\nb", "a\nb"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\u2028b\u0085c", "a\nb\nc"),
        ("a\tb", "a b"),
        ("gi\u1ea5y\u200b\u200c\u200d\u2060\ufeff", "giấy"),
        ("\u202ehidden\u202c\u2066x\u2069\u200e\u061c", "hiddenx"),
        ("a\x00\x07\x1b[31m", "a[31m"),
        ("so\u00adft", "soft"),
        ("tag\U000e0041\U000e0042", "tag"),
        ("e\u200b\u0302", "ê"),
        ("Đường Tô Ký ❤️ 👍🏽", "Đường Tô Ký ❤️ 👍🏽"),
    ],
)
def test_a_text_is_read_as_a_person_sees_it(written: str, read: str) -> None:
    normal = normalise_text(written)

    assert normal.text == read
    assert normal.original == (None if written == read else written)


@given(st.text(max_size=200))
def test_normalising_twice_changes_nothing(written: str) -> None:
    once = normalise_text(written).text

    assert normalise_text(once).text == once


@given(st.text(min_size=1, max_size=20), st.integers(-5, 5))
def test_a_normalised_text_is_never_too_long(piece: str, more: int) -> None:
    normal = normalise_text((piece * MAX_TEXT_CHARACTERS)[: MAX_TEXT_CHARACTERS + more])

    assert len(normal.text) <= MAX_TEXT_CHARACTERS
    assert len(normal.original or "") <= MAX_TEXT_CHARACTERS


@given(st.none() | st.integers())
def test_every_time_is_within_reason(milliseconds: int | None) -> None:
    moment, _ = believable_time(milliseconds, RECEIVED_AT)

    assert moment <= RECEIVED_AT + timedelta(minutes=5)
    assert moment.year >= 2012


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "100.127.255.255", NOWHERE, "0.1.2.3", "192.0.0.8", "198.18.0.1", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255", "203.0.113.7", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "fec0::1", "nonsense", "",
    ],
)  # fmt: skip
def test_an_address_inside_a_network_is_refused(address: str) -> None:
    with pytest.raises(AttachmentAddressRefused):
        STRICT.check_address(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "118.102.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_allowed(address: str) -> None:
    STRICT.check_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.1.1", "::1", "fd00::5"])
def test_a_demonstration_may_use_its_own_machine_and_network(address: str) -> None:
    OPEN.check_address(address)


@pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1", NOWHERE, "fe80::1", "100.64.0.1"])
def test_even_a_demonstration_never_goes_to_metadata_and_multicast(address: str) -> None:
    with pytest.raises(AttachmentAddressRefused):
        OPEN.check_address(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://zdn.example/a.jpg", "ftp://zdn.example/a", "file:///etc/passwd", "gopher://zdn.example/",
        "javascript:alert(1)", "//zdn.example/a", "https://", "https:///a", "https://user:pw@zdn.example/a",
        "https://user@zdn.example/", "https://[::1/a", "https://zdn.example:99999/", "not a url", "",
    ],
)  # fmt: skip
def test_a_link_that_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(AttachmentUrlRefused):
        STRICT.check_url(url)


@pytest.mark.parametrize("url", ["https://127.0.0.1/a", "https://[::1]:9200/", "https://10.0.0.8/", "https://0/"])
def test_a_link_to_an_address_inside_a_network_is_refused(url: str) -> None:
    with pytest.raises(AttachmentError):
        STRICT.check_url(url)


def test_plain_http_is_for_demonstrations_only() -> None:
    OPEN.check_url("http://127.0.0.1:9000/a.jpg")
    with pytest.raises(AttachmentUrlRefused):
        STRICT.check_url("http://zdn.example/a.jpg")


WAITS = (5.0, 30.0)


@pytest.mark.parametrize(
    ("attempt", "retryable", "step"),
    [
        (1, True, RetryAt(RECEIVED_AT + timedelta(seconds=5))),
        (2, True, RetryAt(RECEIVED_AT + timedelta(seconds=30))),
        (3, True, GiveUp("attachment.unreachable")),
        (1, False, GiveUp("attachment.unreachable")),
    ],
)
def test_the_schedule_decides_what_follows_a_failed_attempt(
    attempt: int, retryable: bool, step: RetryAt | GiveUp
) -> None:
    assert step == after_failed_attempt(
        "attachment.unreachable",
        retryable=retryable,
        attempt=attempt,
        ended_at=RECEIVED_AT,
        retry_waits_seconds=WAITS,
    )


def test_every_attachment_has_a_plan_or_a_reason() -> None:
    message = a_message(
        attachments=(
            Attachment(index=0, kind="image", url="https://x.example/1"),
            Attachment(index=1, kind="image"),
            *(Attachment(index=2 + n, kind=kind, url="https://x.example/2") for n, kind in enumerate(SKIPPED_KINDS)),
        )
    )

    plans = plan_attachments(message)

    assert [plan.skip_reason for plan in plans] == [None, "attachment.without_url", *SKIPPED_KINDS.values()]
    assert len({plan.attachment_id for plan in plans}) == len(plans)
    assert plan_attachments(message) == plans


@pytest.mark.parametrize(
    ("extensions", "head", "kind"),
    [
        ([".jpg"], b"\xff\xd8", "image/jpeg"),
        ([".exe", ".dll"], b"MZ", None),
        ([".html"], b"<html>", None),
        ([".xyz", ".pdf"], b"%PDF", "application/pdf"),
        ([], b"\0\0\0\x18ftypdash", "video/mp4"),
        ([], "Biển số 59X1-123.45\n".encode(), "text/plain"),
        ([], b"<script>alert(1)</script>", None),
        ([], b"#!/bin/sh\n", None),
        ([], b"\x00\x01\x02", None),
        ([], b"   ", None),
        ([], b"\xff\xfe\xfd", None),
    ],
)
def test_only_known_kinds_of_files_are_kept(extensions: list[str], head: bytes, kind: str | None) -> None:
    assert kept_type(extensions, head) == kind


def test_every_kept_type_is_a_media_type() -> None:
    assert all(extension.startswith(".") and "/" in kind for extension, kind in KEPT_TYPES.items())
