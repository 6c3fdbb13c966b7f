"""`python -m tests.campaigns.alert`: a fire that nobody answers, seen in a real Prometheus, until an officer does.

A hub of its own and `make observe` over it. Prints the moments of `EmergencyWaiting` and keeps pictures of Prometheus'
alert page while it fires and after it has ended, and of the message's waterfall. Takes some five minutes, of which
three are the alert's own patience. Prometheus needs its pages: Debian's package has them.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path

import aiohttp
from playwright.async_api import Browser
from pydantic import SecretStr

from shared.mongo import open_store
from shared.settings import HubSettings
from stack.ports import find_free
from stack.settings import ROOT
from tests.browser.chromium import a_browser, a_page
from tests.browser.screenshots import keep_screenshot
from tests.servers import RunningHub, running_hub

ALERT, PAGE = "EmergencyWaiting", "tan-chanh-hiep"
FIRE = "cháy nhà ở TCH 08, có người kẹt trong nhà, cứu với"
ANSWER = "Lực lượng đã lên đường. Bác rời khỏi nhà ngay nhé."
PATIENCE_SECONDS = 600.0
WATERFALL_STYLE = "background:#10141a;color:#d8dee9;font:14px/1.35 'DejaVu Sans Mono',monospace;padding:16px;margin:0"


class Drill:
    """One hub, one Prometheus, one browser."""

    def __init__(self, hub: RunningHub, http: aiohttp.ClientSession, prometheus: str) -> None:
        self._hub, self._http, self._prometheus = hub, http, prometheus
        self._started = time.monotonic()

    def tell(self, what: str) -> None:
        """A line with the seconds since the beginning."""
        print(f"{time.monotonic() - self._started:7.1f} s  {what}", flush=True)

    async def state(self) -> str:
        """The alert's state as Prometheus' API tells it; "inactive" where there is none."""
        try:
            async with self._http.get(f"{self._prometheus}/api/v1/alerts") as answer:
                alerts = (await answer.json())["data"]["alerts"]
        except (aiohttp.ClientError, OSError):
            return "no Prometheus"
        return next((str(one["state"]) for one in alerts if one["labels"]["alertname"] == ALERT), "inactive")

    async def until(self, wanted: str) -> None:
        """Wait for a state of the alert; tell each one on the way."""
        last = ""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (now := await self.state()) != wanted:
                if now != last:
                    self.tell(f"{ALERT} {now}")
                last = now
                await asyncio.sleep(1)
        self.tell(f"{ALERT} {wanted}")

    async def citizen(self) -> str:
        """Write, and return the case's code."""
        body = {"page": PAGE, "citizen": "drill", "text": FIRE}
        async with self._http.post(f"{self._hub.state.simulator}/control/messages", json=body) as answer:
            answer.raise_for_status()
        store = open_store(HubSettings(mongo_uri=SecretStr(str(self._hub.state.mongo))))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = None
                while found is None:
                    await asyncio.sleep(0.2)
                    found = await store["messages"].find_one({"text": FIRE, "case_code": {"$ne": None}})
        finally:
            await store.close()
        self.tell(f"“{FIRE}” is case {found['case_code']}")
        return str(found["case_code"])

    async def officer(self, code: str) -> None:
        """Answer the case."""
        console = self._hub.state.console
        password = json.loads((self._hub.home / "demo-accounts.json").read_text("utf-8"))["password"]
        credentials = {"account": "truc-ban", "password": password}
        async with self._http.post(f"{console}/api/sessions", json=credentials) as answer:
            headers = {"Authorization": f"Bearer {(await answer.json())['token']}", "Idempotency-Key": "alert-drill"}
        decision = {"action": "reply", "text": ANSWER, "wait_seconds": 0}
        async with self._http.post(f"{console}/api/cases/{code}/actions", json=decision, headers=headers) as answer:
            answer.raise_for_status()
        self.tell("the duty officer has answered")

    async def picture(self, browser: Browser, file: Path) -> None:
        """Prometheus' alert page."""
        async with a_page(browser, viewport={"width": 1000, "height": 520}) as page:
            # Debian's package has the classic page only, the official image the newer one only.
            found = await page.goto(f"{self._prometheus}/classic/alerts")
            if found is None or found.status != HTTPStatus.OK:
                await page.goto(f"{self._prometheus}/alerts")
            row = page.get_by_text(ALERT, exact=True).first
            await row.wait_for(timeout=60_000)
            if await self.state() == "firing":
                await row.click()
                await page.get_by_text("firing", exact=True).first.wait_for(timeout=60_000)
            # Right below the bar that covers the top; above the row stands a path of this machine.
            await row.evaluate("row => { row.scrollIntoView({block: 'start'}); window.scrollBy(0, -14); }")
            await keep_screenshot(page, file)

    async def waterfall(self, browser: Browser, code: str, file: Path) -> None:
        """The bars that `hub case show --trace` prints below the case's history."""
        command = (sys.executable, "-m", "cli", "case", "show", code, "--trace")
        environment = os.environ | {"HUB_HOME": str(self._hub.home), "COLUMNS": "118"}
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        text = output.decode()
        text = text[text.index("\ntrace ") + 1 :].rstrip()
        async with a_page(browser, viewport={"width": 1000, "height": 200}) as page:
            await page.set_content(f'<body style="margin:0"><pre style="{WATERFALL_STYLE}"></pre>')
            await page.locator("pre").evaluate("(shown, text) => { shown.textContent = text; }", text)
            height = await page.locator("pre").evaluate("shown => shown.offsetHeight")
            await page.set_viewport_size({"width": 1000, "height": height})
            await keep_screenshot(page, file)


async def drill(hub: RunningHub, folder: Path) -> None:
    """The whole story."""
    port = find_free(set())
    command = (sys.executable, "-m", "stack", "observe", "--port", str(port))
    observer = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=os.environ | {"HUB_HOME": str(hub.home)})
    try:
        async with a_browser() as browser, aiohttp.ClientSession() as http:
            one = Drill(hub, http, f"http://127.0.0.1:{port}")
            await one.until("inactive")
            code = await one.citizen()
            await one.until("firing")
            await one.picture(browser, folder / "alert-firing.png")
            await one.officer(code)
            await one.until("inactive")
            await one.picture(browser, folder / "alert-cleared.png")
            await one.waterfall(browser, code, folder / "waterfall.png")
    finally:
        observer.send_signal(signal.SIGTERM)
        await observer.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.alert", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "test-results" / "alert", help="for the pictures")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with running_hub() as running:
        asyncio.run(drill(running, given.folder))
