"""`python -m services.intake`: run the service until it is told to stop."""

import sys
from typing import Any

from services.intake.app import build_app
from services.intake.settings import IntakeSettings
from shared.errors import ConfigurationError
from shared.service import serve


def main() -> None:
    """Read the settings, build the service, serve."""
    settings = IntakeSettings()
    try:
        app = build_app(settings)
    except ConfigurationError as error:
        sys.exit(f"intake: {error}")
    # The sender's address is of no use here: the signature says who it is.
    options: dict[str, Any] = {"limit_concurrency": settings.limit_concurrency, "proxy_headers": False}
    if settings.tls_certificate_file is not None:
        options |= {"ssl_certfile": settings.tls_certificate_file, "ssl_keyfile": settings.tls_private_key_file}
    serve(app, settings, **options)


if __name__ == "__main__":
    main()
