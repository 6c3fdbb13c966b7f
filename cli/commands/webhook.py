"""`hub webhook send`: a signed event straight to intake."""

import time
import uuid
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.hub import http_unreachable, opened_http
from cli.settings import load_settings
from cli.terminal import Terminal, run
from cli.webhook_event import event_body, read_addressing, sign
from shared.zalo_config import ZaloConfig, ZaloPage, load_zalo_config

SIMULATED_TIMEOUT_SECONDS = 10.0


def send(
    event: Annotated[str, typer.Option(help="Zalo's event name, known to us or not.")] = "user_send_text",
    text: Annotated[str, typer.Option(help="Text of the message.")] = "làm căn cước cần giấy tờ gì vậy",
    page: Annotated[
        str | None, typer.Option(help="Slug or Zalo id of the page; the first one without it.", show_default=False)
    ] = None,
    user: Annotated[str, typer.Option(help="The citizen's id as the page sees them.")] = "2000000000000000001",
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Send these bytes as they are instead of a built body."),
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, max=100_000, help="Send the same event so many times, as Zalo's retries do.")
    ] = 1,
    bad_signature: Annotated[bool, typer.Option("--bad-signature", help="Sign with a wrong key.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """Send a signed event to intake exactly as Zalo would, and print what intake answers.

    The signature is made with the keys of ZALO_CONFIG_FILE. Exit code 6 means that intake did not answer 200.
    """
    terminal = Terminal(as_json=as_json)
    body = None if file is None else file.read_bytes()
    work = _send(
        terminal, event, text, page_name=page, user=user, body=body, repeat=repeat, bad_signature=bad_signature
    )
    run(terminal, work)


async def _send(
    terminal: Terminal,
    event: str,
    text: str,
    *,
    page_name: str | None,
    user: str,
    body: bytes | None,
    repeat: int,
    bad_signature: bool,
) -> None:
    settings = load_settings()
    zalo = load_zalo_config(settings.zalo_config_file)
    page = find_page(zalo, page_name)
    now_ms = int(time.time() * 1000)
    message_id = uuid.uuid4().hex[:20]
    if body is None:
        body = event_body(
            event,
            app_id=page.app_id,
            oa_id=page.oa_id,
            user_id=user,
            text=text,
            message_id=message_id,
            timestamp_ms=now_ms,
        )
    app_id, _, timestamp = read_addressing(body)
    app = next((app for app in zalo.apps if app.app_id == app_id), zalo.app_of(page))
    key = "wrong-key" if bad_signature else app.oa_secret_keys[0].get_secret_value()
    timestamp = timestamp or str(now_ms)
    headers = {
        "Content-Type": "application/json",
        "X-ZEvent-Timestamp": timestamp,
        "X-ZEvent-Signature": sign(body, app_id=app.app_id, timestamp=timestamp, secret_key=key),
    }
    answers = []
    async with opened_http(SIMULATED_TIMEOUT_SECONDS) as http:
        for _ in range(repeat):
            started = time.perf_counter()
            try:
                async with http.post(settings.webhook_url, data=body, headers=headers) as response:
                    answers.append((response.status, await response.text(), time.perf_counter() - started))
            except (aiohttp.ClientError, TimeoutError) as error:
                raise http_unreachable("webhook", settings.webhook_url, error) from error
    _report(terminal, settings.webhook_url, body, answers)
    if any(status != 200 for status, _, _ in answers):
        raise typer.Exit(ExitCode.REFUSED)


def _report(terminal: Terminal, url: str, body: bytes, answers: list[tuple[int, str, float]]) -> None:
    if terminal.as_json:
        terminal.document(
            {
                "url": url,
                "sent": body.decode("utf-8", "replace"),
                "answers": [
                    {"status": status, "body": text, "ms": round(seconds * 1000, 1)}
                    for status, text, seconds in answers
                ],
            }
        )
        return
    terminal.say(f"POST {escape(url)} [dim]({len(body)} bytes)[/dim]")
    terminal.say(f"[dim]{escape(body.decode('utf-8', 'replace')[:2_000])}[/dim]")
    by_outcome: dict[tuple[int, str], int] = {}
    for status, text, _ in answers:
        by_outcome[status, text] = by_outcome.get((status, text), 0) + 1
    slowest = max(seconds for _, _, seconds in answers) * 1000
    for (status, text), times in by_outcome.items():
        colour = "green" if status == 200 else "red"
        terminal.say(f"[{colour}]{status}[/{colour}] {escape(text)}" + (f" ({times} times)" if times > 1 else ""))
    terminal.say(f"[dim]slowest answer {slowest:.0f} ms; Zalo waits 2,000[/dim]")


def find_page(zalo: ZaloConfig, name: str | None) -> ZaloPage:
    """A page by our slug or Zalo's id; the first without a name.

    Raises:
        CommandError: there is none.
    """
    if name is None:
        return zalo.pages[0]
    page = zalo.page_named(name) or zalo.page_of(name)
    if page is None:
        raise CommandError(
            "page_unknown",
            f"There is no page {name!r}.",
            f"Use one of: {', '.join(known.page for known in zalo.pages)}.",
            exit_code=ExitCode.NOT_FOUND,
        )
    return page
