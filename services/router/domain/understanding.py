"""What a message is about: the `Reading`, the interface that makes it, and a rule set over data.

The rules are the domain page's section 3 in order; their words are data (`data/rules/understanding.yaml`). A later
model stands behind the same `Understanding` interface, with these safety rules still before it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, filterfalse, islice, repeat
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from services.router.domain.lexicon import ConceptPhrases, Lexicon
from services.router.domain.phrase_table import PhraseTable
from services.router.domain.text import (
    Candidate,
    Entry,
    PhraseIndex,
    Span,
    Spelling,
    Words,
    WritingBook,
    fold,
    fold_sentences,
)
from services.router.domain.values import immutable
from shared.events import Language, MessageKind

Category = Literal["emergency", "crime_report", "security_tip", "complaint", "procedure", "greeting", "other"]
Urgency = Literal["emergency", "high", "normal"]

PRECEDENCE: tuple[Category, ...] = (
    "emergency",
    "crime_report",
    "security_tip",
    "complaint",
    "procedure",
    "greeting",
    "other",
)
"""Rule 1: of several intents the first of these counts."""

INCIDENTS: frozenset[Category] = frozenset({"emergency", "crime_report", "security_tip"})

PROCEDURE_SUBTOPICS = (
    "permanent_residence",
    "temporary_residence",
    "stay_notice",
    "temporary_absence",
    "residence_confirmation",
    "citizen_id_issue",
    "citizen_id_place",
    "citizen_id_lookup",
    "vneid_account",
    "vehicle_registration",
    "other_procedure",
)


@immutable
class MessageContext:
    """What is known around a text.

    Attributes:
        kind: a picture or a place may come with a text or without.
        sent_at: when it was written.
        page_unit: slug of the unit that owns the page.
        has_open_case: whether the citizen has something going on here.
    """

    kind: MessageKind
    sent_at: datetime
    page_unit: str | None = None
    has_open_case: bool = False


@immutable
class Reading:
    """What a message is about.

    Attributes:
        subtopic: of a procedure.
        confidence: how often such a reading is right, 0 to 1.
        needs_person: too uncertain for a machine's answer.
        reasons: reason codes of the rules that decided.
        topics: finer keys, such as `fire` or `staff`; they choose the answer and the team.
        doubts: reason codes of what speaks against it.
        evidence: phrases of our own lists that were found; never other words of the text.
        accuses_staff: an allegation against the police themselves.
        cancels: calls off an earlier report.
        asks_for_person: wants a person instead of the machine.
        is_contentless: nothing in it could be read: empty, emoji, a bare link.
        language: `en` for a foreigner who writes English.
    """

    category: Category
    subtopic: str | None = None
    urgency: Urgency = "normal"
    confidence: float = 0.0
    needs_person: bool = False
    reasons: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    accuses_staff: bool = False
    cancels: bool = False
    asks_for_person: bool = False
    is_contentless: bool = False
    language: Language = "vi"


class Understanding(Protocol):
    """Reads texts. Pure: the same text and context give the same reading."""

    def read_all(self, asked: Sequence[tuple[str, MessageContext]]) -> list[Reading]:
        """Say what each message is about, in their order; abstains with `needs_person` where it cannot tell.

        A text is read the same whatever stands beside it.
        """
        ...


class Rule(BaseModel):
    """One line of the rule book.

    Attributes:
        needs: concepts that must all be found and not be negated.
        unless: concepts of which none may be found.
        within: at most so many words between the first needed concept and each other.
        in_order: the others come after the first, which is who did it.
        apart_from: concepts of which none may stand between the first and another, nor over the first.
        not_after: concepts of which none may stand just before the first: who is called or asked has done nothing.
        topic: finer key; of a procedure it may name the subtopic's part.
        high: a security tip that is happening now or dangerous.
        confidence: how often it is right, from the messages it was written on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$")
    category: Category
    needs: tuple[str, ...] = Field(min_length=1)
    unless: tuple[str, ...] = ()
    within: int | None = None
    in_order: bool = False
    apart_from: tuple[str, ...] = ()
    not_after: tuple[str, ...] = ()
    subtopic: str | None = None
    topic: str | None = None
    high: bool = False
    ignores_negation: bool = False
    confidence: float = Field(gt=0, lt=1)


class RuleBook(BaseModel):
    """`data/rules/understanding.yaml`.

    Attributes:
        concepts: name to phrases; `=` before a phrase demands its diacritics.
        masks: phrases inside which nothing else is read: "phòng cháy" is no fire.
        places: names that say where and not what; the model weighs nothing of them, and nothing else is read in them.
        place_words: what stands before such a name and goes with it: "phường".
        negations: words that turn what follows into its opposite.
        negation_fillers: words that may stand between a negation and what it negates.
        english: words that only an English text has.
        bare_words: concepts whose single words are also taken without their diacritics.
        telling: of a category, or of a procedure's subtopic, the concepts of the lexicon whose phrases are such a
            matter by themselves; the training reads them as short messages.
        person_below: a confidence below this needs a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    negations: tuple[str, ...]
    negation_fillers: tuple[str, ...]
    english: tuple[str, ...]
    masks: tuple[str, ...]
    places: tuple[str, ...] = ()
    place_words: frozenset[str] = frozenset()
    bare_words: frozenset[str] = frozenset()
    person_below: float
    concepts: dict[str, tuple[str, ...]]
    telling: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rules: tuple[Rule, ...]


Repairs = Literal["everything", "no_slips", "nothing"]

_NEGATION, _MASK, _PLACE = "~negation", "~mask", "~place"
_NO_CONCEPTS = frozenset({_NEGATION, _MASK, _PLACE})

Named = dict[str, list[Span[str]]]
"""Phrases by what they name."""


@immutable
class Match:
    """A rule that matches, with the phrases of our lists that made it match."""

    rule: Rule
    evidence: tuple[str, ...]


@immutable
class Findings:
    """What was found in a text, before anybody decides what it means.

    Attributes:
        words: the words as they were meant.
        weighed: those that the model weighs: without the names of places.
        found: concepts by name.
        negated: concepts behind a negation.
        masks: phrases inside which nothing else is read.
        matches: rules that match, in the order of the book.
        lexicon: concepts of the lexicon, as features of the model.
        has_question_mark: whether the text has one.
    """

    words: Words
    weighed: Words
    found: Mapping[str, Sequence[Span[str]]]
    negated: Mapping[str, Sequence[Span[str]]]
    masks: Sequence[Span[str]]
    matches: tuple[Match, ...]
    lexicon: Sequence[str]
    has_question_mark: bool
    language: Language

    @property
    def has_letters(self) -> bool:
        """Whether there is anything to read."""
        return any(map(str.isalpha, chain.from_iterable(self.words.plain)))

    @property
    def accuses_staff(self) -> bool:
        """An allegation against the police themselves."""
        return any(match.rule.topic == "staff" for match in self.matches)

    @property
    def asks_for_person(self) -> bool:
        """Wants a person instead of the machine."""
        return "wants_person" in self.found


class RuleUnderstanding:
    """The rule book applied. Safety first: whatever matches as an emergency is one, whatever else the text says."""

    def __init__(
        self, book: RuleBook, writing: WritingBook, lexicon: Lexicon, *, repairs: Repairs = "everything"
    ) -> None:
        """Index the book.

        Args:
            book: the rules.
            writing: how people write.
            lexicon: concepts that the model weighs.
            repairs: what of the spelling is mended; less than everything is for measuring what the rest is worth.

        Raises:
            ValueError: a rule names a concept that has no phrases.
        """
        self._book, self._writing, self._lexicon = book, writing, lexicon
        phrases_of_rules = (p.removeprefix("=") for listed in book.concepts.values() for p in listed)
        known = chain(phrases_of_rules, lexicon.phrases)
        self._spelling = (
            Spelling(writing, known, undoes_slips=repairs == "everything") if repairs != "nothing" else None
        )
        phrases = [
            (phrase if name in book.bare_words else _with_its_marks(phrase), name)
            for name, listed in book.concepts.items()
            for phrase in listed
        ]
        phrases += [(phrase, _NEGATION) for phrase in book.negations]
        phrases += [(phrase, _MASK) for phrase in book.masks]
        phrases += [(_with_its_marks(name), _PLACE) for name in book.places]
        self._index: PhraseIndex[str] = PhraseIndex(phrases)
        self._phrases = PhraseTable(self._index.tree, lexicon.tree)
        self._fillers = frozenset(fold(" ".join(book.negation_fillers)).plain)
        self._place_words = frozenset(fold(" ".join(book.place_words)).plain)
        self._english = frozenset(book.english)
        self._greetings = frozenset(need for rule in book.rules if rule.category == "greeting" for need in rule.needs)
        self._rules_by_trigger: dict[str, list[tuple[int, Rule, frozenset[str]]]] = {}
        for order, rule in enumerate(book.rules):
            for concept in (*rule.needs, *rule.unless, *rule.apart_from, *rule.not_after):
                if concept not in book.concepts and concept not in DERIVED:
                    raise ValueError(f"rule {rule.key} names the concept {concept}, which has no phrases")
            self._rules_by_trigger.setdefault(rule.needs[0], []).append((order, rule, frozenset(rule.needs)))
        if missing := sorted({*chain.from_iterable(book.telling.values())} - set(lexicon.concepts)):
            raise ValueError(f"telling concepts are not in the lexicon: {', '.join(missing)}")
        if missing := sorted({*book.telling} - {*PRECEDENCE, *PROCEDURE_SUBTOPICS}):
            raise ValueError(f"no category or subtopic is called {', '.join(missing)}")

    def repairing(self, repairs: Repairs) -> "RuleUnderstanding":
        """The same rules over a spelling of which less is mended."""
        return RuleUnderstanding(self._book, self._writing, self._lexicon, repairs=repairs)

    def read(self, text: str, context: MessageContext) -> Reading:
        """Read a text by the rules alone."""
        return self.judge(self.examine(text), context)

    def read_all(self, asked: Sequence[tuple[str, MessageContext]]) -> list[Reading]:
        """Read texts by the rules alone; see `Understanding`."""
        return [self.read(text, context) for text, context in asked]

    def telling_phrases(self) -> list[tuple[Rule, str]]:
        """Phrases that make a matter by themselves, with their rule."""
        return [
            (rule, phrase.removeprefix("="))
            for rule in self._book.rules
            if len(rule.needs) == 1 and rule.needs[0] in self._book.concepts
            for phrase in self._book.concepts[rule.needs[0]]
        ]

    def telling_concepts(self) -> list[tuple[str, str]]:
        """Phrases of several words that the lexicon has for one category, or for one subtopic of a procedure."""
        return [
            (matter, phrase)
            for matter, concepts in self._book.telling.items()
            for concept in concepts
            for phrase in self._lexicon.concepts[concept]
            if " " in phrase
        ]

    def examine(self, text: str) -> Findings:
        """Find the words, what they name, and the rules that match; no decision yet."""
        return self.examine_all([text])[0]

    def examine_all(self, texts: Sequence[str]) -> list[Findings]:
        """What `examine` finds in each text, for less."""
        return self._find([fold(text, self._spelling) for text in texts], ["?" in text for text in texts])

    def examine_sentences(self, asked: Iterable[tuple[Sequence[str], str, Findings]]) -> list[list[Findings]]:
        """What `examine` finds in sentences alone, for less.

        Args:
            asked: the first sentences of a text, in order, the text, and what was found in it.
        """
        folded = [fold_sentences(sentences, text, whole.words, self._spelling) for sentences, text, whole in asked]
        found = iter(self._find([*chain.from_iterable(folded)], repeat(False)))  # a question mark ends a sentence
        return [[*islice(found, len(sentences))] for sentences in folded]

    def _find(self, folded: Sequence[Words], has_question_mark: Iterable[bool]) -> list[Findings]:
        candidates = self._phrases.candidates([words.plain for words in folded])
        return [
            self._findings(words, of_rules, of_lexicon, has_question_mark=asks)
            for words, (of_rules, of_lexicon), asks in zip(folded, candidates, has_question_mark, strict=False)
        ]

    def _findings(
        self,
        words: Words,
        of_rules: Sequence[Candidate[list[Entry[str]]]],
        of_lexicon: Sequence[Candidate[ConceptPhrases]],
        *,
        has_question_mark: bool,
    ) -> Findings:
        named: Named = {}
        for span in self._index.fitting(words, of_rules):
            named.setdefault(span.value, []).append(span)
        weighed = self._without_places(words, named.get(_PLACE, ()))
        named = _without_chance_words(named, words)
        found, negated = self._concepts(named, words, has_question_mark=has_question_mark)
        return Findings(
            words=words,
            weighed=weighed,
            found=found,
            negated=negated,
            masks=named.get(_MASK, ()),
            matches=tuple(self._matches(found, negated, words)),
            lexicon=self._lexicon.names(words, of_lexicon),
            has_question_mark=has_question_mark,
            language="en" if self._is_english(words) else "vi",
        )

    def _without_places(self, words: Words, places: Sequence[Span[str]]) -> Words:
        """The words but those of places: a fire is one wherever it is."""
        if not places:
            return words
        taken = {at for span in places for at in range(span.start, span.end)}
        for first in [*taken]:
            at = first - 1
            while at >= 0 and words.plain[at] in self._place_words:
                taken.add(at)
                at -= 1
        return words.without(taken)

    def without_content(self, findings: Findings, context: MessageContext) -> Reading | None:
        """The reading of what says nothing; None where there is something to read."""
        if not findings.has_letters:
            return _contentless(context)
        if self.calls_off(findings) or (
            findings.matches and not _says_more_than_hello(findings.matches, findings.words)
        ):
            return None
        if findings.asks_for_person or _has_text(findings.words):
            return None
        return _unknown(findings.words, language=findings.language, asks_for_person=False)

    def only_greets(self, findings: Findings, polite: frozenset[str]) -> bool:
        """Whether there is nothing but phrases of greetings, thanks and the like, and these polite words."""
        if not findings.matches or any(match.rule.category != "greeting" for match in findings.matches):
            return False
        spans = chain.from_iterable(findings.found.get(concept, ()) for concept in self._greetings)
        said = {at for span in spans for at in range(span.start, span.end)}
        return all(at in said or word in polite for at, word in enumerate(findings.words.plain))

    def calls_off(self, findings: Findings) -> bool:
        """Whether a phrase takes an earlier report back, and nothing happens now."""
        return "call_off" in findings.found and not (
            "happening_now" in findings.found and any(m.rule.category == "emergency" for m in findings.matches)
        )

    def judge(self, findings: Findings, context: MessageContext) -> Reading:
        """The category that the rules give."""
        words, found, matches, language = findings.words, findings.found, findings.matches, findings.language
        if not findings.has_letters:
            return _contentless(context)
        if self.calls_off(findings):
            return Reading(
                "greeting",
                confidence=0.9,
                reasons=("reading.called_off",),
                cancels=True,
                evidence=tuple(s.phrase for s in found["call_off"]),
                language=language,
            )
        if not matches or _says_more_than_hello(matches, words):
            return _unknown(words, language=language, asks_for_person=findings.asks_for_person)
        return self._reading(matches, findings)

    def _is_english(self, words: Words) -> bool:
        if True in words.is_accented:
            return False
        share = list(map(self._english.__contains__, words.plain)).count(True)
        return share >= 2 and share >= 0.2 * len(words)

    def _concepts(self, named: "Named", words: Words, *, has_question_mark: bool) -> tuple["Named", "Named"]:
        """Concepts found, and those found behind a negation; nothing is read inside a longer mask or place."""
        covering = _longest_over([*named.get(_MASK, ()), *named.get(_PLACE, ())])
        negation_ends = {span.end for span in named.get(_NEGATION, ())}
        found = {name: spans for name, spans in named.items() if name not in _NO_CONCEPTS}
        if covering:
            found = _where(found, lambda span: not _is_covered(span, covering))
        negated: Named = {}
        if negation_ends:
            negated = _where(found, lambda span: self._is_negated(span, words, negation_ends))
            found = _where(found, lambda span: span not in negated.get(span.value, ()))
        _add_derived(found, has_question_mark=has_question_mark)
        return found, negated

    def _is_negated(self, span: Span[str], words: Words, negation_ends: set[int]) -> bool:
        at = span.start
        while at > 0:
            if words.ends_clause[at - 1]:
                return False
            if at in negation_ends:
                # "bị cướp không?" ends a question; a negation that closes the clause before it was caught above.
                return True
            if words.plain[at - 1] not in self._fillers:
                return False
            at -= 1
        return False

    def _matches(
        self, found: Mapping[str, Sequence[Span[str]]], negated: Mapping[str, Sequence[Span[str]]], words: Words
    ) -> list[Match]:
        matches: list[tuple[int, Match]] = []
        for concept in {**negated, **found} if negated else found:
            for order, rule, needs in self._rules_by_trigger.get(concept, ()):
                pool = _both(found, negated) if negated and rule.ignores_negation else found
                if pool.keys() >= needs and not _is_stopped(rule, pool, found, words):
                    if rule.within is not None and not _are_near(rule, pool, rule.within, found, words):
                        continue
                    evidence = tuple(pool[need][0].phrase for need in rule.needs)
                    matches.append((order, Match(rule, evidence)))
        return [match for _, match in sorted(matches, key=lambda item: item[0])]

    def _reading(self, matches: Sequence[Match], findings: Findings) -> Reading:
        by_category: dict[Category, list[Match]] = {}
        for match in matches:
            by_category.setdefault(match.rule.category, []).append(match)
        category = next(c for c in PRECEDENCE if c in by_category)
        is_advert = any(m.rule.topic == "advert" for m in by_category.get("other", ()))
        if "other" in by_category and (category == "greeting" or (is_advert and category != "emergency")):
            category = "other"  # rule 8: an advert stays one, whatever it names; a hello before a matter is no greeting
        deciding = by_category[category]
        if category == "other" and is_advert:  # a flat for sale "with its land title" asks nothing about titles
            deciding = [match for match in deciding if match.rule.topic == "advert"]
        best = max(deciding, key=lambda m: m.rule.confidence)
        rivals = [c for c in by_category if c != category and c not in {"greeting", "other"}]
        confidence = _combined([m.rule.confidence for m in deciding], has_rivals=bool(rivals))
        return Reading(
            category,
            subtopic=best.rule.subtopic or ("other_procedure" if category == "procedure" else None),
            urgency=_urgency(category, deciding),
            confidence=confidence,
            needs_person=confidence < self._book.person_below,
            reasons=tuple(dict.fromkeys(f"rule.{m.rule.key}" for m in deciding))[:6],
            topics=tuple(dict.fromkeys(m.rule.topic for m in (best, *deciding) if m.rule.topic)),
            doubts=tuple(f"reading.also_{rival}" for rival in rivals),
            evidence=tuple(dict.fromkeys(phrase for m in deciding for phrase in m.evidence))[:12],
            accuses_staff=findings.accuses_staff,
            asks_for_person=findings.asks_for_person,
            language=findings.language,
        )


DERIVED = frozenset({"only_past", "only_thanks", "only_real"})
"""Concepts that are made of others: told as past and not as present; thanks without a question; a crime suffered and
not only supposed."""


def _add_derived(found: dict[str, list[Span[str]]], *, has_question_mark: bool) -> None:
    if "past" in found and "happening_now" not in found:
        found["only_past"] = found["past"]
    if "thanks" in found and "asking" not in found and not has_question_mark:
        found["only_thanks"] = found["thanks"]
    if "suffered" in found and "supposed" not in found:
        found["only_real"] = found["suffered"]


MAX_WORDS_AROUND_HELLO = 8


def _says_more_than_hello(matches: Sequence[Match], words: Words) -> bool:
    """A polite opening before something that no rule knows: only a person can tell what it is."""
    return len(words) > MAX_WORDS_AROUND_HELLO and all(m.rule.topic == "hello" for m in matches)


def _with_its_marks(phrase: str) -> str:
    """A single word is only meant as it is written."""
    return phrase if phrase.startswith("=") or " " in phrase else f"={phrase}"


_NEVER_BY_CHANCE = frozenset({"happening_now", "just_now", _NEGATION})


def _without_chance_words(named: Named, words: Words) -> Named:
    """Without diacritics one word of a longer phrase looks like another word: the "can" of "can cuoc" is no "cần"."""
    if False not in words.is_accented:
        return named
    phrases = chain.from_iterable(named.values())
    inside = {at for start, end, _, _ in phrases if end - start > 1 for at in range(start, end)}
    if not inside:
        return named
    return _where(
        named,
        lambda span: (
            span.end - span.start > 1
            or words.is_accented[span.start]
            or span.start not in inside
            or span.value in _NEVER_BY_CHANCE
        ),
    )


def _where(named: Named, is_wanted: Callable[[Span[str]], bool]) -> Named:
    """Some of the phrases."""
    return {name: kept for name, spans in named.items() if (kept := [*filter(is_wanted, spans)])}


def _both(
    found: Mapping[str, Sequence[Span[str]]], negated: Mapping[str, Sequence[Span[str]]]
) -> dict[str, Sequence[Span[str]]]:
    return {name: [*found.get(name, ()), *negated.get(name, ())] for name in (*found, *negated)}


def _longest_over(spans: Iterable[Span[str]]) -> dict[int, int]:
    """Of each word that phrases stand over, the length of the longest of them."""
    longest: dict[int, int] = {}
    for span in spans:
        length = span.end - span.start
        for at in range(span.start, span.end):
            longest[at] = max(length, longest.get(at, 0))
    return longest


def _is_covered(span: Span[str], longest: Mapping[int, int]) -> bool:
    """Whether a longer phrase stands over a word of it."""
    words = range(span.start, span.end)
    return any(longest.get(at, 0) > len(words) for at in words)


def _is_stopped(
    rule: Rule, pool: Mapping[str, Sequence[Span[str]]], found: Mapping[str, Sequence[Span[str]]], words: Words
) -> bool:
    """Whether something speaks against the rule. Against an emergency only what stands in the same sentence does."""
    if found.keys().isdisjoint(rule.unless):
        return False
    if rule.category != "emergency":
        return True
    stops = [span for stop in rule.unless for span in found.get(stop, ())]
    stopped = {words.sentence[span.start] for span in stops}
    return all(words.sentence[span.start] in stopped for span in pool[rule.needs[0]])


def _are_near(
    rule: Rule,
    pool: Mapping[str, Sequence[Span[str]]],
    within: int,
    found: Mapping[str, Sequence[Span[str]]],
    words: Words,
) -> bool:
    firsts: Iterable[Span[str]] = pool[rule.needs[0]]
    others = [pool[need] for need in rule.needs[1:]]
    if not rule.in_order:
        return any(all(any(_gap(first, one) <= within for one in spans) for spans in others) for first in firsts)
    called = [span for concept in rule.not_after for span in found.get(concept, ())]
    between = [span for concept in rule.apart_from for span in found.get(concept, ())]
    firsts = [first for first in firsts if not any(_is_just_before(span, first, words) for span in called)]
    return any(
        all(any(_leads_to(first, one, within, between, words) for one in spans) for spans in others) for first in firsts
    )


WORDS_BEFORE_WHO = 2
"""Of "nhờ mấy anh công an": words between the call and who is called."""


def _is_just_before(span: Span[str], first: Span[str], words: Words) -> bool:
    return (
        span.start < first.start <= span.end + WORDS_BEFORE_WHO
        and True not in words.ends_clause[span.end - 1 : first.start]
    )


def _leads_to(first: Span[str], one: Span[str], within: int, between: Sequence[Span[str]], words: Words) -> bool:
    """Whether what was done follows who did it in the same sentence, with nobody else between."""
    return (
        0 <= one.start - first.end <= within
        and words.sentence[first.start] == words.sentence[one.start]
        and not any(span.start < one.start and first.start < span.end for span in between)
    )


def _gap(one: Span[str], other: Span[str]) -> int:
    return max(one.start - other.end, other.start - one.end, 0)


def _combined(confidences: Sequence[float], *, has_rivals: bool) -> float:
    """Several rules that agree are surer than one; another intent beside them takes some away."""
    doubt = 1.0
    for confidence in sorted(confidences, reverse=True)[:3]:
        doubt *= 1 - confidence
    sure = min(0.98, 1 - doubt)
    return round(sure - (0.1 if has_rivals else 0.0), 3)


def _urgency(category: Category, matches: Sequence[Match]) -> Urgency:
    if category == "emergency":
        return "emergency"
    if category == "crime_report":
        return "high"
    return "high" if category == "security_tip" and any(m.rule.high for m in matches) else "normal"


LEAST_WORDS = 2
"""Less than so many words that no rule knows say nothing."""

_UNREADABLE_KINDS: frozenset[MessageKind] = frozenset({"image", "audio", "video", "file", "location"})


def _contentless(context: MessageContext) -> Reading:
    kind_matters = context.kind in _UNREADABLE_KINDS
    return Reading(
        "other",
        confidence=0.9,
        reasons=(f"reading.only_{context.kind}" if kind_matters else "reading.contentless",),
        is_contentless=True,
    )


LEAST_LETTERS = 3
"""One word of so many letters and digits may say it all: "chay", "lua"."""


def _has_text(words: Words) -> bool:
    said = list(islice(filterfalse(str.isdigit, words.plain), LEAST_WORDS))
    return len(said) >= LEAST_WORDS or any(len(word) >= LEAST_LETTERS for word in said)


def _unknown(words: Words, *, language: Language, asks_for_person: bool) -> Reading:
    is_contentless = not _has_text(words) and not asks_for_person
    return Reading(
        "other",
        confidence=0.3,
        needs_person=not is_contentless,
        reasons=("reading.contentless" if is_contentless else "reading.unknown",),
        asks_for_person=asks_for_person,
        is_contentless=is_contentless,
        language=language,
    )


def failed_reading() -> Reading:
    """What stands in for a reading when a rule failed: a person reads it."""
    return Reading("other", confidence=0.0, needs_person=True, reasons=("understanding.failed",))
