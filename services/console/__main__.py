"""Run the console: `python -m services.console`; manage its accounts: `python -m services.console accounts --help`.

`python -m services.console openapi` prints the contract of its HTTP API.
"""

import json
import sys

from services.console.accounts import run as run_accounts
from services.console.app import build_app, openapi_document
from services.console.settings import ConsoleSettings
from shared.service import run, server


def main() -> None:
    """Serve until told to stop, or manage accounts."""
    if sys.argv[1:2] == ["accounts"]:
        run_accounts(sys.argv[2:])
        return
    settings = ConsoleSettings()
    if sys.argv[1:2] == ["openapi"]:
        sys.stdout.write(json.dumps(openapi_document(settings), ensure_ascii=False, indent=1) + "\n")
        return
    app = build_app(settings)
    running = server(app, settings)
    app.deps.live.is_stopping = lambda: running.should_exit  # open streams end at once, not after a grace period
    run(running, app.service.health, settings)


main()
