"""The stack's command line; `make help` lists what people use."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from shared.zalo_config import load_zalo_config
from stack import demo, kafka_jars
from stack.errors import StackError
from stack.hub import Hub
from stack.logs import follow
from stack.observe import observe
from stack.settings import StackSettings
from stack.state import HubState
from stack.terminal import Terminal, is_interactive

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
terminal = Terminal()


def main() -> None:
    """Run the command line; a known failure is shown as its message and its advice, with exit code 1."""
    try:
        app()
    except StackError as error:
        terminal.fail(error)
        sys.exit(1)


def _hub() -> Hub:
    return Hub(StackSettings.load(), terminal)


@app.command()
def up(
    *, servers_only: Annotated[bool, typer.Option(help="Only Kafka and the database, no services.")] = False
) -> None:
    """Start the hub, or bring a running one up to date; returns when it is ready."""
    hub = _hub()
    show(hub.up(only=("kafka", "mongo") if servers_only else None), hub)


@app.command()
def down() -> None:
    """Stop everything; data is kept."""
    if not _hub().down():
        terminal.say("Nothing was running.")


@app.command()
def reset(*, force: Annotated[bool, typer.Option(help="Do not ask.")] = False) -> None:
    """Stop everything and delete this hub's data, secrets and logs."""
    hub = _hub()
    if not hub.home.exists():
        terminal.say(f"There is nothing in {hub.home}.")
        return
    if not force:
        if not is_interactive():
            raise StackError("not_confirmed", f"All data in {hub.home} would be deleted.", "Say so: make reset FORCE=1")
        typer.confirm(f"Delete all data in {hub.home}?", abort=True)
    hub.reset()
    terminal.say(f"{hub.home} is gone; `make up` starts from nothing.")


@app.command()
def scale(wanted: Annotated[list[str], typer.Argument(metavar="SERVICE=COUNT…")]) -> None:
    """Run several instances of a service, for example: scale notifier=2."""
    counts = {}
    for item in wanted:
        service, _, count = item.partition("=")
        if not count.isdigit():
            raise StackError("scale_invalid", f"“{item}” is not SERVICE=COUNT.", "For example: make scale notifier=2")
        counts[service] = int(count)
    hub = _hub()
    show(hub.scale(counts), hub)


@app.command()
def logs(programs: Annotated[list[str] | None, typer.Argument(metavar="PROGRAM…")] = None) -> None:
    """Follow the logs of all programs, or of the named ones."""
    try:
        follow(_hub().supervisor, programs or [], terminal)
    except KeyboardInterrupt:
        return


@app.command()
def dev(*, reload: Annotated[bool, typer.Option(help="Start again when a file changes.")] = True) -> None:
    """Servers in the background; services and simulator in this one process, for a debugger."""
    from stack.dev import run_once, run_reloading  # noqa: PLC0415 - brings the services' own imports with it

    if reload:
        run_reloading(terminal)
        return
    hub = _hub()
    plan = hub.prepare_dev()
    show(plan.state, hub)
    run_once(plan)


@app.command()
def followers(
    count: Annotated[int, typer.Argument(min=1, max=5_000, help="How many.")] = 60,
) -> None:
    """Let invented people follow the demonstration's pages, so that a broadcast has somebody to reach."""
    hub = _hub()
    state = HubState.read(hub.home)
    if state is None or state.simulator is None or state.zalo_config is None:
        raise StackError("simulator_missing", "There is no simulator to be followed in.", "Start it with: make up")
    pages = [page.page for page in load_zalo_config(Path(state.zalo_config)).pages]
    with terminal.step("following the pages"):
        made = demo.follow_pages(state.simulator, pages, count)
    terminal.say(
        f"{made.people} people follow {len(pages)} pages, {made.on_two_pages} of them two; {made.opted_out} said "
        f"“ngừng nhận tin”. {escape(made.staff)} is tagged “{demo.STAFF_TAG}” and gets tests."
    )


@app.command("observe")
def observe_hub(
    *, port: Annotated[int | None, typer.Option(help="Of Prometheus; a free one without it.")] = None
) -> None:
    """Run Prometheus over this hub, with the alert rules."""
    observe(StackSettings.load(), terminal, port=port)


@app.command("lock-kafka")
def lock_kafka() -> None:
    """Resolve Kafka's jars anew and write stack/kafka-jars.sha256."""
    with terminal.step("resolving Kafka's dependencies"):
        jars = kafka_jars.resolve_list()
    kafka_jars.write_list(jars)
    terminal.say(f"{len(jars)} jars written to {kafka_jars.LIST}")


def _demo_sign_in(hub: Hub) -> str:
    """How to sign in to the demonstration: an account a unit, one for each other role, one password."""
    try:
        password = json.loads((hub.home / "demo-accounts.json").read_text("utf-8"))["password"]
    except (OSError, ValueError, KeyError):
        return ""
    return (
        f"  sign in as tan-chanh-hiep (any unit's page name), password {escape(password)}\n"
        "            or as its truc-ban (duty officer) or chi-huy (commander), or as lanh-dao (district lead)"
    )


def show(state: HubState, hub: Hub) -> None:
    """Print where everything is and what to do next."""
    lines = [""]
    if state.simulator:
        lines += ["[bold]The hub is running. Click here and write as a citizen:[/bold]", f"  {state.simulator}/"]
    elif state.webhook:
        lines += ["[bold]The hub is running, without the simulator.[/bold]"]
    else:
        lines += ["[bold]The servers are running.[/bold]", f"  Kafka     {state.kafka}"]
    if state.webhook:
        lines.append(f"  Webhook   {state.webhook}")
        for service, addresses in state.instances.items():
            lines += [f"  {service:<9} {address}/health/ready" for address in addresses]
    if state.console:
        lines.append(f"  Officers  {state.console}/{_demo_sign_in(hub) if state.simulator else ''}")
    if state.simulator:
        lines.append('  Ask       ./hub ask "làm căn cước cần giấy tờ gì vậy" --page tan-chanh-hiep')
    lines += [f"  Logs      {hub.supervisor.logs}  (make logs)", "  Stop      make down  (data is kept)"]
    terminal.say("\n".join(lines))
