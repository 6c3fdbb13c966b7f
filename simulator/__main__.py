"""The command line: `python -m simulator --help`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from simulator.app import build_app, build_pages
from simulator.core import Simulator
from simulator.server import bind, build_server
from simulator.settings import SettingsError, SimulatorSettings, write_example_config
from simulator.storage import DamagedFileError

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _print_openapi(wanted: bool) -> None:
    if wanted:
        typer.echo(json.dumps(build_pages(None).openapi(), ensure_ascii=False, indent=1))
        raise typer.Exit


def _write_example(path: Path | None) -> None:
    if path is not None:
        write_example_config(path)
        typer.echo(f"Wrote an app with one page and fresh secrets: {path}")
        raise typer.Exit


@command.command()
def serve(
    config: Annotated[
        Path, typer.Option(envvar="SIMULATOR_CONFIG", help="YAML file with the apps and pages to stand in for.")
    ] = Path("zalo.yaml"),
    host: Annotated[str, typer.Option(envvar="SIMULATOR_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="SIMULATOR_PORT", help="Port to listen on; 0 takes a free one.")] = 9000,
    state_dir: Annotated[
        Path, typer.Option(envvar="SIMULATOR_STATE_DIR", help="Folder for tokens, media and the log; made if missing.")
    ] = Path(".simulator"),
    webhook_url: Annotated[
        str,
        typer.Option(
            envvar="SIMULATOR_WEBHOOK_URL", help="Where events go; can be set later by POST /control/webhook."
        ),
    ] = "",
    public_url: Annotated[
        str, typer.Option(envvar="SIMULATOR_PUBLIC_URL", help="Address in media links; default: the one listened on.")
    ] = "",
    seed: Annotated[
        int, typer.Option(envvar="SIMULATOR_SEED", help="People's ids and the dice of moods follow from it.")
    ] = 1,
    time_scale: Annotated[
        float, typer.Option(envvar="SIMULATOR_TIME_SCALE", help="Factor on the waits of the webhook retry ladder.")
    ] = 1.0,
    webhook_concurrency: Annotated[
        int, typer.Option(envvar="SIMULATOR_WEBHOOK_CONCURRENCY", help="Webhooks on their way at the same time.")
    ] = 32,
    webhook_timeout_seconds: Annotated[
        float, typer.Option(envvar="SIMULATOR_WEBHOOK_TIMEOUT_SECONDS", help="How long a webhook may take to answer.")
    ] = 2.0,
    retry_on: Annotated[
        str,
        typer.Option(
            envvar="SIMULATOR_RETRY_ON",
            help="any_failure, or connection_failure (an answer other than 200 is not repeated).",
        ),
    ] = "any_failure",
    auto_receipts: Annotated[
        bool,
        typer.Option(envvar="SIMULATOR_AUTO_RECEIPTS", help="Report every message as received and seen at once."),
    ] = False,
    rate_limit_per_minute: Annotated[
        int, typer.Option(envvar="SIMULATOR_RATE_LIMIT_PER_MINUTE", help="API calls per app and minute; 0: no limit.")
    ] = 4000,
    page_rate_limit_per_minute: Annotated[
        int,
        typer.Option(
            envvar="SIMULATOR_PAGE_RATE_LIMIT_PER_MINUTE",
            help="API calls per page and minute; 0: the app's limit only.",
        ),
    ] = 0,
    uploads_per_month: Annotated[
        int, typer.Option(envvar="SIMULATOR_UPLOADS_PER_MONTH", help="Upload calls per app and month; 0: no limit.")
    ] = 5000,
    broadcast_seconds: Annotated[
        float,
        typer.Option(envvar="SIMULATOR_BROADCAST_SECONDS", help="How long before a broadcast arrives, by the clock."),
    ] = 1800.0,
    require_appsecret_proof: Annotated[
        bool,
        typer.Option(envvar="SIMULATOR_REQUIRE_APPSECRET_PROOF", help="Refuse calls without a valid appsecret_proof."),
    ] = False,
    article_seconds: Annotated[
        float,
        typer.Option(envvar="SIMULATOR_ARTICLE_SECONDS", help="How long an article or a video is being processed."),
    ] = 3.0,
    log_entries: Annotated[
        int, typer.Option(envvar="SIMULATOR_LOG_ENTRIES", help="Log entries kept in memory.")
    ] = 200_000,
    example_config: Annotated[
        Path | None,
        typer.Option(help="Write a configuration with fresh secrets to this file and stop.", callback=_write_example),
    ] = None,
    openapi: Annotated[
        bool,
        typer.Option("--openapi", help="Print the OpenAPI document and stop.", is_eager=True, callback=_print_openapi),
    ] = False,
    log_file_max_bytes: Annotated[
        int, typer.Option(envvar="SIMULATOR_LOG_FILE_MAX_BYTES", help="Size at which log.jsonl is set aside.")
    ] = 256_000_000,
) -> None:
    """Stand in for Zalo Official Accounts: OAuth v4, OA API, signed webhooks, and a phone page at /."""
    given = {name: value for name, value in locals().items() if name not in {"openapi", "example_config"}}
    try:
        settings = SimulatorSettings(**given)
        listener = bind(settings.host, settings.port)
    except ValidationError as error:
        raise _refuse(f"These options do not work: {error}") from error
    except OSError as error:
        raise _refuse(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port.") from error
    try:
        simulator = Simulator(settings.model_copy(update={"port": listener.getsockname()[1]}))
    except (SettingsError, DamagedFileError) as error:
        raise _refuse(str(error)) from error
    except OSError as error:
        raise _refuse(f"Cannot use the state folder {state_dir}: {error}") from error
    typer.echo(f"Zalo simulator: phone page and API at {simulator.public_url}/")
    build_server(build_app(simulator), simulator.closing.set).run(sockets=[listener])


def _refuse(reason: str) -> typer.Exit:
    typer.secho(reason, err=True, fg="red")
    return typer.Exit(2)


if __name__ == "__main__":
    command()
