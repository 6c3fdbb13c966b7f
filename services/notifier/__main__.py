"""`python -m services.notifier`; `python -m services.notifier openapi` prints the contract of its HTTP API."""

import json
import sys

from services.notifier.app import build_app, openapi_document
from services.notifier.settings import NotifierSettings
from shared.service import run, server

if __name__ == "__main__":
    if sys.argv[1:2] == ["openapi"]:
        sys.stdout.write(json.dumps(openapi_document(), ensure_ascii=False, indent=1) + "\n")
    else:
        settings = NotifierSettings()
        app = build_app(settings)
        run(server(app, settings), app.service.health, settings)
