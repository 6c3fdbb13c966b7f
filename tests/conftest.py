"""Fixtures of all suites, and how much Hypothesis tries."""

import pytest
from hypothesis import settings

from shared.zalo_config import ZaloConfig
from tests.properties import TIMES

pytest_plugins = ["tests.servers"]

settings.load_profile("explore" if TIMES else "build")


@pytest.fixture
def no_zalo_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a configuration of their own."""
    for name in ZaloConfig.model_fields:
        monkeypatch.delenv(f"ZALO_{name.upper()}", raising=False)
