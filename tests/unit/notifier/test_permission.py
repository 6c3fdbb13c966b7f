"""Known before sending: window, withdrawal, form of the content."""

import unicodedata
from datetime import date, timedelta
from typing import Any

import pytest

from services.notifier.domain.permission import Allowed, Denied, Permission, content_problem, permission
from services.notifier.domain.reply import Contact, composed
from shared.events import ReplyButton, ReplyContent
from tests.factories import NOW
from tests.unit.notifier.fakes import RULES
from tests.unit.notifier.samples import a_claimed_reply

WINDOW = RULES.window_on(date(2026, 11, 24))
HOUR = timedelta(hours=1)
JUST = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("contact_age", "reply_age", "pays", "expected"),
    [
        (None, timedelta(0), True, Allowed(is_free=True)),
        (48 * HOUR - JUST, None, True, Allowed(is_free=True)),
        (48 * HOUR, None, True, Allowed(is_free=False)),
        (48 * HOUR, None, False, Denied("window.beyond_free")),
        (168 * HOUR - JUST, None, True, Allowed(is_free=False)),
        (168 * HOUR, None, True, Denied("window.closed")),
        (400 * HOUR, 2 * HOUR, True, Allowed(is_free=True)),
        (2 * HOUR, 400 * HOUR, True, Allowed(is_free=True)),
        (None, None, False, Allowed(is_free=None)),
    ],
)
def test_the_later_known_interaction_opens_the_window(
    contact_age: timedelta | None, reply_age: timedelta | None, pays: bool, expected: Permission
) -> None:
    contact = Contact(None if contact_age is None else NOW - contact_age)
    reply = a_claimed_reply(interaction_at=None if reply_age is None else NOW - reply_age)

    assert permission(reply, contact, window=WINDOW, now=NOW, pays_beyond_free=pays) == expected


@pytest.mark.parametrize(
    ("withdrawn_after_hours", "expected"),
    [(1, Denied("contact.withdrawn")), (0, Denied("contact.withdrawn")), (-1, Allowed(is_free=True))],
)
def test_a_withdrawal_ends_our_right_to_write_until_the_citizen_writes_again(
    withdrawn_after_hours: int, expected: Permission
) -> None:
    wrote_at = NOW - 5 * HOUR
    contact = Contact(wrote_at, withdrawn_at=wrote_at + withdrawn_after_hours * HOUR)
    reply = a_claimed_reply(interaction_at=wrote_at)

    assert permission(reply, contact, window=WINDOW, now=NOW, pays_beyond_free=True) == expected


BUTTON = ReplyButton(title="Có", type="oa.query.show", payload="#co")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"text": "a" * 2_000}, None),
        ({"text": ""}, "content.empty"),
        ({"text": " \n"}, "content.empty"),
        ({"buttons": (BUTTON,)}, "content.empty"),
        ({"text": "Chọn", "buttons": (BUTTON,)}, None),
        ({"image_url": "https://x/y.png"}, None),
        ({"file_token": "t"}, None),
        ({"request_info": ("t", "s", "https://x/y.png")}, None),
        ({"image_url": "https://x/y.png", "file_token": "t"}, "content.two_attachments"),
    ],
)
def test_content_that_zalo_would_refuse_for_its_form_is_not_sent(content: dict[str, Any], problem: str | None) -> None:
    assert content_problem(ReplyContent(**content)) == problem


def test_a_text_is_counted_after_composition() -> None:
    decomposed = unicodedata.normalize("NFD", "ế" * 660)  # three characters each
    content = composed(ReplyContent(text=decomposed))

    assert (len(decomposed), len(content.text)) == (1_980, 660)


def test_a_text_that_composition_makes_too_long_is_refused_without_a_call() -> None:
    grows = ReplyContent(text="\u0958" * 1_500)  # excluded from composition: two characters in NFC

    assert content_problem(composed(grows)) == "content.too_long"


def test_the_window_rule_of_the_day_is_the_latest_that_has_begun() -> None:
    assert RULES.window_on(date(2030, 1, 1)).free == 48 * HOUR
    assert RULES.window_on(date(2020, 1, 1)) == RULES.windows[0]
