"""The written messages keep their promises: legal labels, no near-duplicates, nothing held out among them."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml

from services.router.learning.corpus import (
    WRITERS,
    Example,
    HeldOut,
    label_fault,
    load_held_out,
    near_duplicates,
    personal_data,
    read_messages,
    scrubbed,
)
from services.router.learning.variants import VARIANTS
from shared.errors import ConfigurationError
from tests.unit.router.fakes import DATA, written_messages

HELD_OUT = DATA / "understanding" / "held_out"
DATA_CARD = DATA.parent / "docs" / "data-card.md"


def where(example: Example | HeldOut) -> str:
    return example.id if isinstance(example, HeldOut) else f"{example.source}: {example.text[:60]}"


@cache
def twins() -> list[tuple[Example | HeldOut, Example | HeldOut]]:
    """Of all that is written or held out, what is nearly the same: in this order, and sought once."""
    everything: list[Example | HeldOut] = [*written_messages(), *load_held_out(HELD_OUT)]
    long_enough = [one for one in everything if len(one.text.split()) >= 6]
    found = near_duplicates([one.text for one in long_enough])
    return [(long_enough[twin.first], long_enough[twin.second]) for twin in found]


def twins_of(first: type[Example | HeldOut], second: type[Example | HeldOut]) -> list[tuple[str, str]]:
    return [
        (where(one), where(other)) for one, other in twins() if isinstance(one, first) and isinstance(other, second)
    ]


def test_all_twelve_kinds_of_citizens_have_written() -> None:
    assert {example.writer for example in written_messages()} >= set(WRITERS)


def test_no_two_messages_are_the_same_with_small_changes() -> None:
    assert twins_of(Example, Example) == []


def test_no_message_is_there_twice() -> None:
    """Short ones too: one text has one label, and a writer held back is not known from another one's lines."""
    sources: dict[str, list[str]] = {}
    for example in written_messages():
        sources.setdefault(example.text, []).append(example.source)

    assert {text: places for text, places in sources.items() if len(places) > 1} == {}


def test_no_held_out_message_is_trained_on() -> None:
    assert twins_of(Example, HeldOut) == []


def test_no_two_held_out_messages_are_the_same() -> None:
    assert twins_of(HeldOut, HeldOut) == []
    assert [i for i, times in Counter(item.id for item in load_held_out(HELD_OUT)).items() if times > 1] == []


def test_every_held_out_label_is_legal() -> None:
    labels = {item.id: item.expected for item in load_held_out(HELD_OUT)}

    assert {i: f for i, e in labels.items() if (f := label_fault(e.category, e.subtopic, e.urgency))} == {}


def kappa(pairs: Sequence[tuple[str | None, str | None]]) -> float:
    """Cohen's kappa: how far two labellers agree beyond what their shares alone would give."""
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    agreed = sum(one == other for one, other in pairs) / len(pairs)
    by_chance = sum(first[label] * second[label] for label in first) / len(pairs) ** 2
    return (agreed - by_chance) / (1 - by_chance)


def test_the_data_card_says_how_far_the_two_labellers_agree() -> None:
    with (HELD_OUT / "second_labels.tsv").open(encoding="utf-8") as file:
        second = {line["id"]: line for line in csv.DictReader(file, delimiter="\t")}
    first = {item.id: item.expected for item in load_held_out(HELD_OUT) if item.id in second}
    category = [(e.category, second[i]["category"]) for i, e in first.items()]
    urgency = [(e.urgency, second[i]["urgency"]) for i, e in first.items()]
    subtopic = [(e.subtopic, second[i]["subtopic"]) for i, e in first.items() if e.subtopic]
    found = f"category {kappa(category):.3f}, urgency {kappa(urgency):.3f}, subtopic {kappa(subtopic):.3f}"

    assert first.keys() == second.keys()
    assert found in " ".join(DATA_CARD.read_text("utf-8").split())


def test_no_message_holds_a_number_that_somebody_may_have() -> None:
    found = [(e.source, k) for e in written_messages() for k, _ in personal_data(e.text) if k in {"phone", "id_number"}]

    assert found == []


def test_a_near_duplicate_is_found_and_another_message_is_not() -> None:
    texts = [
        "nhà em bị trộm đêm qua mất chiếc xe máy màu đỏ",
        "nha em bi trom dem qua mat chiec xe may mau do roi",
        "làm căn cước cho bé sáu tuổi cần giấy tờ gì",
    ]

    assert [(t.first, t.second) for t in near_duplicates(texts)] == [(0, 1)]


@pytest.mark.parametrize(
    ("category", "subtopic", "urgency"),
    [
        ("fire", None, "normal"),
        ("procedure", None, "normal"),
        ("complaint", "stay_notice", "normal"),
        ("crime_report", None, "normal"),
        ("greeting", None, "emergency"),
        ("procedure", "parking", "normal"),
    ],
)
def test_an_illegal_label_is_named(tmp_path: Path, category: str, subtopic: str | None, urgency: str) -> None:
    assert label_fault(category, subtopic, urgency)
    group = {"category": category, "subtopic": subtopic, "urgency": urgency, "texts": "xin chào\n"}
    file = tmp_path / "old-9.yaml"
    file.write_text(yaml.safe_dump({"writer": "old", "groups": [group]}), "utf-8")

    with pytest.raises(ConfigurationError, match="old-9"):
        read_messages(file)


def test_a_wrong_held_out_line_is_named_with_its_number(tmp_path: Path) -> None:
    good = {"id": "1", "text": "xin chào", "expected": {"category": "greeting"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(good) + "\n{}\n", "utf-8")

    with pytest.raises(ConfigurationError, match="line 2"):
        load_held_out(tmp_path)


def test_what_leads_to_a_person_is_replaced_and_named() -> None:
    text, kinds = scrubbed("gọi em 0912 345 678, cccd 079201001234, mail a@b.vn, xem https://x.vn/abc")

    assert kinds == ("phone", "id_number", "email", "link")
    assert not any(secret in text for secret in ("345", "079201", "a@b", "x.vn"))


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_variant_of_a_text_is_the_same_each_time(name: str) -> None:
    text = "Anh ơi, em không biết làm căn cước ở đâu, chỉ giùm em với. " * 4

    assert VARIANTS[name](text) == VARIANTS[name](text) != text
