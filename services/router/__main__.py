"""Run the router: `python -m services.router`."""

from services.router.app import build_app
from services.router.settings import RouterSettings
from shared.service import serve

if __name__ == "__main__":
    settings = RouterSettings()
    serve(build_app(settings), settings)
