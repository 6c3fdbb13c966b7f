"""What hasty, careless and hostile typing stands for."""

import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.text import MAX_WORDS, Spelling, WritingBook, fold
from tests.unit.router.fakes import DATA

KNOWN = ("tạm trú", "căn cước", "không biết", "ma túy", "cháy nhà", "công an", "cứu với")
SPELLING = Spelling(
    WritingBook.model_validate(yaml.safe_load((DATA / "rules" / "writing.yaml").read_text("utf-8"))), KNOWN
)


def meant(text: str) -> str:
    return " ".join(fold(text, SPELLING).marked)


def written(text: str) -> str:
    return " ".join(fold(text).marked)


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("em mún lm cccd", "em muốn làm căn cước"),
        ("cas nhaan nhaf toio ddang chays", "cá nhân nhà tôi đang cháy"),
        ("thuw5ng dduwowcj nha2 bi5", "thựng được nhà bị"),
        ("cứuuuu mấy anhhh ơiiii", "cứu mấy anh ơi"),
        ("fải làm sao zậy, wa wán", "phải làm sao vậy quá quán"),
        ("tamtru cancuoc khôngbiết", "tam tru can cuoc không biết"),
        ("hẻm2 phòng5", "hẻm 2 phòng 5"),
        ("c h á y nhà m@ túy", "cháy nhà ma túy"),
        ("ch4y", "chay"),
        ("ck em đánh, ck 5 triệu rồi", "chồng em đánh chuyển khoản 5 triệu rồi"),
        ("chаu ᴄháy ＣＨÁＹ", "chau cháy cháy"),
        ("ch\u200báy nh\u00adà", "cháy nhà"),
        ("hoà hòa thuỷ thủy", "hòa hòa thủy thủy"),
    ],
)
def test_a_word_is_read_as_it_was_meant(typed: str, means: str) -> None:
    assert meant(typed) == written(means)


@pytest.mark.parametrize(
    "text",
    [
        "TCH21 HT13 q12 TX25",
        "gas bar wifi laptop",
        "this house was robbed here",
        "oto vios",
        "chay tui bit hem",
        "500k",
    ],
)
def test_names_foreign_words_and_plain_syllables_stay_what_they_are(text: str) -> None:
    assert meant(text) == written(text)


def test_a_tone_mark_on_a_letter_of_another_script_counts_as_on_the_latin_one() -> None:
    assert meant(unicodedata.normalize("NFD", "chа́y")) == written("cháy")


@given(st.text(max_size=300))
def test_any_text_has_as_many_plain_words_as_marked_ones(text: str) -> None:
    words = fold(text, SPELLING)
    columns = (words.marked, words.is_accented, words.ends_clause, words.sentence)
    assert {len(column) for column in columns} == {len(words)}


def test_of_a_text_without_end_only_the_beginning_is_read() -> None:
    assert len(fold("cháy nhà " * 20_000, SPELLING)) <= MAX_WORDS + 8
