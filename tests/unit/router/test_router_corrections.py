"""A correction becomes an example that training can read."""

from pathlib import Path

import pytest

from services.router.learning.corpus import read_messages
from services.router.learning.corrections import CorrectionUnusable, append, proposal

LABEL = {"was": {"category": "security_tip", "urgency": "normal"}, "right": {"category": "crime_report"}}


def test_accepted_corrections_are_read_as_messages_of_the_officers_once_each(tmp_path: Path) -> None:
    found = proposal(LABEL, ["tụi nó bán hàng trắng", "gọi em 0912345678"])
    append(tmp_path, found)
    file = append(tmp_path, found)

    (example,) = read_messages(file)
    assert (example.writer, example.category, example.urgency) == ("officers", "crime_report", "high")
    assert example.text == "tụi nó bán hàng trắng \n gọi em 0900 000 000"
    assert found.replaced == ("phone",)


def test_a_correction_of_the_unit_alone_confirms_the_category() -> None:
    label = {"was": {"category": "procedure", "subtopic": "stay_notice"}, "right": {"unit": "hiep-thanh"}}

    assert proposal(label, ["khách ngủ lại báo ở đâu"]).subtopic == "stay_notice"


@pytest.mark.parametrize(("right", "texts"), [({"category": "procedure"}, ["làm gì"]), ({"category": "other"}, [" "])])
def test_what_gives_no_legal_example_is_refused(right: dict[str, str], texts: list[str]) -> None:
    with pytest.raises(CorrectionUnusable):
        proposal({"was": {}, "right": right}, texts)
