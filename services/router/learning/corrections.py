"""An officer's correction becomes a labelled example, once a person has reviewed it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from services.router.learning.corpus import LINE_BREAK, OFFICERS, label_fault, scrubbed, usual_urgency
from shared.errors import HubError


class CorrectionUnusable(HubError):
    """The correction gives no legal label or there is no text to learn from."""

    code = "label.unusable"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be learnt.

    Attributes:
        replaced: kinds of personal data that were replaced; names are left to the reviewer.
    """

    text: str
    category: str
    subtopic: str | None
    urgency: str
    replaced: tuple[str, ...]


def proposal(label: Mapping[str, Any], texts: Sequence[str]) -> Proposal:
    """The example a correction makes.

    Args:
        label: a document of `labels`: `was` and `right`.
        texts: what the citizen wrote in that case, in order.

    Raises:
        CorrectionUnusable: nothing can be learnt from it.
    """
    right, was = label.get("right", {}), label.get("was", {})
    category = right.get("category") or was.get("category") or ""
    is_same = category == was.get("category")
    subtopic = (
        (right.get("subtopic") or (was.get("subtopic") if is_same else None)) if category == "procedure" else None
    )
    usual = usual_urgency(category)
    urgency = right.get("urgency") or (was.get("urgency") if category == "security_tip" and is_same else None) or usual
    joined = f" {LINE_BREAK} ".join(" ".join(text.split()) for text in texts if text.strip())
    if not joined:
        raise CorrectionUnusable("the case holds no text")
    if fault := label_fault(category, subtopic, urgency):
        raise CorrectionUnusable(fault)
    text, replaced = scrubbed(joined)
    return Proposal(text, category, subtopic, urgency, replaced)


def append(folder: Path, found: Proposal) -> Path:
    """Add an example to `officers.yaml` of a folder; the same example is added once.

    Returns:
        The file.
    """
    file = folder / f"{OFFICERS}.yaml"
    content: dict[str, Any] = {"writer": OFFICERS, "groups": []}
    if file.exists():
        content = yaml.safe_load(file.read_text("utf-8"))
    head: dict[str, Any] = {"category": found.category, "urgency": found.urgency}
    if found.subtopic is not None:
        head["subtopic"] = found.subtopic
    group = next((g for g in content["groups"] if {k: v for k, v in g.items() if k != "texts"} == head), None)
    if group is None:
        group = {**head, "texts": ""}
        content["groups"].append(group)
    lines = group["texts"].splitlines()
    if found.text not in lines:
        group["texts"] = "\n".join([*lines, found.text]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=10_000), "utf-8")
    fresh.replace(file)
    return file
