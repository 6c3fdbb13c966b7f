"""The stack in containers, once for all tests that need it, and a word about it in the report."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.make_secrets import Folder, make
from tests.compose.harness import ROOT, Compose, engine
from tests.servers import name_server

RESULTS = ROOT / "test-results" / "compose"
REPORT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Hand the lines to the report, which may be written by another process (xdist)."""
    if lines := item.config.stash[REPORT]:
        item.user_properties.append(("told", list(lines)))
        lines.clear()
    return (yield)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> list[str]:
    """Lines for the summary."""
    return pytestconfig.stash[REPORT]


@pytest.fixture(scope="module")
def stack(
    report: list[str], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Compose]:
    """The whole hub with its simulator, in containers; gone again before the next suite starts."""
    docker, found = engine()
    if docker is None:
        report.append(f"not run: {found}")
        pytest.skip(found)
    secrets: Path = tmp_path_factory.mktemp("secrets")
    make(Folder(secrets), zalo=None)
    compose = Compose(docker, f"binh-yen-test-{os.getpid()}", secrets)
    stand_ins = ", ".join(f"{image} ({what})" for image, what in compose.stand_ins.items())
    images = f"stand-ins: {stand_ins}" if stand_ins else "official images"
    report.append(f"{found}; {images}")
    name_server("stack", f"whole hub in containers ({found}; {images})")
    try:
        compose.build()
        compose.up()
        yield compose
        if request.session.testsfailed:
            keep_logs(compose)
    except BaseException:
        keep_logs(compose)
        raise
    finally:
        compose.delete()


def keep_logs(compose: Compose) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "containers.log").write_text(compose.logs(), encoding="utf-8")
