"""`hub tokens link`: an administrator consents, and a page can speak again.

Needs what the notifier has: the app of the page, and the key that encrypts tokens.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import typer
from aiohttp import web
from rich.markup import escape

from cli.errors import CommandError, ExitCode
from cli.hub import opened_store
from cli.settings import CliSettings, load_settings
from cli.terminal import Terminal, run
from services.notifier.adapters.delivery_rules import load_delivery_rules
from services.notifier.adapters.token_store import TokenStore
from services.notifier.adapters.zalo import ZaloClient
from services.notifier.domain.linking import LinkRequest, WrongAnswer, code_of
from services.notifier.errors import LinkFailed
from services.notifier.handlers.link_page import link_page
from shared.zalo_config import ZaloConfig, ZaloPage, load_zalo_config

KEY_FILE = "token-encryption-key"
"""Where `make up` keeps the key of a hub of its own."""
EXCHANGE_SECONDS, CONNECT_SECONDS = 30.0, 10.0
_WRONG = {
    "link.no_code": "There is no code in it.",
    "link.other_request": "It belongs to another request: its `state` is not the one of this address.",
    "link.other_page": "The administrator consented for another page.",
}


def link(
    page: Annotated[str, typer.Argument(metavar="PAGE", help="Our name of the page, as in `hub tokens`.")],
    redirect_uri: Annotated[
        str | None,
        typer.Option(help="Where Zalo sends the browser; must be saved in Zalo's console.", show_default=False),
    ] = None,
    listen: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="Take the answer at this port of 127.0.0.1 instead of from you."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")] = False,
) -> None:
    """Link a page again, when its refresh token is used up, lost or about to end. Nothing has to be stopped.

    Prints an address. An administrator of the page opens it and consents; Zalo then sends the browser to the redirect
    address with a code in it. Paste that whole address here (with --listen it is taken by itself). The code works once
    and for ten minutes; the pair that it buys is stored encrypted, and what waited is sent.
    """
    terminal = Terminal(as_json=as_json)
    run(terminal, _link(terminal, page, redirect_uri, listen))


async def _link(terminal: Terminal, slug: str, redirect_uri: str | None, listen: int | None) -> None:
    if redirect_uri is None and listen is None:
        raise CommandError(
            "redirect_missing",
            "Zalo has to know where to send the browser.",
            "Give the address saved in Zalo's console with --redirect-uri, or --listen PORT for one on this machine.",
            exit_code=ExitCode.USAGE,
        )
    settings = load_settings()
    config = load_zalo_config(settings.zalo_config_file)
    page = _page(config, slug)
    keys = _keys(settings)
    request = LinkRequest.new(
        app_id=page.app_id, oa_id=page.oa_id, redirect_uri=redirect_uri or f"http://127.0.0.1:{listen}/"
    )
    zalo = ZaloClient(
        config,
        load_delivery_rules(settings.data_dir).errors,
        timeout_seconds=EXCHANGE_SECONDS,
        connect_timeout_seconds=CONNECT_SECONDS,
        connections=1,
    )
    async with opened_store(settings) as store, zalo, _answers(listen) as answer:
        # Whole, on a line of its own and apart from the document that --json prints: it is to be copied.
        sys.stderr.write(f"An administrator of {page.name or page.page} opens:\n\n")
        sys.stderr.write(f"{request.consent_url(config.oauth_url)}\n\n")
        sys.stderr.write("Waiting for the answer …\n" if listen else "Paste the address the browser was sent to:\n")
        sys.stderr.flush()
        code = _code(await answer(), request)
        try:
            await link_page(page, code, request.verifier, TokenStore(store, keys=keys), zalo)
        except LinkFailed as error:
            raise CommandError(
                error.reason.replace(".", "_"),
                f"The page was not linked ({error.reason}).",
                "docs/runbooks/token-broken.md says what each reason means. A code works once: begin again.",
                exit_code=ExitCode.REFUSED,
            ) from error
    if terminal.as_json:
        terminal.document({"page": page.page, "linked": True})
    else:
        terminal.say(f"[green]✓[/green] {escape(page.page)} is linked; `hub tokens` shows until when")


def _page(config: ZaloConfig, slug: str) -> ZaloPage:
    page = config.page_named(slug)
    if page is None:
        raise CommandError(
            "page_unknown",
            f"There is no page {slug!r} in the Zalo configuration.",
            f"It has: {', '.join(sorted(one.page for one in config.pages))}.",
            exit_code=ExitCode.NOT_FOUND,
        )
    return page


def _keys(settings: CliSettings) -> list[str]:
    value = settings.token_encryption_key.get_secret_value() if settings.token_encryption_key else ""
    if not value:
        with suppress(OSError):
            value = (settings.hub_home / KEY_FILE).read_text("utf-8")
    if not value.strip():
        raise CommandError(
            "key_missing",
            "The key that encrypts tokens is not known here.",
            "Run the command where the notifier's secrets are, or set TOKEN_ENCRYPTION_KEY (or _FILE) as it has it.",
            exit_code=ExitCode.CONFIGURATION,
        )
    return [key.strip() for key in value.split(",") if key.strip()]


def _code(answer: str, request: LinkRequest) -> str:
    try:
        return code_of(answer, request)
    except WrongAnswer as error:
        raise CommandError(
            error.code.replace(".", "_"),
            f"That is not the answer to this address. {_WRONG[error.code]}",
            "Begin again, and paste the whole address that the browser was sent to.",
            exit_code=ExitCode.REFUSED,
        ) from error


@asynccontextmanager
async def _answers(port: int | None) -> AsyncIterator[Callable[[], "asyncio.Future[str]"]]:
    """Where the answer comes from: a line that is pasted, or one request to a small endpoint."""
    loop = asyncio.get_running_loop()
    if port is None:
        yield lambda: loop.run_in_executor(None, sys.stdin.readline)
        return
    received: asyncio.Future[str] = loop.create_future()

    async def callback(request: web.Request) -> web.Response:
        if not received.done() and "code" in request.query:
            received.set_result(str(request.rel_url))
        return web.Response(text="Đã nhận. Quý vị có thể đóng trang này. / Received. You may close this page.")

    app = web.Application()
    app.router.add_get("/{path:.*}", callback)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield lambda: received
    finally:
        await runner.cleanup()
