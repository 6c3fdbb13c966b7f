"""Judging a reading: per class, confusion, calibration, what reaches a person, robustness, and each layer's part."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.router.domain.layers import SAFETY_PERSON, is_answered_by_machine_alone
from services.router.domain.understanding import PRECEDENCE, MessageContext, Reading
from services.router.learning.around import Around
from services.router.learning.corpus import HeldOut
from services.router.learning.variants import VARIANTS
from services.router.offline import BEFORE_THE_MERGER, OfflineRouter, Understood

BINS = 10
WORST = 20


@dataclass(frozen=True, slots=True)
class Judged:
    """One held-out message with what was made of it."""

    item: HeldOut
    understood: Understood

    @property
    def reading(self) -> Reading:
        """What the message was taken for."""
        return self.understood.reading


def evaluate(
    items: Sequence[HeldOut],
    router: OfflineRouter,
    around: Around,
    *,
    with_texts: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The whole report on labelled messages that nothing was trained on.

    Args:
        items: the messages.
        router: reads them.
        around: what to put around each message to see whether it changes anything.
        with_texts: whether the worst errors come with their texts; who has read them no longer writes for the training
            as if they had not.
        say: told what is going on.
    """
    say(f"reading {len(items)} messages")
    measured = measures_of(items, router)
    report = measured.figures
    base = report["macro_f1"]
    report["robustness"] = {}
    for name, change in (*VARIANTS.items(), ("around", around.for_measuring)):
        say(f"the same messages: {name}")
        changed = measures(_judge(items, router, change))
        report["robustness"][name] = {
            "macro_f1": changed["macro_f1"],
            "loss": round(base - changed["macro_f1"], 4),
            "emergency_recall": changed["per_class"]["emergency"]["recall"],
        }
    say("each layer alone")
    report["ablation"] = _ablation(items, router)
    report["worst"] = _worst(measured.judged, with_texts=with_texts)
    return report


def _judge(items: Sequence[HeldOut], router: OfflineRouter, change: Callable[[str], str] = str) -> list[Judged]:
    lines = [item.model_copy(update={"text": change(item.text)}) for item in items]
    return [Judged(item, one) for item, one in zip(items, router.understand_all(lines), strict=True)]


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures with the messages they come from."""

    figures: dict[str, Any]
    judged: list[Judged]


def measures_of(items: Sequence[HeldOut], router: OfflineRouter) -> Measured:
    """The figures without robustness and layers."""
    judged = _judge(items, router)
    return Measured(measures(judged), judged)


def measures(judged: Sequence[Judged]) -> dict[str, Any]:
    """The figures of a report."""
    wanted = [one.item.expected for one in judged]
    said = [one.reading for one in judged]
    pairs = Counter((w.category, s.category) for w, s in zip(wanted, said, strict=True))
    per_class = {category: _class_measures(category, pairs) for category in PRECEDENCE}
    present = [category for category in PRECEDENCE if per_class[category]["messages"]]
    procedures = [(w, s) for w, s in zip(wanted, said, strict=True) if w.category == "procedure"]
    incidents = [s for w, s in zip(wanted, said, strict=True) if w.category in INCIDENTS]
    urgent = [(w.urgency, s.urgency) for w, s in zip(wanted, said, strict=True) if w.urgency]
    return {
        "messages": len(judged),
        "macro_f1": _mean([per_class[category]["f1"] for category in present]),
        "per_class": per_class,
        "confusion": {w: {s: pairs[w, s] for s in PRECEDENCE if pairs[w, s]} for w in present},
        "subtopic_accuracy": _mean([w.subtopic == s.subtopic for w, s in procedures]),
        "urgency_accuracy": _mean([one == other for one, other in urgent]),
        "ward_accuracy": _mean([one.item.expected.ward == one.understood.ward for one in judged]),
        "calibration_error": calibration_error(
            [(s.confidence, w.category == s.category) for w, s in zip(wanted, said, strict=True)]
        ),
        "share_to_person": _mean([s.needs_person and SAFETY_PERSON not in s.reasons for s in said]),
        "share_for_safety": _mean([SAFETY_PERSON in s.reasons for s in said]),
        "incidents": len(incidents),
        "incidents_by_machine_alone": sum(is_answered_by_machine_alone(s) for s in incidents),
    }


def _class_measures(category: str, pairs: Counter[tuple[Any, Any]]) -> dict[str, Any]:
    right = pairs[category, category]
    wanted = sum(count for (w, _), count in pairs.items() if w == category)
    said = sum(count for (_, s), count in pairs.items() if s == category)
    precision, recall = right / said if said else 0.0, right / wanted if wanted else 0.0
    both = precision + recall
    return {
        "messages": wanted,
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / both if both else 0.0, 4),
    }


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def calibration_error(said: Sequence[tuple[float, bool]]) -> float:
    """How far confidence and truth lie apart on average, in ten bins."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in said:
        bins.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    gaps = [
        len(inside) * abs(sum(c for c, _ in inside) / len(inside) - sum(r for _, r in inside) / len(inside))
        for inside in bins.values()
    ]
    return round(sum(gaps) / len(said), 4) if said else 0.0


def _ablation(items: Sequence[HeldOut], router: OfflineRouter) -> dict[str, dict[str, float]]:
    """What each layer alone, and all layers but one, make of the messages, as written and with typos."""
    texts = [item.text for item in items], [VARIANTS["typos"](item.text) for item in items]
    found: dict[str, tuple[list[tuple[str, str]], ...]] = {}
    for at, some in enumerate(texts):
        for item, text in zip(items, some, strict=True):
            for name, category in router.understanding.apart(text).items():
                found.setdefault(name, ([], []))[at].append((item.expected.category, category))
    rows = {name: _layer(*pairs) for name, pairs in found.items()}
    understanding = router.understanding
    variants = {
        "all without safety": understanding.without_safety(),
        "all without undoing slips": understanding.repairing("no_slips"),
        "all without mending the spelling": understanding.repairing("nothing"),
        "all": understanding,
    }
    for name, one in variants.items():
        said = [one.read_all([(text, _CONTEXT) for text in some]) for some in texts]
        written, mistyped = ([(i.expected.category, r.category) for i, r in zip(items, s, strict=True)] for s in said)
        left = [
            item.expected.category in INCIDENTS and is_answered_by_machine_alone(reading)
            for item, reading in zip(items, said[0], strict=True)
        ]
        rows[name] = _layer(written, mistyped) | {"left_to_machine": sum(left)}
    return rows


INCIDENTS = frozenset({"emergency", "crime_report"})
_CONTEXT = MessageContext("text", BEFORE_THE_MERGER)


def _layer(written: Sequence[tuple[str, str]], mistyped: Sequence[tuple[str, str]]) -> dict[str, float]:
    emergencies = [said == "emergency" for wanted, said in written if wanted == "emergency"]
    return {
        "macro_f1": _macro(written),
        "macro_f1_typos": _macro(mistyped),
        "emergency_recall": _mean(emergencies),
    }


def _macro(pairs: Sequence[tuple[str, str]]) -> float:
    counted: Counter[tuple[Any, Any]] = Counter(pairs)
    return _mean([_class_measures(c, counted)["f1"] for c in PRECEDENCE if any(w == c for w, _ in pairs)])


def _worst(judged: Sequence[Judged], *, with_texts: bool) -> list[dict[str, Any]]:
    wrong = [one for one in judged if one.item.expected.category != one.reading.category]
    wrong.sort(key=lambda one: (PRECEDENCE.index(one.item.expected.category), -one.reading.confidence))
    return [
        {
            "id": one.item.id,
            "expected": one.item.expected.category,
            "said": one.reading.category,
            "confidence": one.reading.confidence,
            "needs_person": one.reading.needs_person,
        }
        | ({"text": one.item.text[:160]} if with_texts else {})
        for one in wrong[:WORST]
    ]


def as_text(report: dict[str, Any]) -> str:
    """The report for a person."""
    alone = f"{report['incidents_by_machine_alone']} of {report['incidents']}"
    lines = [
        f"{report['messages']} messages: macro-F1 {report['macro_f1']:.3f}",
        f"subtopic {report['subtopic_accuracy']:.3f}, urgency {report['urgency_accuracy']:.3f}",
        f"ward {report['ward_accuracy']:.3f}, calibration error {report['calibration_error']:.3f}",
        f"to a person {report['share_to_person']:.1%} as unsure and {report['share_for_safety']:.1%} for safety",
        f"emergencies and crimes by a machine alone {alone}",
        "",
        f"{'category':<14}{'messages':>9}{'precision':>11}{'recall':>8}{'F1':>7}",
    ]
    lines += [
        f"{category:<14}{one['messages']:>9}{one['precision']:>11.3f}{one['recall']:>8.3f}{one['f1']:>7.3f}"
        for category, one in report["per_class"].items()
    ]
    lines += ["", "confusion (expected: said)"]
    lines += [f"  {w}: " + ", ".join(f"{s} {n}" for s, n in row.items()) for w, row in report["confusion"].items()]
    lines += ["", "as others type it: macro-F1 (loss)"]
    lines += [f"  {name}: {one['macro_f1']:.3f} ({one['loss']:+.3f})" for name, one in report["robustness"].items()]
    layers = (f"{name} {one['macro_f1']:.3f}" for name, one in report["ablation"].items())
    lines += ["", "layers: " + ", ".join(layers)]
    lines += ["", "worst errors"]
    lines += [
        f"  {w['id']}: {w['expected']} -> {w['said']} {w['confidence']:.2f}"
        + (f" {w['text']!r}" if "text" in w else "")
        for w in report["worst"]
    ]
    return "\n".join(lines)


def as_markdown(report: dict[str, Any], command: str, day: str) -> str:
    """The report as a page of the documentation; the messages themselves stay out of it."""
    robustness = "\n".join(
        f"| {name} | {one['macro_f1']:.3f} | {one['loss']:+.3f} | {one['emergency_recall']:.3f} |"
        for name, one in report["robustness"].items()
    )
    classes = "\n".join(
        f"| {name} | {one['messages']} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} |"
        for name, one in report["per_class"].items()
    )
    confusion = "\n".join(
        f"| {wanted} | {', '.join(f'{said} {count}' for said, count in row.items() if said != wanted) or '-'} |"
        for wanted, row in report["confusion"].items()
    )
    layers = "\n".join(
        f"| {name} | {one['macro_f1']:.3f} | {one['macro_f1_typos']:.3f} | {one['emergency_recall']:.3f} "
        f"| {one.get('left_to_machine', '-')} |"
        for name, one in report["ablation"].items()
    )
    return f"""# Understanding, measured

Written by `{command}` on {day}, model `{report["model"]}`. The {report["messages"]} held-out messages come from an
author who wrote no training message; nothing is trained or tuned on them.

| figure | value | wanted |
| --- | --- | --- |
| macro-F1 | {report["macro_f1"]:.3f} | 0.95 |
| emergency recall | {report["per_class"]["emergency"]["recall"]:.3f} | 0.98 |
| emergency precision | {report["per_class"]["emergency"]["precision"]:.3f} | 0.80 |
| subtopic | {report["subtopic_accuracy"]:.3f} | 0.93 |
| urgency | {report["urgency_accuracy"]:.3f} | |
| ward | {report["ward_accuracy"]:.3f} | 0.97 |
| calibration error | {report["calibration_error"]:.3f} | 0.05 |
| share sent to a person as unsure | {report["share_to_person"]:.3f} | 0.08 |
| share sent to a person for safety alone | {report["share_for_safety"]:.3f} | |
| of {report["incidents"]} incidents by a machine alone | {report["incidents_by_machine_alone"]} | 0 |

| category | messages | precision | recall | F1 |
| --- | --- | --- | --- | --- |
{classes}

| expected | mistaken for |
| --- | --- |
{confusion}

| as others type it | macro-F1 | loss | emergency recall |
| --- | --- | --- | --- |
{robustness}

| layers | macro-F1 | with typos | emergency recall | incidents by a machine alone |
| --- | --- | --- | --- | --- |
{layers}
"""


def write(report: dict[str, Any], file: Path) -> None:
    """Keep a report as JSON, or as a page where the file is named *.md."""
    command = f"hub model evaluate --output {file.as_posix() if not file.is_absolute() else file.name}"
    text = (
        as_markdown(report, command, datetime.now(UTC).date().isoformat())
        if file.suffix == ".md"
        else json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    )
    file.write_text(text, "utf-8")
