"""Accounts from the command line: the first account of a real installation has to come from somewhere."""

import asyncio
import getpass
import sys
from typing import Annotated, cast

import typer

from services.console.adapters.account_store import AccountStore, Passwords
from services.console.adapters.session_store import SessionStore
from services.console.domain import Officer, Role, password_fault
from services.console.settings import ConsoleSettings
from services.console.texts import load_texts
from shared.directory import load_directory
from shared.mongo import open_store

commands = typer.Typer(
    name="accounts", no_args_is_help=True, add_completion=False, help="Who may sign in to the console."
)
ROLES = ("officer", "duty", "commander", "lead")


def run(arguments: list[str]) -> None:
    """Run one command."""
    commands(args=arguments)


@commands.command()
def save(
    account: Annotated[str, typer.Argument(help="name to sign in with: small letters, digits, . _ -")],
    unit: Annotated[str, typer.Option(help="slug of the unit")],
    name: Annotated[str, typer.Option(help="the officer's name, as colleagues see it")],
    role: Annotated[str, typer.Option(help=", ".join(ROLES))] = "officer",
) -> None:
    """Make an account, or give it a new unit, role and password; every session of it ends.

    The password is asked for, or read from standard input where that is no terminal.
    """
    settings = ConsoleSettings()
    if unit not in {known.slug for known in load_directory(settings.data_dir).units} or role not in ROLES:
        raise typer.BadParameter("no such unit or role")
    account = account.strip().lower()
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if fault := password_fault(password, account=account):
        raise typer.BadParameter(load_texts()["en"](f"error.{fault}"))

    async def work() -> None:
        store = open_store(settings)
        officer = Officer(account, name, unit, cast("Role", role))
        await AccountStore(store).save(officer, password_hash=await Passwords().make(password))
        await SessionStore(store, idle_seconds=60, session_seconds=60).close_all(account)
        await store.close()

    asyncio.run(work())
    typer.echo(f"{account}: {role} of {unit}")


@commands.command()
def disable(account: str) -> None:
    """Close an account; every session of it ends."""

    async def work() -> bool:
        store = open_store(ConsoleSettings())
        was_there = await AccountStore(store).disable(account)
        await SessionStore(store, idle_seconds=60, session_seconds=60).close_all(account)
        await store.close()
        return was_there

    if not asyncio.run(work()):
        raise typer.BadParameter("no such account")
    typer.echo(f"{account}: closed")


@commands.command(name="list")
def list_accounts() -> None:
    """Every account."""

    async def work() -> list[str]:
        store = open_store(ConsoleSettings())
        lines = [
            f"{a['_id']:24} {a['role']:10} {a['unit']:20} {'' if a['is_active'] else 'closed'}"
            for a in await AccountStore(store).all()
        ]
        await store.close()
        return lines

    for line in asyncio.run(work()):
        typer.echo(line)
