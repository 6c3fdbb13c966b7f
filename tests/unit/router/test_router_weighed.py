"""What the model weighs of a text: not where it is, not hello, not thanks behind a matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.adapters.data_files import load_gazetteer, load_rules
from services.router.learning.variants import without_diacritics
from tests.unit.router.fakes import DATA

RULES = load_rules(DATA)
WARDS = [names.names[0] for names in load_gazetteer(DATA).wards.values()]
MATTER = "có cháy lớn trong kho giấy"


def weighed(text: str) -> str:
    return " ".join(RULES.examine(text).weighed.plain)


@pytest.mark.parametrize("ward", WARDS)
@pytest.mark.parametrize("form", ["{m}, {w}", "{m} ở phường {w}", "{w}: {m}", "{m} tại P. {w}, q12"])
def test_a_ward_named_beside_a_matter_is_not_weighed(ward: str, form: str) -> None:
    text = form.format(m=MATTER, w=ward)

    assert weighed(text) == weighed(without_diacritics(text)) == "co chay lon trong kho giay"


HELLO = [
    "dạ em chào anh chị, ",
    "alo công an ơi ",
    "kính gửi công an phường. ",
    "hello ad\n",
    "Chào buổi sáng các chú, ",
]
THANKS = [
    " ạ, em cảm ơn",
    ". cám ơn mấy chú nhiều lắm",
    " nha ad",
    " thank you very much",
    "\nxin chân thành cảm ơn các anh ạ",
]


@given(st.sampled_from(["", *HELLO]), st.sampled_from(["", *THANKS]))
def test_hello_and_thanks_around_a_matter_are_not_weighed(hello: str, thanks: str) -> None:
    assert weighed(f"{hello}{MATTER}{thanks}") == "co chay lon trong kho giay"


@pytest.mark.parametrize("text", ["cảm ơn các anh nhiều ạ", "dạ em chào anh chị", "ok cảm ơn", "alo", "dạ"])
def test_where_nothing_else_is_said_all_of_it_is_weighed(text: str) -> None:
    findings = RULES.examine(text)

    assert findings.weighed == findings.words


def test_thanks_at_the_beginning_may_be_all_that_is_said() -> None:
    assert weighed("cảm ơn các anh đã làm căn cước cho em").startswith("cam on cac anh")


def test_what_is_found_is_found_in_what_is_not_weighed_too() -> None:
    assert "thanks" in RULES.examine(f"{MATTER}, cảm ơn").found


def test_nothing_is_read_inside_the_name_of_a_place() -> None:
    assert weighed("Thới An") == ""
    assert RULES.examine("thoi an").words.plain == ("thoi", "an")
