"""Ten thousand broken versions of real payloads through the real application: an answer with a reason for each."""

import json
import random
import warnings
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.properties import examples
from tests.unit.intake.support import as_raw, call, payload, payload_files, signed
from tests.unit.intake.test_endpoints import Intake

MUTATIONS = 10_000
SEED = 20_261_124

ORIGINALS = [as_raw(payload(file.stem)) for file in payload_files()]
ODD_VALUES: list[Any] = [
    {"$ne": None},
    {"$gt": ""},
    {"$where": "sleep(1000)"},
    None,
    True,
    -1,
    2**63,
    2**64,
    10**300,
    1e308,
    "",
    " ",
    "\x00",
    "a" * 5_000,
    "../../etc/passwd",
    "\u202e\u200b",
    [],
    [[[[]]]],
    {},
    [{"$ne": None}] * 3,
    "NaN",
    "9" * 400,
]
ODD_TOKENS = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b"9" * 5_000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\x00",
    b"\xff",
    b'"\xed\xa0\x80"',
    b"// x",
    b"undefined",
]


def flip_bytes(raw: bytes, dice: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(dice.randint(1, 8)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def truncate(raw: bytes, dice: random.Random) -> bytes:
    return raw[: dice.randrange(len(raw))]


def repeat_a_part(raw: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(raw))
    end = dice.randrange(start, len(raw))
    return raw[:end] + raw[start:end] * dice.randint(1, 5) + raw[end:]


def double_a_key(raw: bytes, dice: random.Random) -> bytes:
    body = json.loads(raw)
    name = dice.choice(list(body))
    second = json.dumps({name: dice.choice(ODD_VALUES)}).encode()
    return raw[:-1] + b"," + second[1:]


def put_an_odd_token(raw: bytes, dice: random.Random) -> bytes:
    name: str = dice.choice(list(json.loads(raw)))
    return b'{"' + name.encode() + b'":' + dice.choice(ODD_TOKENS) + b"," + raw[1:]


def put_an_odd_value(raw: bytes, dice: random.Random) -> bytes:
    body = json.loads(raw)
    for _ in range(dice.randint(1, 3)):
        inside: Any = body
        while True:
            keys: list[Any] = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = dice.choice(keys)
            if isinstance(inside[key], dict | list) and dice.random() < 0.7:
                inside = inside[key]
                continue
            inside[key] = deepcopy(dice.choice(ODD_VALUES))
            break
    return json.dumps(body).encode()


def drop_a_member(raw: bytes, dice: random.Random) -> bytes:
    body = json.loads(raw)
    inside = dice.choice([body, *(one for one in body.values() if isinstance(one, dict) and one)])
    del inside[dice.choice(list(inside))]
    return json.dumps(body).encode()


def swap_the_event(raw: bytes, dice: random.Random) -> bytes:
    other = json.loads(dice.choice(ORIGINALS))
    return json.dumps({**json.loads(raw), "event_name": other["event_name"]}).encode()


def blow_up(raw: bytes, dice: random.Random) -> bytes:
    sizes, weights = (1_000, 400_000, 600_000, 5_000_000), (70, 20, 8, 2)
    return raw[:-1] + b',"x":"' + b"y" * dice.choices(sizes, weights)[0] + b'"}'


MUTATORS = [
    flip_bytes,
    truncate,
    repeat_a_part,
    double_a_key,
    put_an_odd_token,
    put_an_odd_value,
    put_an_odd_value,
    put_an_odd_value,
    drop_a_member,
    swap_the_event,
    blow_up,
]


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Intake:
    return Intake(tmp_path_factory.mktemp("intake"))


def holds_no_operator(event: Any) -> bool:
    """Whether every id of the event is a string: nothing that a query could take for an operator."""
    ids = event.model_dump(include={"oa_id", "user_id", "message_id", "user_id_by_app", "conversation_id"})
    return all(value is None or isinstance(value, str) for value in ids.values())


async def test_every_mutation_of_a_real_payload_gets_an_answer_with_a_reason(intake: Intake) -> None:
    dice = random.Random(SEED)
    codes: Counter[str] = Counter()
    intake.publisher.published.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(MUTATIONS):
            raw = dice.choice(MUTATORS)(dice.choice(ORIGINALS), dice)
            is_signed = dice.random() < 0.9
            headers = signed(raw) if is_signed else signed(raw + b" ")
            reply = await call(intake.app, raw=raw, headers=headers)
            assert reply is not None
            assert reply.status in ({200, 413} if is_signed else {401, 413}), raw[:300]
            codes[reply.code] += 1

    assert all(holds_no_operator(event) for _, event in intake.publisher.published)
    assert intake.spool.added == []
    # The mutations reach deep: all these reasons occur, and many messages are still understood.
    assert {
        "message.accepted",
        "body.not_json",
        "body.too_deep",
        "body.too_large",
        "event.bad_id",
        "event.unknown",
        "event.without_name",
        "event.no_citizen",
        "event.no_page",
        "event.no_message_id",
        "page.unknown",
        "signature.mismatch",
    } <= set(codes)
    assert "event.normalisation_failed" not in codes


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
members = ["sender", "recipient", "message", "timestamp", "info", "tag", "data", "oa_id", "user_id", "follower"]


@settings(max_examples=examples(400), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(original=st.sampled_from(ORIGINALS), changes=st.dictionaries(st.sampled_from(members), json_values, max_size=4))
async def test_any_json_in_any_member_gets_an_answer_with_a_reason(
    intake: Intake, original: bytes, changes: dict[str, Any]
) -> None:
    raw = json.dumps({**json.loads(original), **changes}).encode()

    reply = await call(intake.app, raw=raw, headers=signed(raw))

    assert reply is not None
    assert reply.status == 200
    assert reply.code != "event.normalisation_failed"


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300))
async def test_any_bytes_get_an_answer_with_a_reason(intake: Intake, raw: bytes) -> None:
    reply = await call(intake.app, raw=raw, headers=signed(raw))

    assert reply is not None
    assert reply.status == 200
    assert reply.code.startswith(("body.", "event."))
