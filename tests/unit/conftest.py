"""What several of the unit tests ask for."""

import pytest

from stack.observe import program
from stack.settings import StackSettings


@pytest.fixture(scope="session")
def promtool() -> str:
    """The program, from the PATH or from the cache."""
    found = program(StackSettings.load(), "promtool")
    if found is None:
        pytest.skip("NOT TESTED: promtool is not there (sh stack/prometheus.sh fetches it on Debian)")
    return found
