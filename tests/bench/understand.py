"""Understanding without a broker or a database: category and unit of written messages, on one core.

Turn and turn about in one process: a batch at a time, one by one, fuzzed and hostile texts one by one, with twenty
times the places in the gazetteer, and a floor that folds and hashes the same texts and multiplies them with the same
weights.
"""

import itertools
import json
import random
import re
import tempfile
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from services.router.learning.corpus import load_messages
from services.router.learning.variants import in_teencode, with_typos, without_diacritics
from services.router.offline import BATCH, Line, OfflineRouter
from shared.garbage import collect_less_garbage
from tests.bench.measure import Comparison, Round, Series

DATA = Path(__file__).resolve().parents[2] / "data"
SINGLE, FUZZED, HOSTILE = 1_000, 2_000, 200
"""So many are read one by one in a round; fuzzed and hostile ones are others in each round, as an attacker's are."""
TIMES_THE_PLACES = 20

_WORD = re.compile(r"[^\W_]+")


def understand(*, items: int, rounds: int) -> Comparison:
    """Category and unit of `items` messages a round; seconds are CPU seconds, so that a busy machine counts less."""
    texts = _texts(items)
    lines = _lines(texts)
    single, fuzzed, hostile, floor = "one by one", "fuzzed", "hostile", "floor"
    larger = f"gazetteer {TIMES_THE_PLACES} times"
    what = {
        single: "the same, one by one",
        fuzzed: "fuzzed messages, never seen before, one by one",
        hostile: "hostile texts, half of them 100 kB, never seen before, one by one",
        larger: f"the same, with {TIMES_THE_PLACES} times the places",
        floor: "floor: folding, hashing, the bare product of weights",
    }
    result = Comparison(
        "understand", Series("category and unit, in batches"), {key: Series(text) for key, text in what.items()}
    )
    router = OfflineRouter(DATA)
    with tempfile.TemporaryDirectory() as folder:
        large = OfflineRouter(_with_more_places(Path(folder)), understanding=router.understanding)
    bare = _Bare(router.understanding.model.rows.weights())
    collect_less_garbage()  # as in the services and in `hub understand`
    for number in range(rounds + 1):
        measured = {
            "": _timed(router.understand_all, lines),
            single: _one_by_one(router, lines[:SINGLE]),
            fuzzed: _one_by_one(router, _lines(_fuzzed_texts(texts, FUZZED, number))),
            hostile: _one_by_one(router, _lines(_hostile_texts(HOSTILE, number))),
            larger: _timed(large.understand_all, lines),
            floor: _timed(bare.scores, texts),
        }
        if number:  # the first one warms up
            for key, one in measured.items():
                (result.floors[key] if key else result.ours).rounds.append(one)
    return result


def _lines(texts: Iterable[str]) -> list[Line]:
    return [Line(id=at, text=text, page="tan-chanh-hiep") for at, text in enumerate(texts)]


def _texts(count: int) -> list[str]:
    """Written messages of the training, some without diacritics, mistyped or in teencode; every one is another."""
    written = [example.text for example in load_messages(DATA / "understanding" / "messages")]
    chosen = sorted(written, key=lambda text: zlib.crc32(text.encode()))[:count]
    changes: tuple[Callable[[str], str], ...] = (str, str, str, str, str, without_diacritics, without_diacritics)
    changes += (without_diacritics, with_typos, in_teencode)
    return [changes[at % len(changes)](text) for at, text in enumerate(chosen)]


_LOOK_ALIKE = str.maketrans("aeocpxyi", "аеосрхуі")
_ANYTHING = (
    *((0x20, 0x7F), (0xC0, 0x250), (0x1E00, 0x1F00), (0x300, 0x370), (0x2000, 0x2070)),  # Latin, marks, unseen ones
    *((0x400, 0x500), (0x4E00, 0xA000), (0x1F300, 0x1F700)),
)


def _fuzzed_texts(written: Sequence[str], count: int, seed: int) -> list[str]:
    """Any characters, letters of another script, characters strewn in, several messages in one, one many times."""
    chance = random.Random(seed)

    def anything() -> str:
        return chr(chance.randrange(*chance.choice(_ANYTHING)))

    def strewn(text: str) -> str:
        cuts = sorted(chance.choices(range(len(text) + 1), k=chance.randint(1, 20)))
        return "".join(f"{text[start:end]}{anything()}" for start, end in itertools.pairwise((0, *cuts, len(text))))

    kinds: tuple[Callable[[], str], ...] = (
        lambda: "".join(anything() for _ in range(chance.randint(0, 500))),
        lambda: chance.choice(written).translate(_LOOK_ALIKE),
        lambda: strewn(chance.choice(written)),
        lambda: " ".join(chance.sample(written, chance.randint(1, 4))),
        lambda: f"{chance.choice(written)} " * chance.randint(1, 40),
    )
    return [chance.choice(kinds)() for _ in range(count)]


def _hostile_texts(count: int, seed: int) -> list[str]:
    """Without words, without ends, all numbers or marks, spaced out, joined, in other scripts: half of them 100 kB."""
    chance = random.Random(seed)
    pieces = ["cháy", "c h á y ", "а́", "́", "\u200b", "a", "1", "th 5 ", "tan chanh hiep ", "chayytamtru", "?", ". "]
    letters = "abcdeghiklmnopqrstuvxyăâđêôơưáàảãạ 0123456789.,?!⏎\n\u200b\u0301\ue000😀аё日"
    texts = []
    for at in range(count):
        length = 100_000 if at % 2 else 2_000
        kind = chance.choice((letters, pieces, (chance.choice(pieces),)))
        texts.append("".join(chance.choices(kind, k=length))[:length] + " cháy nhà")
    return texts


def _timed(work: Callable[[Any], Any], items: Sequence[Any]) -> Round:
    spent = 0.0
    each = []
    for start in range(0, len(items), BATCH):
        batch = items[start : start + BATCH]
        before = time.thread_time()
        work(batch)
        each.append(time.thread_time() - before)
        spent += each[-1]
    return Round(len(items), spent, spent, each)


def _one_by_one(router: OfflineRouter, lines: Sequence[Line]) -> Round:
    each = []
    for line in lines:
        before = time.thread_time()
        router.understand(line)
        each.append(time.thread_time() - before)
    return Round(len(lines), sum(each), sum(each), each)


class _Bare:
    """What any linear model over hashed words, pairs and parts of words costs in this language."""

    def __init__(self, weights: Any) -> None:
        self._weights = weights

    def scores(self, texts: Sequence[str]) -> Any:
        """A row of sums for each text."""
        size = len(self._weights)
        numbers: list[int] = []
        starts: list[int] = []
        for text in texts:
            words = _WORD.findall(unicodedata.normalize("NFKD", text).lower())
            starts.append(len(numbers))
            numbers += [hash(word) % size for word in words]
            numbers += [hash(pair) % size for pair in itertools.pairwise(words)]
            numbers += [hash(word[at : at + 3]) % size for word in words for at in range(len(word) - 2)]
            numbers.append(0)
        return np.add.reduceat(self._weights[np.array(numbers)], starts, axis=0)


def _with_more_places(folder: Path) -> Path:
    """A data folder whose gazetteer has many more names, put together from the syllables of real ones."""
    for entry in DATA.iterdir():
        if entry.name != "gazetteer":
            (folder / entry.name).symlink_to(entry)
    (folder / "gazetteer").mkdir()
    for entry in (DATA / "gazetteer").iterdir():
        if entry.name != "places.yaml":
            (folder / "gazetteer" / entry.name).symlink_to(entry)
    content = yaml.safe_load((DATA / "gazetteer" / "places.yaml").read_text("utf-8"))
    places = content["places"]
    added = [
        place
        | {
            "key": f"{turn}-{at}",
            "names": [f"{place['names'][0]} {places[(at + 37 * turn) % len(places)]['names'][0].split()[-1]}"],
        }
        for turn in range(1, TIMES_THE_PLACES)
        for at, place in enumerate(places)
    ]
    text = json.dumps(content | {"places": [*places, *added]}, ensure_ascii=False)
    (folder / "gazetteer" / "places.yaml").write_text(text, "utf-8")
    return folder
