"""How a reading comes about: rules find, a model weighs, safety raises, and what stays unsure goes to a person.

1. The rule book names what is in the text; its matches are features like the words themselves.
2. The linear model gives each category its share.
3. Safety: a rule of emergency, or one sentence that alone is an emergency, can raise the reading, never lower it.
4. Costs: a machine's answer is given only where being wrong would cost little. Emergencies, crimes, tips and
   complaints are always read by a person, so only the other three need the decision.

Source: ADR 0010.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.linear_model import LinearModel, Scores
from services.router.domain.text import MAX_CHARACTERS
from services.router.domain.understanding import (
    INCIDENTS,
    PRECEDENCE,
    Category,
    Findings,
    MessageContext,
    Reading,
    RuleUnderstanding,
    Urgency,
)


class Policy(BaseModel):
    """`data/rules/decision.yaml`: where the lines are drawn.

    Attributes:
        emergency_from: share of `emergency` from which a message is one, whatever else it may be.
        emergency_from_with_rule: the same where a rule of the book says so too.
        emergency_from_in_sentence: share of a single sentence that makes the whole message one.
        call_off_from: share of `greeting` from which a phrase that calls off a report is believed.
        costs: what a machine's answer costs if the message was of this category.
        person_above: expected cost from which a person reads it.
        unsure_below: confidence below which a person is told that the machine cannot tell, whatever the category.
        silence_from: share of `other` from which a text that no rule knows is left without an answer.
        high_from: share from which a security tip is happening now or dangerous.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    emergency_from: float = Field(gt=0, lt=1)
    emergency_from_with_rule: float = Field(gt=0, lt=1)
    emergency_from_in_sentence: float = Field(gt=0, lt=1)
    call_off_from: float = Field(gt=0, lt=1)
    costs: dict[str, float]
    wrong_subtopic_cost: float = Field(ge=0)
    person_above: float = Field(gt=0)
    unsure_below: float = Field(ge=0, lt=1)
    silence_from: float = Field(gt=0, lt=1)
    high_from: float = Field(gt=0, lt=1)


_ANSWERED_BY_MACHINE: frozenset[Category] = frozenset({"procedure", "greeting", "other"})
_SENTENCES = re.compile(r"[.!?\n⏎…;]+")
_MAX_SENTENCES = 12
_ANY_TIME = datetime(2025, 6, 30, tzinfo=UTC)


class LayeredUnderstanding:
    """The reading of the layers; behind the `Understanding` interface."""

    def __init__(self, rules: RuleUnderstanding, model: LinearModel, policy: Policy) -> None:
        self._rules, self._model, self._policy = rules, model, policy

    @property
    def model(self) -> LinearModel:
        """The model in use."""
        return self._model

    def read(self, text: str, context: MessageContext) -> Reading:
        """Read a text; see `Understanding.read`."""
        findings = self._rules.examine(text)
        by_rules = self._rules.judge(findings, context)
        if by_rules.is_contentless:
            return by_rules
        return self.decide(text, findings, by_rules, self._model.score(findings))

    def apart(self, text: str) -> dict[str, Category]:
        """What each layer says by itself: rules, model, model without lexicon, and all together; for reports."""
        context = MessageContext("text", _ANY_TIME)
        findings = self._rules.examine(text)
        by_rules = self._rules.judge(findings, context)
        scores = self._model.score(findings)
        together = by_rules if by_rules.is_contentless else self.decide(text, findings, by_rules, scores)
        without_lexicon = self._model.score(replace(findings, lexicon=()))
        return {
            "rules": by_rules.category,
            "model": _likeliest(scores.categories),
            "model without lexicon": _likeliest(without_lexicon.categories),
            "all": together.category,
        }

    def decide(self, text: str, findings: Findings, by_rules: Reading, scores: Scores) -> Reading:
        """Bring rules and scores together."""
        policy, share = self._policy, scores.categories
        has_rule = any(match.rule.category == "emergency" for match in findings.matches)
        raised_by: tuple[str, ...] = ()
        category = _likeliest(share)
        if category != "emergency":
            if share["emergency"] >= policy.emergency_from:
                raised_by = ("safety.may_be_emergency",)
            elif has_rule and share["emergency"] >= policy.emergency_from_with_rule:
                raised_by = ("safety.rule",)
            elif self._has_emergency_sentence(text, findings):
                raised_by = ("safety.sentence",)
            if raised_by:
                category = "emergency"
        cancels = by_rules.cancels and category != "emergency" and share["greeting"] >= policy.call_off_from
        if cancels:
            category = "greeting"
        return self._reading(category, findings, scores, raised_by=raised_by, cancels=cancels)

    def _has_emergency_sentence(self, text: str, findings: Findings) -> bool:
        """What stands beside an emergency does not make it less of one, least of all an instruction to the machine."""
        sentences = [one for one in _SENTENCES.split(text[:MAX_CHARACTERS]) if one.strip()][:_MAX_SENTENCES]
        if len(sentences) < 2 or "past" in findings.found:
            return False
        from_share = self._policy.emergency_from_in_sentence
        if "injection" in findings.found:
            from_share = self._policy.emergency_from
        return any(
            self._model.score(self._rules.examine(one)).categories["emergency"] >= from_share for one in sentences
        )

    def _reading(
        self, category: Category, findings: Findings, scores: Scores, *, raised_by: tuple[str, ...], cancels: bool
    ) -> Reading:
        share = scores.categories
        matches = [match for match in findings.matches if match.rule.category == category]
        subtopic = max(scores.subtopics, key=lambda key: scores.subtopics[key]) if category == "procedure" else None
        if subtopic is not None:
            matches = [match for match in matches if match.rule.subtopic == subtopic]
        best = max(matches, key=lambda match: match.rule.confidence, default=None)
        in_order = (best, *matches) if best else ()
        confidence = round(0.9 if cancels else self._model.confidence(share[category]), 3)
        reading = Reading(
            category,
            subtopic=subtopic,
            urgency=self._urgency(category, scores),
            confidence=confidence,
            reasons=(
                *raised_by,
                *(("reading.called_off",) if cancels else ()),
                "model.decided" if not raised_by else "model.outvoted",
                *dict.fromkeys(f"rule.{match.rule.key}" for match in matches),
            )[:6],
            topics=tuple(dict.fromkeys(match.rule.topic for match in in_order if match.rule.topic)),
            doubts=_rivals(category, share),
            evidence=tuple(
                dict.fromkeys(
                    (*(p for match in matches for p in match.evidence), *self._model.words_for(scores, category))
                )
            )[:12],
            accuses_staff=findings.accuses_staff and category == "complaint",
            cancels=cancels,
            asks_for_person=findings.asks_for_person,
            language=findings.language,
        )
        return replace(reading, needs_person=self._needs_person(reading, scores, findings))

    def _urgency(self, category: Category, scores: Scores) -> Urgency:
        if category == "emergency":
            return "emergency"
        if category == "crime_report":
            return "high"
        is_high = scores.high >= self._policy.high_from
        return "high" if category == "security_tip" and is_high else "normal"

    def _needs_person(self, reading: Reading, scores: Scores, findings: Findings) -> bool:
        """Whether being wrong would cost more than a person's minute."""
        if reading.confidence < self._policy.unsure_below:
            return True
        if reading.category not in _ANSWERED_BY_MACHINE or reading.cancels:
            return False
        share = scores.categories
        if reading.category == "other" and not reading.topics and share["other"] < self._policy.silence_from:
            return True
        cost = sum(self._policy.costs.get(other, 0.0) * share[other] for other in share if other != reading.category)
        if reading.subtopic is not None:
            cost += self._policy.wrong_subtopic_cost * (1 - scores.subtopics[reading.subtopic])
        if any(match.rule.category == "emergency" for match in findings.matches):
            cost += self._policy.costs.get("emergency", 0.0) * self._policy.emergency_from_with_rule
        return cost > self._policy.person_above


def _likeliest(share: Mapping[str, float]) -> Category:
    return max(PRECEDENCE, key=lambda category: share[category])


RIVAL_FROM = 0.15


def _rivals(category: Category, share: Mapping[str, float]) -> tuple[str, ...]:
    others: Sequence[Category] = [c for c in PRECEDENCE if c != category and c not in {"greeting", "other"}]
    return tuple(f"reading.also_{other}" for other in others if share[other] >= RIVAL_FROM)


def is_answered_by_machine_alone(reading: Reading) -> bool:
    """Whether the hub would leave this message without any person: what must never happen to an incident."""
    return reading.category not in (*INCIDENTS, "complaint") and not reading.needs_person and not reading.cancels
