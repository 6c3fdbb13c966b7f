"""`python -m deploy.mongo_setup`: starts the replica set and gives every program its own MongoDB user; safe to repeat.

Runs as the only program that knows the root password, before `hub init`. Passwords come from the same files that the
programs read their address from, so that changing such a file and running this again is how a password is changed.

A service may write to what it owns and to the shared collections, and read what the table below names. The database
enforces it: a fault in the service that faces the internet cannot read the officers' accounts or the pages' tokens.
"""
# ruff: noqa: T201 - a program of the command line speaks through print

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from shared.collections import ALL_COLLECTIONS

REPLICA_SET = "rs0"
READ = ("find", "listIndexes")
WRITE = (*READ, "insert", "update", "remove")
# A GridFS bucket is two collections, and the driver makes sure of its indexes before the first upload.
BUCKETS: dict[str, tuple[str, ...]] = {"intake": ("attachments",)}
PARTS = ("files", "chunks")
_ALL_BUCKETS = {bucket for buckets in BUCKETS.values() for bucket in buckets}
READS: dict[str, tuple[str, ...]] = {
    "console": ("cases", "case_entries", "messages", "contacts", "reply_ledger", "attachments"),
}
"""Collections of another owner that a service reads, by service; an attachment's bytes are in the bucket beside it."""

ALREADY_INITIALISED, USER_EXISTS, ROLE_EXISTS, WRONG_PASSWORD = 23, 51003, 51002, 18
SECONDS_TO_WAIT = 120
Client = MongoClient[dict[str, Any]]
Privileges = list[dict[str, Any]]


def services() -> list[str]:
    """Every service that owns a collection."""
    return sorted({spec.owner for spec in ALL_COLLECTIONS} - {"shared"})


def privileges_of(service: str, database: str) -> Privileges:
    """What the user of one service may do, in the form of MongoDB's createRole."""

    def on(collection: str, actions: Sequence[str]) -> dict[str, Any]:
        return {"resource": {"db": database, "collection": collection}, "actions": list(actions)}

    owned = [on(spec.name, WRITE) for spec in ALL_COLLECTIONS if spec.owner in {service, "shared"}]
    read = [on(name, READ) for name in READS.get(service, ())]
    read += [on(f"{name}.{part}", READ) for name in READS.get(service, ()) if name in _ALL_BUCKETS for part in PARTS]
    files = [on(f"{bucket}.{part}", (*WRITE, "createIndex")) for bucket in BUCKETS.get(service, ()) for part in PARTS]
    return [*owned, *read, *files]


def credentials(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Read `MONGO_URI_<NAME>_FILE` settings.

    Yields:
        Name, user and password.
    """
    for variable in sorted(environment):
        if variable.startswith("MONGO_URI_") and variable.endswith("_FILE"):
            name = variable.removeprefix("MONGO_URI_").removesuffix("_FILE").lower()
            address = parse_uri(Path(environment[variable]).read_text("utf-8").strip())
            yield name, address["username"], address["password"]


def _tolerate(codes: set[int], client: Client, command: str, value: Any, **more: Any) -> bool:
    """Run an admin command; False when it had been done before."""
    try:
        client.admin.command(command, value, **more)
    except OperationFailure as failure:
        if failure.code not in codes:
            raise
        return False
    return True


def _set_role(client: Client, name: str, privileges: Privileges) -> None:
    if not _tolerate({ROLE_EXISTS}, client, "createRole", name, privileges=privileges, roles=[]):
        client.admin.command("updateRole", name, privileges=privileges, roles=[])


def _set_user(client: Client, name: str, password: str, roles: Sequence[Any]) -> None:
    if not _tolerate({USER_EXISTS}, client, "createUser", name, pwd=password, roles=list(roles)):
        client.admin.command("updateUser", name, pwd=password, roles=list(roles))


def _become_writable(client: Client, member: str) -> None:
    """Start the replica set if the server was told to be one and is not yet; wait until it takes writes."""
    hello = client.admin.command("hello")
    if hello.get("isreplicaset"):  # said by a member that has not been initiated
        members = [{"_id": 0, "host": member}]
        _tolerate({ALREADY_INITIALISED}, client, "replSetInitiate", {"_id": REPLICA_SET, "members": members})
    if not hello.get("isWritablePrimary"):
        raise TimeoutError("not primary yet")


def main() -> int:
    """Set everything up; 0 when done, 1 when the database did not come up in time."""
    host = os.environ.get("MONGO_HOST", "mongo:27017")
    database = os.environ.get("MONGO_DATABASE", "binhyen")
    root_password = Path(os.environ["MONGO_ROOT_PASSWORD_FILE"]).read_text("utf-8").strip()
    client: Client = MongoClient(
        f"mongodb://{host}/",
        username="root",
        password=root_password,
        authSource="admin",
        directConnection=True,  # before it is initiated a member of a replica set can only be reached like this
        serverSelectionTimeoutMS=2_000,
    )
    deadline = time.monotonic() + SECONDS_TO_WAIT
    with client:
        while True:
            try:
                _become_writable(client, host)
                break
            except (PyMongoError, TimeoutError) as error:
                if isinstance(error, OperationFailure) and error.code == WRONG_PASSWORD:
                    print(
                        f"MongoDB at {host} refuses the root password: its data was made with other secrets. Put those "
                        "back, or delete the data (docker compose down --volumes) to start from nothing.",
                        file=sys.stderr,
                    )
                    return 1
                if time.monotonic() > deadline:
                    print(f"MongoDB at {host} did not become writable: {error}", file=sys.stderr)
                    return 1
                time.sleep(0.5)
        for service in services():
            _set_role(client, f"hub-{service}", privileges_of(service, database))
        users = list(credentials(os.environ))
        for name, user, password in users:
            # The init job and the command line make and read everything; they are run by a person or before the start.
            roles = [f"hub-{name}"] if name in services() else [{"role": "readWrite", "db": database}]
            _set_user(client, user, password, roles)
    print(f"MongoDB is writable; users: {', '.join(user for _, user, _ in users)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
