#!/usr/bin/env bash
# As the official image: the first start makes the root user on loopback only, every later one asks for a password.
set -euo pipefail
server=(/opt/mongo/bin/secantusd-py --storage-path /data/db/secantus "$@")
if [[ ! -e /data/db/.initialised ]]; then
    "${server[@]}" --host 127.0.0.1 --port 27017 &
    first=$!
    trap 'kill "$first" 2>/dev/null || true' EXIT
    /opt/mongo/bin/python - <<'PYTHON'
import os, pathlib, pymongo
from pymongo.errors import OperationFailure
password = pathlib.Path(os.environ["MONGO_INITDB_ROOT_PASSWORD_FILE"]).read_text().strip()
client = pymongo.MongoClient("127.0.0.1", directConnection=True, serverSelectionTimeoutMS=60_000)
try:
    client.admin.command("createUser", os.environ["MONGO_INITDB_ROOT_USERNAME"], pwd=password, roles=["root"])
except OperationFailure as failure:
    if failure.code != 51003:  # made by a first start that was interrupted
        raise
PYTHON
    kill "$first"
    wait "$first" || true
    trap - EXIT
    touch /data/db/.initialised
fi
exec "${server[@]}" --auth --host 0.0.0.0 --port 27017
