import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import pytest

from stack import kafka_jars
from stack.errors import StackError
from stack.kafka_jars import Jar
from stack.terminal import Terminal

CONTENTS = {"org/example/one/1.0/one-1.0.jar": b"first jar", "org/example/sub/two/2.1/two-2.1.jar": b"second jar"}
JARS = [Jar(PurePosixPath(path), hashlib.sha256(content).hexdigest()) for path, content in CONTENTS.items()]
QUIET = Terminal(quiet=True)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A Maven repository on the loopback address, filled with CONTENTS."""
    root = tmp_path / "repository"
    for path, content in CONTENTS.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(content)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_jars, "WAITS_SECONDS", (0.0, 0.0))


def test_the_committed_list_holds_kafka_its_client_and_its_logging_once_each() -> None:
    jars = kafka_jars.read_list()
    names = [jar.filename for jar in jars]
    assert len(set(names)) == len(names)
    assert {"kafka_2.13-4.3.1.jar", "kafka-clients-4.3.1.jar", "log4j-slf4j-impl-2.25.4.jar"} <= set(names)
    assert all(len(jar.sha256) == 64 for jar in jars)


def test_coordinates_follow_from_the_path_in_a_repository() -> None:
    assert JARS[1].coordinates == ("org.example.sub", "two", "2.1")


def test_a_written_list_is_read_back_the_same(tmp_path: Path) -> None:
    kafka_jars.write_list(JARS, tmp_path / "list")
    assert kafka_jars.read_list(tmp_path / "list") == JARS


def test_an_empty_cache_is_filled_from_the_repository(tmp_path: Path, repository: str) -> None:
    folder = kafka_jars.ensure_jars(tmp_path / "cache", QUIET, repository_url=repository, jars=JARS)
    assert {path.name: path.read_bytes() for path in folder.glob("*.jar")} == {
        "one-1.0.jar": b"first jar",
        "two-2.1.jar": b"second jar",
    }


def test_a_full_cache_asks_no_repository(tmp_path: Path, repository: str) -> None:
    kafka_jars.ensure_jars(tmp_path / "cache", QUIET, repository_url=repository, jars=JARS)
    kafka_jars.ensure_jars(tmp_path / "cache", QUIET, repository_url="http://127.0.0.1:1", jars=JARS)


def test_jars_put_there_by_hand_are_taken(tmp_path: Path) -> None:
    folder = kafka_jars.jars_folder(tmp_path, JARS)
    folder.mkdir(parents=True)
    for path, content in CONTENTS.items():
        (folder / Path(path).name).write_bytes(content)
    assert kafka_jars.ensure_jars(tmp_path, QUIET, repository_url="http://127.0.0.1:1", jars=JARS) == folder


def test_a_jar_that_the_list_does_not_know_is_an_error(tmp_path: Path, repository: str) -> None:
    folder = kafka_jars.ensure_jars(tmp_path, QUIET, repository_url=repository, jars=JARS)
    (folder / "stranger-1.0.jar").write_bytes(b"?")
    with pytest.raises(StackError) as refusal:
        kafka_jars.ensure_jars(tmp_path, QUIET, repository_url=repository, jars=JARS)
    assert refusal.value.code == "kafka_jar_unexpected"
    assert "stranger-1.0.jar" in refusal.value.message


def test_a_cached_jar_that_was_changed_is_an_error(tmp_path: Path, repository: str) -> None:
    folder = kafka_jars.ensure_jars(tmp_path, QUIET, repository_url=repository, jars=JARS)
    (folder / "one-1.0.jar").write_bytes(b"first jar, improved")
    with pytest.raises(StackError) as refusal:
        kafka_jars.ensure_jars(tmp_path, QUIET, repository_url=repository, jars=JARS)
    assert refusal.value.code == "kafka_jar_mismatch"


def test_a_repository_that_serves_another_file_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, repository: str
) -> None:
    (tmp_path / "repository" / JARS[0].path).write_bytes(b"something else")
    with pytest.raises(StackError) as refusal:
        kafka_jars.ensure_jars(tmp_path / "cache", QUIET, repository_url=repository, jars=JARS[:1])
    assert refusal.value.code == "kafka_jar_mismatch"
    assert not list((tmp_path / "cache").rglob("*.jar"))


@pytest.mark.parametrize("gone", ["the jar", "the repository"])
def test_a_failed_download_says_where_to_put_the_jars_by_hand(tmp_path: Path, repository: str, gone: str) -> None:
    if gone == "the jar":
        (tmp_path / "repository" / JARS[0].path).unlink()
    else:
        repository = "http://127.0.0.1:1"
    with pytest.raises(StackError) as failure:
        kafka_jars.ensure_jars(tmp_path / "cache", QUIET, repository_url=repository, jars=JARS)
    assert failure.value.code == "kafka_jar_download_failed"
    assert str(kafka_jars.jars_folder(tmp_path / "cache", JARS)) in failure.value.advice
    assert "MAVEN_REPOSITORY_URL" in failure.value.advice


def test_whole_jars_of_an_interrupted_download_are_kept_for_the_next_try(tmp_path: Path, repository: str) -> None:
    (tmp_path / "repository" / JARS[1].path).unlink()
    with pytest.raises(StackError):
        kafka_jars.ensure_jars(tmp_path / "cache", QUIET, repository_url=repository, jars=JARS)
    folder = kafka_jars.jars_folder(tmp_path / "cache", JARS)
    assert [path.name for path in folder.glob("*.jar")] == ["one-1.0.jar"]
    assert kafka_jars.check(folder, JARS) == [JARS[1]]


def test_another_list_never_shares_a_folder(tmp_path: Path) -> None:
    assert kafka_jars.jars_folder(tmp_path, JARS) != kafka_jars.jars_folder(tmp_path, JARS[:1])
