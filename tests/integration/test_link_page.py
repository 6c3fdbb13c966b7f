"""`hub tokens link` against the simulator's OAuth: address, consent, the code and its verifier, the stored pair."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from cryptography.fernet import Fernet

from services.notifier.adapters.token_store import PageToken, TokenStore
from shared.mongo import Store
from stack.ports import find_free
from tests.unit.notifier.stores import fresh_store
from tests.unit.simulator.live import OA_IDS, WARD, Live, running, settings_for

ROOT = Path(__file__).resolve().parents[2]
KEY = Fernet.generate_key().decode()
OA_ID = OA_IDS[WARD]


@dataclass
class Desk:
    """A database, a simulator and a person at the prompt."""

    store: Store
    live: Live
    environment: dict[str, str]

    async def begin(self, *options: str) -> tuple[asyncio.subprocess.Process, str]:
        """Start the command; returns the address it prints too."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "tokens", "link", WARD, *options),
            env=self.environment,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        async with asyncio.timeout(150):
            while not (found := re.search(r"http\S+/v4/oa/permission\S+", (await process.stderr.readline()).decode())):
                assert not process.stderr.at_eof(), "no address was printed"
        return process, found.group()

    async def consent(self, address: str, *, page: str = WARD) -> str:
        """What an administrator does in the browser; returns where it is sent to."""
        form = dict(parse_qsl(urlsplit(address).query))
        answer = await self.live.http.post(
            f"{self.live.url}/v4/oa/permission", data={**form, "oa_id": OA_IDS[page]}, allow_redirects=False
        )
        assert answer.status == 302
        return answer.headers["Location"]

    async def token(self) -> PageToken | None:
        return await TokenStore(self.store, keys=[KEY]).read(OA_ID)


@pytest.fixture
async def desk(mongo_uri: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with fresh_store(mongo_uri, "motor") as store, running(settings_for(tmp_path)) as live:
        config = yaml.safe_load((tmp_path / "zalo.yaml").read_text("utf-8"))
        config |= {"oa_api_url": live.url, "oauth_url": live.url, "upload_url": live.url}
        (tmp_path / "zalo.yaml").write_text(yaml.safe_dump(config), "utf-8")
        environment = {
            **os.environ,
            "HUB_HOME": str(tmp_path / "home"),
            "MONGO_URI": mongo_uri,
            "MONGO_DATABASE": store["any"].database.name,  # type: ignore[attr-defined]
            "ZALO_CONFIG_FILE": str(tmp_path / "zalo.yaml"),
            "TOKEN_ENCRYPTION_KEY": KEY,
        }
        yield Desk(store, live, environment)


async def test_a_page_is_linked_by_its_administrator_and_can_send(desk: Desk) -> None:
    process, address = await desk.begin("--redirect-uri", "https://hub.vn/linked")
    sent_to = await desk.consent(address)
    output, errors = await asyncio.wait_for(process.communicate(f"{sent_to}\n".encode()), timeout=150)

    assert process.returncode == 0, errors.decode()
    assert "is linked" in output.decode()
    token = await desk.token()
    assert token is not None
    assert (token.state, token.generation, token.is_leased) == ("ok", 1, False)
    assert token.access_token is not None
    people = await desk.live.write("xin chào")
    answer = await desk.live.send(token.access_token, people["user_id"], "chào bác")
    assert answer["error"] == 0
    assert token.access_token.encode() not in output + errors
    raw = await desk.store["page_tokens"].find_one({"_id": OA_ID})
    assert token.access_token not in str(raw)


async def test_a_small_endpoint_takes_the_answer_and_nothing_else(desk: Desk) -> None:
    port = find_free(set())
    process, address = await desk.begin("--listen", str(port), "--json")
    sent_to = await desk.consent(address)
    assert sent_to.startswith(f"http://127.0.0.1:{port}/")
    await desk.live.http.get(f"http://127.0.0.1:{port}/favicon.ico")
    answer = await desk.live.http.get(sent_to)

    assert answer.status == 200
    output, errors = await asyncio.wait_for(process.communicate(), timeout=150)
    assert process.returncode == 0, errors.decode()
    assert '"linked": true' in output.decode()
    token = await desk.token()
    assert token is not None
    assert token.state == "ok"


async def test_a_consent_for_another_page_is_refused_and_nothing_is_stored(desk: Desk) -> None:
    process, address = await desk.begin("--redirect-uri", "https://hub.vn/linked")
    sent_to = await desk.consent(address, page="district")
    output, errors = await asyncio.wait_for(process.communicate(f"{sent_to}\n".encode()), timeout=150)

    assert process.returncode == 6, output + errors
    assert "[link_other_page]" in (output + errors).decode()
    assert await desk.token() is None
