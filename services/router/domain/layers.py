"""How a reading comes about: rules find, a model weighs, safety raises, and what stays unsure goes to a person.

1. The rule book names what is in the text; its matches are features like the words themselves.
2. The model gives each category its share.
3. Safety: a rule of emergency, or one sentence that alone is an emergency, can raise the reading, never lower it.
4. Costs: a machine's answer is given only where being wrong would cost little. Emergencies, crimes, tips and
   complaints are always read by a person, so only the other three need the decision.

Source: ADR 0010.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.router.domain.text import MAX_CHARACTERS, Words, fold, sentences_of
from services.router.domain.text_model import Scores, TextModel
from services.router.domain.understanding import (
    INCIDENTS,
    PRECEDENCE,
    Category,
    Findings,
    Match,
    MessageContext,
    Reading,
    Repairs,
    RuleUnderstanding,
    Urgency,
)
from services.router.domain.values import immutable

Share = Annotated[float, Field(gt=0, lt=1)]


class Policy(BaseModel):
    """`data/rules/decision.yaml`: where the lines are drawn.

    Attributes:
        emergency_from: share of `emergency` from which a message is one, by the category that is likelier.
        emergency_from_with_call: the same where a rule of the book says so too and one of the `call_concepts` is named.
        call_concepts: concepts of the lexicon that ask somebody to come.
        emergency_from_in_sentence: share of a single sentence that makes the whole message one.
        call_off_from: share of `greeting` from which a phrase that calls off a report is believed.
        call_off_doubted_from: share of emergency and crime together from which a person looks whether it is one.
        costs: what a machine's answer costs if the message was of this category.
        person_above: expected cost from which a person reads it.
        unsure_below: confidence below which a person is told that the machine cannot tell, whatever the category.
        incident_from: share of emergency and crime together from which a person reads it, whatever else it may be.
        incident_from_with_concept: the same where one of the `incident_concepts` or a rule of emergency is found.
        incident_concepts: concepts of the lexicon whose words may be an incident.
        incident_from_in_sentence: the same in a single sentence, which then says it plainly beside other matters.
        person_concepts: concepts of the lexicon whose texts a person reads whatever else they seem to be.
        raising_concepts: concepts of the lexicon that make an emergency of a greeting, a called-off report or `other`.
        asking_concepts: concepts of the lexicon that no greeting has, unless a rule or greeting concept is found too.
        greeting_concepts: concepts of the lexicon that hello, thanks and acknowledgement are made of.
        polite_words: what may stand beside phrases of greeting in a message that is nothing else.
        longest_readable: letters; a longer word is several written as one that nobody could take apart.
        silence_from: share of `other` from which a text that no rule knows is left without an answer.
        high_from: share from which a security tip is happening now or dangerous.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    emergency_from: dict[Category, Share]
    emergency_from_with_call: float = Field(gt=0, lt=1)
    call_concepts: frozenset[str]
    emergency_from_in_sentence: float = Field(gt=0, lt=1)
    call_off_from: float = Field(gt=0, lt=1)
    call_off_doubted_from: float = Field(gt=0, lt=1)
    costs: dict[str, float]
    wrong_subtopic_cost: float = Field(ge=0)
    person_above: float = Field(gt=0)
    unsure_below: float = Field(ge=0, lt=1)
    incident_from: float = Field(gt=0, lt=1)
    incident_from_with_concept: float = Field(gt=0, lt=1)
    incident_concepts: frozenset[str]
    incident_from_in_sentence: float = Field(gt=0, lt=1)
    person_concepts: frozenset[str]
    raising_concepts: frozenset[str]
    asking_concepts: frozenset[str]
    greeting_concepts: frozenset[str]
    polite_words: frozenset[str]
    longest_readable: int = Field(gt=0)
    silence_from: float = Field(gt=0, lt=1)
    high_from: float = Field(gt=0, lt=1)

    @field_validator("emergency_from")
    @classmethod
    def _names_every_rival(cls, shares: dict[Category, float]) -> dict[Category, float]:
        if missing := set(PRECEDENCE) - {"emergency"} - set(shares):
            raise ValueError(f"a line is missing for {', '.join(sorted(missing))}")
        return shares


SAFETY_PERSON = "safety.may_be_incident"
"""Reason code of a reading that a person sees for safety, not because the machine is unsure."""

_SAYS_NOTHING: frozenset[Category] = frozenset({"greeting", "other"})
_ANSWERED_BY_MACHINE: frozenset[Category] = frozenset({"procedure", "greeting", "other"})

_MAX_SENTENCES = 12
_RAISING = ("emergency_from_in_sentence", "incident_from", "incident_from_in_sentence")
_ANY_TIME = datetime(2025, 6, 30, tzinfo=UTC)


class LayeredUnderstanding:
    """The reading of the layers; behind the `Understanding` interface."""

    def __init__(self, rules: RuleUnderstanding, model: TextModel, policy: Policy) -> None:
        self._rules, self._model, self._policy = rules, model, policy
        self._dangers = _features_of(policy.incident_concepts)
        self._for_persons = _features_of(policy.person_concepts)
        self._raising = _features_of(policy.raising_concepts)
        self._asking = _features_of(policy.asking_concepts)
        self._greeting = _features_of(policy.greeting_concepts)
        self._polite = frozenset(fold(" ".join(policy.polite_words)).plain)
        self._calls = _features_of(policy.call_concepts)

    @property
    def model(self) -> TextModel:
        """The model in use."""
        return self._model

    def read(self, text: str, context: MessageContext) -> Reading:
        """Read one text; see `Understanding`."""
        return self.read_all([(text, context)])[0]

    def read_all(self, asked: Sequence[tuple[str, MessageContext]]) -> list[Reading]:
        """Read texts; see `Understanding`."""
        found = self._rules.examine_all([text for text, _ in asked])
        readings = [self._rules.without_content(f, context) for f, (_, context) in zip(found, asked, strict=True)]
        matters = [_Matter(asked[at][0], found[at]) for at, reading in enumerate(readings) if reading is None]
        decided = iter(self._decide(matters))
        return [next(decided) if reading is None else reading for reading in readings]

    def apart(self, text: str) -> dict[str, Category]:
        """What rules, model, and model without lexicon say by themselves; for reports."""
        findings = self._rules.examine(text)
        scores, without_lexicon = self._model.score_all([findings, replace(findings, lexicon=())])
        return {
            "rules": self._rules.judge(findings, MessageContext("text", _ANY_TIME)).category,
            "model": _likeliest(scores.categories),
            "model without lexicon": _likeliest(without_lexicon.categories),
        }

    def repairing(self, repairs: Repairs) -> "LayeredUnderstanding":
        """The same layers over a spelling of which less is mended; for reports."""
        return LayeredUnderstanding(self._rules.repairing(repairs), self._model, self._policy)

    def without_safety(self) -> "LayeredUnderstanding":
        """The model's reading and the costs of being wrong, with nothing that raises; for reports."""
        never = math.nextafter(1.0, 0.0)
        raising = {
            "emergency_from": dict.fromkeys(self._policy.emergency_from, never),
            **dict.fromkeys(_RAISING, never),
        }
        named = dict.fromkeys([name for name in Policy.model_fields if name.endswith("_concepts")], frozenset[str]())
        policy = self._policy.model_copy(update={**raising, **named, "longest_readable": MAX_CHARACTERS})
        return LayeredUnderstanding(self._rules, self._model, policy)

    def _decide(self, matters: Sequence["_Matter"]) -> list[Reading]:
        """Bring rules and scores together."""
        scores = self._model.score_all([matter.findings for matter in matters])
        likeliest = [_likeliest(one.categories) for one in scores]
        raised = [self._raised_by(*one) for one in zip(matters, scores, likeliest, strict=True)]
        incidents = self._raise_by_sentences(matters, likeliest, raised)
        choices = [self._choice(*one) for one in zip(matters, scores, likeliest, raised, strict=True)]
        categories = [choice.category for choice in choices]
        words = self._model.words_for(scores, categories)
        sure = self._model.confidences([one.categories[c] for one, c in zip(scores, categories, strict=True)])
        return [
            self._reading(matter, one, choice, words=spoke, confidence=confidence, says_incident=at in incidents)
            for at, (matter, one, choice, spoke, confidence) in enumerate(
                zip(matters, scores, choices, words, sure, strict=True)
            )
        ]

    def _raised_by(self, matter: "_Matter", scores: Scores, likeliest: Category) -> str | None:
        """The reason why a message is an emergency though the model thinks something else likelier."""
        policy, share = self._policy, scores.categories["emergency"]
        if likeliest == "emergency":
            return None
        if share >= policy.emergency_from[likeliest]:
            return "safety.may_be_emergency"
        if share < policy.emergency_from_with_call or self._calls.isdisjoint(matter.findings.lexicon):
            return None
        return "safety.rule" if _has_rule_of_emergency(matter.findings) else None

    def _raise_by_sentences(
        self, matters: Sequence["_Matter"], likeliest: Sequence[Category], raised: list[str | None]
    ) -> frozenset[int]:
        """What stands beside an emergency does not make it less of one, least of all an instruction to the machine.

        Returns:
            Which messages have a sentence that says an incident.
        """
        may_rise = [at for at, reason in enumerate(raised) if reason is None and likeliest[at] != "emergency"]
        several = [(at, sentences) for at in may_rise if len(sentences := self._sentences(matters[at])) > 1]
        examined = self._rules.examine_sentences(
            [(sentences, matters[at].text, matters[at].findings) for at, sentences in several]
        )
        owners = [at for at, sentences in several for _ in sentences]
        found = self._model.shares_of(("emergency", "crime_report"), [*chain.from_iterable(examined)])
        policy = self._policy
        from_where_injected = min(policy.emergency_from.values())
        incidents: set[int] = set()
        for at, (emergency, crime) in zip(owners, found, strict=True):
            is_injected = "injection" in matters[at].findings.found
            if emergency >= (from_where_injected if is_injected else policy.emergency_from_in_sentence):
                raised[at] = "safety.sentence"
            if emergency + crime >= policy.incident_from_in_sentence:
                incidents.add(at)
        return frozenset(incidents)

    def _sentences(self, matter: "_Matter") -> Sequence[str]:
        """The sentences that are read alone; none where something past is told."""
        return () if "past" in matter.findings.found else sentences_of(matter.text)[:_MAX_SENTENCES]

    def _choice(self, matter: "_Matter", scores: Scores, likeliest: Category, raised_by: str | None) -> "_Choice":
        if raised_by or likeliest == "emergency":
            return _Choice("emergency", raised_by)
        is_doubted = scores.categories["greeting"] < self._policy.call_off_from
        cancels = not is_doubted and self._rules.calls_off(matter.findings)
        if (cancels or likeliest in _SAYS_NOTHING) and not self._raising.isdisjoint(matter.findings.lexicon):
            return _Choice("emergency", "safety.farewell")
        if cancels:
            return _Choice("greeting", cancels=True)
        only_greets = likeliest in _ANSWERED_BY_MACHINE and self._rules.only_greets(matter.findings, self._polite)
        return _Choice("greeting", only_greets=True) if only_greets else _Choice(likeliest)

    def _reading(
        self,
        matter: "_Matter",
        scores: Scores,
        choice: "_Choice",
        *,
        words: Sequence[str],
        confidence: float,
        says_incident: bool,
    ) -> Reading:
        findings, category, share = matter.findings, choice.category, scores.categories
        matches = [match for match in findings.matches if match.rule.category == category]
        subtopic = self._subtopic(scores) if category == "procedure" else None
        if subtopic is not None:
            matches = [match for match in matches if match.rule.subtopic == subtopic]
        topics = _topics(matches)
        is_plain = choice.cancels or choice.only_greets
        confidence = round(0.9 if is_plain else confidence, 3)
        is_unsure = confidence < self._policy.unsure_below or (
            not is_plain and self._needs_person(category, subtopic, topics, scores, findings)
        )
        for_safety = (
            category in _ANSWERED_BY_MACHINE
            and not is_unsure
            and (says_incident or self._may_be_incident(scores, findings, choice))
        )
        return Reading(
            category,
            subtopic=subtopic,
            urgency=self._urgency(category, scores),
            confidence=confidence,
            needs_person=is_unsure or for_safety,
            reasons=(
                *((SAFETY_PERSON,) if for_safety else ()),
                *((choice.raised_by,) if choice.raised_by else ()),
                *(("reading.called_off",) if choice.cancels else ()),
                "model.decided" if not choice.raised_by else "model.outvoted",
                *dict.fromkeys([f"rule.{match.rule.key}" for match in matches]),
            )[:6],
            topics=topics,
            doubts=_rivals(category, share),
            evidence=tuple(dict.fromkeys([*chain.from_iterable([m.evidence for m in matches]), *words]))[:12],
            accuses_staff=category != "emergency" and findings.accuses_staff,
            cancels=choice.cancels,
            asks_for_person=findings.asks_for_person,
            language=findings.language,
        )

    def _subtopic(self, scores: Scores) -> str:
        return self._model.card.subtopics[scores.subtopics.index(max(scores.subtopics))]

    def _urgency(self, category: Category, scores: Scores) -> Urgency:
        if category == "emergency":
            return "emergency"
        if category == "crime_report":
            return "high"
        is_high = scores.high >= self._policy.high_from
        return "high" if category == "security_tip" and is_high else "normal"

    def _may_be_incident(self, scores: Scores, findings: Findings, choice: "_Choice") -> bool:
        """Whether a person has to look although a machine would be sure enough: nobody in need is left to it.

        Also where a report is called off: the same words may tell another one, or be a farewell.
        """
        policy, share = self._policy, _share_of_incidents(scores)
        if findings.accuses_staff or not self._for_persons.isdisjoint(findings.lexicon):
            return True
        if choice.only_greets:
            return False
        if choice.cancels:
            return share >= policy.call_off_doubted_from or _has_rule_of_emergency(findings)
        return (
            share >= policy.incident_from
            or (share >= policy.incident_from_with_concept and self._names_danger(findings))
            or _longest_of_letters(findings.words) > policy.longest_readable
        )

    def _names_danger(self, findings: Findings) -> bool:
        return _has_rule_of_emergency(findings) or not self._dangers.isdisjoint(findings.lexicon)

    def _asks_something(self, findings: Findings) -> bool:
        return not self._asking.isdisjoint(findings.lexicon) and self._greeting.isdisjoint(findings.lexicon)

    def _needs_person(
        self, category: Category, subtopic: str | None, topics: Sequence[str], scores: Scores, findings: Findings
    ) -> bool:
        """Whether being wrong would cost more than a person's minute."""
        if category not in _ANSWERED_BY_MACHINE:
            return False
        policy, share = self._policy, scores.categories
        if _is_mostly_noise(findings.words):
            return True
        if category == "other" and not topics and share["other"] < policy.silence_from:
            return True
        if category == "greeting" and not topics and self._asks_something(findings):
            return True
        cost = sum([policy.costs.get(other, 0.0) * share[other] for other in share if other != category])
        if subtopic is not None:
            cost += policy.wrong_subtopic_cost * (1 - max(scores.subtopics))
        return cost > policy.person_above


def _features_of(concepts: Iterable[str]) -> frozenset[str]:
    """What the lexicon calls these concepts where it is sure of them."""
    return frozenset(f"l:{concept}" for concept in concepts)


@immutable
class _Matter:
    """A text that says something, and what was found in it."""

    text: str
    findings: Findings


@immutable
class _Choice:
    """The category of a text, and what made it so other than the model."""

    category: Category
    raised_by: str | None = None
    cancels: bool = False
    only_greets: bool = False


def _has_rule_of_emergency(findings: Findings) -> bool:
    return any(match.rule.category == "emergency" for match in findings.matches)


def _topics(matches: Sequence[Match]) -> tuple[str, ...]:
    """The topics of rules, that of the surest one first."""
    if not matches:
        return ()
    surest = max(matches, key=lambda match: match.rule.confidence)
    return tuple(dict.fromkeys([match.rule.topic for match in (surest, *matches) if match.rule.topic]))


def _longest_of_letters(words: Words) -> int:
    """Letters of the longest word that is not a number or a mixture."""
    return max(map(len, filter(str.isalpha, words.plain)), default=0)


def _share_of_incidents(scores: Scores) -> float:
    return scores.categories["emergency"] + scores.categories["crime_report"]


def _likeliest(share: Mapping[str, float]) -> Category:
    return max(PRECEDENCE, key=share.__getitem__)


LEAST_NOISE, NOISE_FROM = 8, 0.6
"""A word said so often, and so large a share of a text, is a key held down or a child at play."""


def _is_mostly_noise(words: Words) -> bool:
    """Whether most of it is one word over and over: what else stands there may be chance."""
    count = len(words)
    if count - len(set(words.plain)) < LEAST_NOISE - 1:  # what is said eight times is seven times no new word
        return False
    most = max(Counter(words.plain).values())
    return most >= LEAST_NOISE and most >= NOISE_FROM * count


RIVAL_FROM = 0.15
_MATTERS: tuple[Category, ...] = tuple(c for c in PRECEDENCE if c not in {"greeting", "other"})


def _rivals(category: Category, share: Mapping[str, float]) -> tuple[str, ...]:
    return tuple([f"reading.also_{other}" for other in _MATTERS if share[other] >= RIVAL_FROM and other != category])


def is_answered_by_machine_alone(reading: Reading) -> bool:
    """Whether the hub would leave this message without any person: what must never happen to an incident."""
    return reading.category not in (*INCIDENTS, "complaint") and not reading.needs_person and not reading.cancels
