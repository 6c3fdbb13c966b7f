"""`python -m services.notifier`."""

from services.notifier.app import build_app
from services.notifier.settings import NotifierSettings
from shared.service import serve

if __name__ == "__main__":
    settings = NotifierSettings()
    serve(build_app(settings), settings)
