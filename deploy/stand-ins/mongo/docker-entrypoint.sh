#!/usr/bin/env bash
# As the official image: the first start makes the root user on loopback only, and from then on a password is needed;
# without a root user nothing asks for one. mongod's own options are understood where they have a counterpart.
set -euo pipefail
options=(--sync-on-commit --cache-size 512M --log-level WARNING)
while (($#)); do
    case $1 in
        mongod | --bind_ip_all) shift ;;
        --replSet | --keyFile | --bind_ip | --wiredTigerCacheSizeGB) shift 2 ;;
        *) options+=("$1") && shift ;;
    esac
done
server=(/opt/mongo/bin/secantusd-py --storage-path /data/db/secantus "${options[@]}" --port 27017)
[[ -n ${MONGO_INITDB_ROOT_USERNAME:-} ]] || exec "${server[@]}" --host 0.0.0.0
if [[ ! -e /data/db/.initialised ]]; then
    "${server[@]}" --host 127.0.0.1 &
    first=$!
    trap 'kill "$first" 2>/dev/null || true' EXIT
    /opt/mongo/bin/python - <<'PYTHON'
import os, pathlib, pymongo
from pymongo.errors import OperationFailure
file = os.environ.get("MONGO_INITDB_ROOT_PASSWORD_FILE")
password = pathlib.Path(file).read_text().strip() if file else os.environ["MONGO_INITDB_ROOT_PASSWORD"]
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
exec "${server[@]}" --auth --host 0.0.0.0
