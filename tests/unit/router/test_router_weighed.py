"""What the model weighs of a text: not where it is."""

import pytest

from services.router.adapters.data_files import load_gazetteer
from services.router.learning.variants import without_diacritics
from tests.unit.router.fakes import DATA, RULES

WARDS = [names.names[0] for names in load_gazetteer(DATA).wards.values()]
MATTER = "có cháy lớn trong kho giấy"


def weighed(text: str) -> str:
    return " ".join(RULES.examine(text).weighed.plain)


@pytest.mark.parametrize("ward", WARDS)
@pytest.mark.parametrize("form", ["{m}, {w}", "{m} ở phường {w}", "{w}: {m}", "{m} tại P. {w}, q12"])
def test_a_ward_named_beside_a_matter_is_not_weighed(ward: str, form: str) -> None:
    text = form.format(m=MATTER, w=ward)

    assert weighed(text) == weighed(without_diacritics(text)) == "co chay lon trong kho giay"


def test_where_only_a_place_is_said_nothing_is_weighed_and_all_is_known() -> None:
    findings = RULES.examine("Thới An")

    assert (findings.weighed.plain, findings.words.plain) == ((), ("thoi", "an"))
