"""Which unit answers what people write: a table of messages, and what must hold for any text."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.router.adapters.data_files import load_gazetteer
from services.router.domain.gazetteer import Gazetteer, Place
from services.router.domain.places import PlaceFinder
from services.router.domain.spelling import is_near
from services.router.domain.text import fold
from services.router.domain.understanding import MessageContext, Reading
from shared.events import Coordinates
from tests.factories import a_message
from tests.unit.router.fakes import DATA, DIRECTORY, HERE, RULES, UNITS, VIEW

CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "places.yaml").read_text("utf-8"))["messages"]
GAZETTEER = load_gazetteer(DATA)
FINDER = PlaceFinder(GAZETTEER)
TIP = Reading("security_tip")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{case['text'][:40]}-{n}") for n, case in enumerate(CASES)],
)
def test_a_message_reaches_its_unit_with_its_evidence(case: dict[str, Any]) -> None:
    at = datetime.fromisoformat(str(case.get("at", "2024-06-01"))).replace(hour=5, tzinfo=UTC)
    point = case.get("location")
    location = Coordinates(latitude=point[0], longitude=point[1]) if point else None
    reading = Reading(case["is"]) if "is" in case else RULES.read(case["text"], MessageContext("text", at))
    message = a_message(text=case["text"], page=case.get("page", "district"), location=location, sent_at=at)

    found = UNITS(message, reading, DIRECTORY.as_of(at.date()), home_ward=case.get("home"))

    assert found.unit == ("district" if case["unit"] == "none" else case["unit"]), found
    assert found.is_outside == case.get("outside", False), found
    assert set(case.get("saw", ())) <= set(found.evidence), found
    if "doubt" in case:
        assert case["doubt"] in found.doubts, found
    if "candidates" in case:
        assert set(found.candidates) == set(case["candidates"]), found


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert len(CASES) >= 150
    assert {case["unit"] for case in CASES} >= set(GAZETTEER.wards)


@pytest.mark.parametrize("place", GAZETTEER.places, ids=[place.key for place in GAZETTEER.places])
def test_every_name_of_the_gazetteer_is_found_and_decides_only_when_it_may(place: Place) -> None:
    for name in place.names:
        found = UNITS(a_message(text=f"đánh nhau ở {name}", page="district"), TIP, VIEW)
        if place.decides and place.sure != "unverified" and len(place.wards) == 1:
            assert found.unit == place.wards[0], (name, found)
        assert found.unit in {"district", *place.wards, *GAZETTEER.wards}


def test_keys_are_used_once() -> None:
    keys = [place.key for place in GAZETTEER.places]
    assert sorted(keys) == sorted(set(keys))


def test_a_name_stands_for_one_place_only() -> None:
    names = [" ".join(fold(name).marked) for place in GAZETTEER.places for name in place.names]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("written", "wanted", "near"),
    [
        ("tranh", "chanh", True),
        ("thahn", "thanh", True),
        ("hiepp", "hiep", True),
        ("nhut", "nhat", True),
        ("fu", "phu", True),
        ("l0c", "loc", True),
        ("th", "thuan", True),
        ("th", "hiep", False),
        ("nhi", "nhat", False),
        ("binh", "thanh", False),
        ("loc", "xuan", False),
        ("hoa", "hiep", False),
        ("dong", "tong", False),
        ("12", "13", False),
    ],
)
def test_a_slip_is_one_letter_and_no_other_name(written: str, wanted: str, near: bool) -> None:
    assert is_near(written, wanted) is near


def test_no_ward_is_taken_for_another_by_guessing() -> None:
    finder = PlaceFinder(GAZETTEER)
    for ward, names in GAZETTEER.wards.items():
        for name in names.names:
            assert {m.wards for m in finder.find(fold(f"phường {name}"))} == {(ward,)}


NUMBERED_INITIALS = [
    (initials, number)
    for ward, numbers in GAZETTEER.coded_streets.items()
    for initials in GAZETTEER.wards[ward].initials
    for number in numbers
]


@given(
    st.sampled_from(NUMBERED_INITIALS),
    st.sampled_from([".", ". ", " ", "-", "- ", "_", " . "]),
    st.sampled_from([".", " ", "-", " số "]),
    st.booleans(),
)
def test_what_stands_between_initials_never_changes_the_street(
    written: tuple[str, str], gap: str, last_gap: str, is_capital: bool
) -> None:
    initials, number = written
    letters = initials.upper() if is_capital else initials

    together = FINDER.find(fold(f"nhà trên đường {letters} {number} mất trộm"))
    apart = FINDER.find(fold(f"nhà trên đường {gap.join(letters)}{last_gap}{number} mất trộm"))

    assert [(one.key, one.wards) for one in together] == [(one.key, one.wards) for one in apart]


SYLLABLES = sorted({word for names in GAZETTEER.wards.values() for name in names.names for word in name.split()})
SLIPS = st.sampled_from(["{}", "{}", "{}x", "{}.", "{},"]) | st.builds("{{:.{}}}".format, st.integers(1, 4))


@given(
    st.lists(
        st.builds(str.format, SLIPS, st.sampled_from(SYLLABLES))
        | st.sampled_from(
            ["İ", "ở", "phường", "p", "q12", "quận 12", "đường", "số", "13", "khu phố 3", "chị", "gần", "tại"]
        ),
        max_size=12,
    )
)
def test_scraps_of_names_are_places_or_none(words: list[str]) -> None:
    for mention in FINDER.find(fold(" ".join(words))):
        assert set(mention.wards) <= set(GAZETTEER.wards)


@given(st.text(max_size=300))
def test_any_text_is_given_to_a_unit_that_works_that_day(text: str) -> None:
    found = UNITS(a_message(text=text.replace("\x00", ""), page="thoi-an"), TIP, VIEW)

    assert found.unit in VIEW.units
    assert set(found.candidates) <= set(VIEW.units)


@given(st.sampled_from(sorted(GAZETTEER.wards)), st.sampled_from(sorted(GAZETTEER.wards)), st.sampled_from(CASES))
def test_a_place_that_decides_does_so_on_every_page(one: str, other: str, case: dict[str, Any]) -> None:
    message = a_message(text=case["text"], page=one)
    found = UNITS(message, TIP, VIEW)
    again = UNITS(message.model_copy(update={"page": other}), TIP, VIEW)

    if found.basis == "place":
        assert again == found


@given(
    st.floats(min_value=-90, max_value=90, allow_nan=False), st.floats(min_value=-180, max_value=180, allow_nan=False)
)
def test_a_point_outside_the_area_never_names_a_ward(latitude: float, longitude: float) -> None:
    found = UNITS(
        a_message(text="", page="district", location=Coordinates(latitude=latitude, longitude=longitude)), TIP, VIEW
    )
    is_near_the_area = 10.81 < latitude < 10.91 and 106.59 < longitude < 106.73

    assert is_near_the_area or (found.basis, found.unit) == ("district", "district")


def test_a_gazetteer_twenty_times_as_large_finds_the_same() -> None:
    many = PlaceFinder(grown(GAZETTEER, 20))
    one = PlaceFinder(GAZETTEER)

    for case in CASES:
        assert many.find(fold(case["text"])) == one.find(fold(case["text"]))


def grown(gazetteer: Gazetteer, times: int) -> Gazetteer:
    """The gazetteer with invented places, so that it is so many times as large."""
    invented = [
        Place.model_validate(
            {
                "key": f"{place.key}-{n}",
                "names": [f"{name} thứ {word(n)}" for name in place.names],
                "kind": place.kind,
                "wards": place.wards,
                "sure": place.sure,
                "from": place.source,
            }
        )
        for n in range(1, times)
        for place in gazetteer.places
    ]
    return gazetteer.model_copy(update={"places": (*gazetteer.places, *invented)})


def word(n: int) -> str:
    return "".join("bcdghklmnp"[int(digit)] + "o" for digit in str(n))
