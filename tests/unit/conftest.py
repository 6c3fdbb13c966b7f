"""What several of the unit tests ask for."""

import shutil

import pytest

from stack.settings import StackSettings


@pytest.fixture(scope="session")
def promtool() -> str:
    """The program, from the PATH or from the cache."""
    cached = StackSettings.load().hub_cache_dir / "prometheus/usr/bin/promtool"
    found = shutil.which("promtool") or (str(cached) if cached.is_file() else None)
    if found is None:
        pytest.skip("NOT TESTED: promtool is not there (sh stack/prometheus.sh fetches it on Debian)")
    return found
