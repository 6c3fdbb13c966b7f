"""`hub understand`: the ward of a line by its date and page."""

import json
from functools import cache
from typing import Any

import pytest

from services.router.offline import OfflineRouter, as_line, parse
from tests.unit.router.fakes import DATA, understanding

BEFORE, AFTER = "2025-06-30T23:00:00+07:00", "2025-07-01T00:10:00+07:00"


@cache
def router() -> OfflineRouter:
    return OfflineRouter(DATA, understanding=understanding())


def answer(text: str, **fields: Any) -> dict[str, Any]:
    line = parse(json.dumps({"id": "1", "text": text, **fields}).encode())
    return as_line(line, router().understand(line))


@pytest.mark.parametrize(
    ("text", "page", "before", "after"),
    [
        ("mất xe ở phường Thạnh Xuân tối qua", "district", "thanh-xuan", "thoi-an"),
        ("karaoke ồn quá đường HT13", "district", "hiep-thanh", "tan-thoi-hiep"),
        ("làm tạm trú cần giấy tờ gì", "thanh-loc", "thanh-loc", "an-phu-dong"),
        ("có trộm ở Phan Văn Hớn", "thanh-loc", "tan-thoi-nhat", "dong-hung-thuan"),
        ("ở phường Thới An nè", "district", "thoi-an", "thoi-an"),
    ],
)
def test_the_ward_of_the_day_on_which_it_was_sent(text: str, page: str, before: str, after: str) -> None:
    assert answer(text, page=page)["ward"] == before
    assert answer(text, page=page, sent_at=BEFORE)["ward"] == before
    assert answer(text, page=page, sent_at=AFTER)["ward"] == after


def test_where_a_team_answers_the_ward_is_still_told() -> None:
    text = "muốn đăng ký tạm trú cho người thuê ở phường Hiệp Thành thì cần giấy tờ gì"

    assert answer(text, page="doi-qlhc")["ward"] == "hiep-thanh"
    assert answer("đăng ký tạm trú cần gì", page="doi-qlhc", home_ward="thoi-an")["ward"] == "thoi-an"
    assert answer("đăng ký tạm trú cần gì", page="doi-qlhc")["ward"] is None


@pytest.mark.parametrize(
    ("text", "fields", "ward"),
    [
        ("cháy nhà ở Lê Thị Riêng", {"page": "thanh-loc", "home_ward": "hiep-thanh"}, "thoi-an"),
        ("có đánh nhau", {"page": "thanh-loc", "location": {"lat": 10.8827, "lon": 106.6401}}, "hiep-thanh"),
        ("có đánh nhau", {"page": "thanh-loc", "location": {"lat": 0, "lon": 0}}, "thanh-loc"),
        ("có đánh nhau", {"page": "district", "home_ward": "tan-thoi-nhat"}, "tan-thoi-nhat"),
        ("có đánh nhau", {"page": "district"}, None),
        ("đánh nhau ở phường 12 Gò Vấp", {"page": "thanh-loc"}, None),
        ("cán bộ phường Thới An đòi tiền bồi dưỡng mới làm", {"page": "thoi-an"}, None),
    ],
)
def test_the_order_of_which_unit_answers(text: str, fields: dict[str, Any], ward: str | None) -> None:
    assert answer(text, **fields)["ward"] == ward
