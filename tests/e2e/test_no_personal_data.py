"""What the hub tells its operators holds nothing of its citizens, and no secret.

What must hold: no planted name, number, text, token or signature is in a log, a metric, a stored trace or the printed
list of dead letters, in whatever encoding. How we try to break it: everything a citizen, an officer, a stranger and a
fault can bring in, on every way through the hub, those that fail included. Proof that we would see it: the same search
finds the same strings in the database and in the files where they belong.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from cryptography.fernet import Fernet
from pydantic import SecretStr

from shared import topics
from shared.mongo import Store, open_store
from shared.settings import HubSettings
from stack.settings import ROOT
from tests.conformance.test_events_on_kafka import _producer
from tests.e2e.test_bad_input import Zalo
from tests.servers import RunningHub

PAGE = "tan-chanh-hiep"
NAME = "Quỳnhxuyến Đặngphượng"
PHONE = "0987651234"
STREET = "Hẻmkhôngcó 77/5 Đườngtưởngtượng"
WORD = "zợrblắc"
THEFT = f"tối qua nhà tôi ở {STREET} bị trộm lấy xe máy, tôi tên {NAME}, gọi {PHONE}, {WORD}"
QUESTION = f"làm căn cước cần giấy tờ gì vậy, mã của tôi là {WORD}"
ANSWER = f"Chào {NAME}, cán bộ sẽ gọi {PHONE}: trảlời{WORD}"
FILE_NAME = f"giấy khai sinh {NAME}.pdf"
FOREIGN = f"không phải sự kiện, {WORD}ngoài"
PASSWORD = "Mậtkhẩusaicủatôi-4711"
WRONG_SIGNATURE = "5ca1ab1e" * 8
PLANTED = (NAME, *NAME.split(), PHONE, *STREET.split(" ")[:1], WORD, f"trảlời{WORD}", f"{WORD}ngoài", FILE_NAME)


def disguises(planted: str) -> Iterator[tuple[str, str]]:
    """Every form in which a string might leak, with the form's name; all but base64 are in lower case."""
    without_marks = "".join(c for c in unicodedata.normalize("NFD", planted) if not unicodedata.combining(c))
    written = {
        "as it is": planted,
        "decomposed": unicodedata.normalize("NFD", planted),
        "without marks": without_marks.replace("đ", "d").replace("Đ", "D"),
    }
    for name, text in written.items():
        raw = text.encode()
        yield name, text.lower()
        yield f"{name}, percent", urllib.parse.quote(text, safe="").lower()
        yield f"{name}, plus", urllib.parse.quote_plus(text).lower()
        yield f"{name}, JSON escapes", json.dumps(text)[1:-1].lower()
        yield f"{name}, Python bytes", repr(raw)[2:-1].lower()
        yield f"{name}, hex", raw.hex()
        for shift in range(3):  # where it begins within a longer text changes every letter of base64
            encoded = base64.b64encode(b"\0" * shift + raw).decode()
            inside = encoded[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
            yield f"{name}, base64", inside
            yield f"{name}, base64 for URLs", inside.replace("+", "-").replace("/", "_")


def leaks(planted: str, text: str) -> list[str]:
    """The forms in which a string is in a text."""
    lower = text.lower()
    return [form for form, words in disguises(planted) if words in (text if "base64" in form else lower)]


@pytest.mark.parametrize("planted", [NAME, PHONE, WORD])
def test_the_search_finds_every_form(planted: str) -> None:
    for form, words in disguises(planted):
        assert form in leaks(planted, f"before {words} after"), form
    assert leaks(planted, base64.b64encode(f"x {planted} y".encode()).decode())
    assert leaks(planted, json.dumps({"a": f"x {planted} y"}))
    assert not leaks(planted, "nothing of it")


class Visit:
    """Everything that is brought into the hub."""

    def __init__(self, hub: RunningHub, http: aiohttp.ClientSession) -> None:
        self._hub = hub
        self._http = http
        self._zalo = Zalo(hub)

    async def control(self, path: str, **body: Any) -> Any:
        async with self._http.post(f"{self._hub.state.simulator}/control/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def citizen(self) -> None:
        """A citizen with a name and a number asks, reports, sends a file and a card, and leaves an address."""
        who = {"page": PAGE, "citizen": "planted-1"}
        await self.control("people", citizen="planted-1", display_name=NAME, phone=PHONE)
        await self.control("follow", **who)
        for text in (QUESTION, THEFT):
            await self.control("messages", text=text, display_name=NAME, phone=PHONE, **who)
        for kind, payload in (
            ("file", {"name": FILE_NAME, "url": f"http://127.0.0.1:9/{urllib.parse.quote(FILE_NAME)}", "size": "10"}),
            ("business_card", {"name": NAME, "phone": PHONE}),
        ):
            await self.control("messages", text=WORD, attachments=[{"type": kind, "payload": payload}], **who)
        await self.control("user-info", name=NAME, phone=PHONE, full_address={"address": STREET}, **who)

    async def blocked_citizen(self) -> None:
        """The answer to this one fails for good."""
        await self.control("people", citizen="planted-2", page=PAGE, switch="blocked", display_name=NAME)
        await self.control("messages", page=PAGE, citizen="planted-2", text=QUESTION)

    async def stranger(self) -> None:
        """Webhooks that are refused, that are signed and not understood, and paths that do not exist."""
        url = str(self._hub.state.webhook)
        signed = json.dumps(self._zalo.text_event(message={"text": THEFT, "msg_id": "planted"})).encode()
        wrong = self._zalo.headers(signed) | {"X-ZEvent-Signature": f"mac={WRONG_SIGNATURE}"}
        nonsense = f'{{"event_name": "user_send_text", "message": "{THEFT}'.encode()
        odd = json.dumps(self._zalo.text_event(sender={"id": NAME}, event_name=NAME)).encode()
        for body, headers in (
            (signed, wrong),
            (nonsense, self._zalo.headers(nonsense)),
            (odd, self._zalo.headers(odd)),
        ):
            await (await self._http.post(url, data=body, headers=headers)).read()
        for address in (self._hub.state.intake, self._hub.state.console, self._hub.state.notifier):
            for path in (f"{address}/{NAME}?q={PHONE}", f"{address}/cases/{WORD}"):
                await (await self._http.get(path, headers={"User-Agent": NAME.encode().hex()})).read()

    async def officer(self, case_code: str) -> None:
        """An officer signs in at the second try, answers, and leaves a note."""
        console = str(self._hub.state.console)
        password = json.loads((self._hub.home / "demo-accounts.json").read_text("utf-8"))["password"]
        refused = await self._http.post(f"{console}/api/sessions", json={"account": PAGE, "password": PASSWORD})
        assert refused.status == 401
        async with self._http.post(f"{console}/api/sessions", json={"account": PAGE, "password": password}) as answer:
            token = (await answer.json())["token"]
        for number, action in enumerate(("reply", "close")):
            async with self._http.post(
                f"{console}/api/cases/{case_code}/actions",
                json={"action": action, "text": ANSWER, "wait_seconds": 0},
                headers={"Authorization": f"Bearer {token}", "Idempotency-Key": f"planted-key-{number}"},
            ) as answer:
                assert answer.status == 202, await answer.text()

    async def foreign_program(self) -> None:
        """Something that is no event is on our topics."""
        producer = _producer(bootstrap_servers=self._hub.state.kafka)
        await producer.start()
        for topic in topics.ALL_TOPICS:
            await producer.send_and_wait(topic.name, json.dumps({"event_id": FOREIGN, "text": THEFT}).encode())
            await producer.send_and_wait(topic.name, FOREIGN.encode(), headers=[("ce_id", NAME.encode())])
        await producer.stop()


async def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 150
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.1)
    return found


async def stored(store: Store) -> str:
    """Everything in the database that came from outside, as text."""
    found: list[str] = []
    for name in ("messages", "cases", "case_entries", "reply_ledger", "webhook_records", "contacts", "attachments"):
        found += [repr(one) for one in await store[name].find({}).to_list(None)]
    for letter in await store["dead_letters"].find({}).to_list(None):
        found.append(bytes(letter["value"]).decode("utf-8", "replace"))
    return "\n".join(found)


async def tokens_of(hub: RunningHub, store: Store) -> set[str]:
    """The pages' tokens, as the notifier decrypts them."""
    fernet = Fernet((hub.home / "token-encryption-key").read_bytes())
    documents = await store["page_tokens"].find({}).to_list(None)
    sealed = [document[name] for document in documents for name in ("access_token", "refresh_token")]
    return {fernet.decrypt(bytes(one)).decode() for one in sealed if one is not None}


def secrets_of(hub: RunningHub) -> set[str]:
    """Passwords and keys in the files of this hub."""
    config = yaml.safe_load(Path(str(hub.state.zalo_config)).read_text("utf-8"))
    found = {app["app_secret"] for app in config["apps"]} | {k for app in config["apps"] for k in app["oa_secret_keys"]}
    found |= {page["refresh_token"] for page in config["pages"]}
    found.add((hub.home / "token-encryption-key").read_text("utf-8").strip())
    found.add(json.loads((hub.home / "demo-accounts.json").read_text("utf-8"))["password"])
    password = urllib.parse.urlsplit(str(hub.state.mongo)).password
    return found | ({password} if password else set())


async def told(hub: RunningHub, store: Store) -> dict[str, str]:
    """Everything the hub tells its operators, by where it is told."""
    texts = {f"log {file.name}": file.read_text("utf-8", "replace") for file in (hub.home / "logs").iterdir()}
    async with aiohttp.ClientSession() as http:
        for name, addresses in hub.state.instances.items():
            for address in addresses:
                for path in ("metrics", "health/ready", "health/live"):
                    async with http.get(f"{address}/{path}") as answer:
                        texts[f"{path} of {name}"] = await answer.text()
    spans = await store["trace_spans"].find({}).to_list(None)
    texts["traces"] = "\n".join(repr(span) for span in spans)
    for command in (
        ("dead-letters", "list"),
        ("dead-letters", "list", "--json"),
        ("status",),
        ("topics",),
        ("tokens",),
    ):
        finished = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "cli", *command],
            cwd=ROOT,
            env=os.environ | {"HUB_HOME": str(hub.home), "COLUMNS": "400"},
            capture_output=True,
            text=True,
            timeout=150,
        )
        texts[f"hub {' '.join(command)}"] = finished.stdout + finished.stderr
    return texts


async def test_nothing_of_a_citizen_and_no_secret_is_told_to_operators(hub: RunningHub) -> None:
    store = open_store(HubSettings(mongo_uri=SecretStr(str(hub.state.mongo))))
    try:
        async with aiohttp.ClientSession() as http:
            visit = Visit(hub, http)
            await visit.citizen()
            await visit.blocked_citizen()
            await visit.stranger()
            await visit.foreign_program()
            message = await until(
                lambda: store["messages"].find_one({"text": THEFT, "case_code": {"$ne": None}}), "the theft has a case"
            )
            await visit.officer(message["case_code"])

        async def answered() -> bool:
            reply = await store["reply_ledger"].find_one({"case_code": message["case_code"], "origin": "officer"})
            failed = await store["reply_ledger"].find_one({"state": "failed"})
            closed = await store["cases"].find_one({"code": message["case_code"], "is_open": False})
            letters = await store["dead_letters"].count_documents({"reason": "event.unreadable"})
            return bool(
                reply and reply["state"] == "sent" and failed and closed and letters >= 2 * len(topics.ALL_TOPICS)
            )

        await until(answered, "everything that was brought in has been dealt with")
        await asyncio.sleep(2)  # spans are written every second

        texts = await told(hub, store)
        kept = await stored(store)
        tokens, secrets = await tokens_of(hub, store), secrets_of(hub)
    finally:
        await store.close()

    # Where they belong the same search does find them; and what is searched is really there.
    assert [planted for planted in PLANTED if not leaks(planted, kept)] == []
    assert len(tokens) >= 2
    assert len(secrets) >= 5
    for name, words in (
        ("log router.log", "message.assigned"),
        ("log notifier.log", "reply.failed"),
        ("log intake.log", "signature.mismatch"),
        ("metrics of router", "hub_events_handled_total"),
        ("traces", "zalo.send"),
        ("hub dead-letters list", "event.unreadable"),
    ):
        assert words in texts[name], f"{name} has no {words}: {texts[name][-2_000:]}"

    found = [
        (name, form, planted)
        for name, text in texts.items()
        for planted in (*PLANTED, PASSWORD, WRONG_SIGNATURE, *tokens, *secrets)
        for form in leaks(planted, text)
    ]
    assert found == []
