import configparser
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.supervision import LONGEST_SOCKET_PATH, Program, Supervisor, write_private


def a_program(name: str = "router", **environment: str) -> Program:
    return Program(name=name, command=(sys.executable, "-c", "pass"), environment=environment)


def written(supervisor: Supervisor, *programs: Program) -> configparser.RawConfigParser:
    supervisor._write(programs)
    conf = configparser.RawConfigParser()
    conf.read(supervisor.home / "supervisord.conf")
    return conf


def test_every_program_is_restarted_and_ended_with_its_children(tmp_path: Path) -> None:
    conf = written(Supervisor(tmp_path), a_program("router"), a_program("kafka"))
    for section in ("program:router", "program:kafka"):
        assert conf[section]["autorestart"] == "true"
        assert conf[section]["stopasgroup"] == conf[section]["killasgroup"] == "true"
        assert conf[section]["stdout_logfile"].startswith(str(tmp_path / "logs"))


def test_the_control_socket_asks_for_a_password_that_stays_the_same(tmp_path: Path) -> None:
    first = written(Supervisor(tmp_path))["unix_http_server"]
    again = written(Supervisor(tmp_path))["unix_http_server"]
    assert len(first["password"]) >= 32
    assert first["password"] == again["password"]
    assert first["chmod"] == "0700"


def test_configuration_and_program_files_are_for_their_owner_only(tmp_path: Path) -> None:
    written(Supervisor(tmp_path), a_program(TOKEN="t0ken"))
    for file in (tmp_path / "supervisord.conf", tmp_path / "programs" / "router.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "t0ken" not in (tmp_path / "supervisord.conf").read_text(encoding="utf-8")


def test_a_program_that_is_no_longer_wanted_leaves_no_file(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    written(supervisor, a_program("notifier"), a_program("notifier-2"))
    written(supervisor, a_program("notifier"))
    assert [path.name for path in (tmp_path / "programs").iterdir()] == ["notifier.json"]


def test_a_long_home_gets_a_short_socket_of_its_own(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deeper = tmp_path / ("d" * 60) / ("f" * 60)
    assert len(str(Supervisor(deep).socket)) <= LONGEST_SOCKET_PATH
    assert Supervisor(deep).socket != Supervisor(deeper).socket


@pytest.mark.parametrize("change", ["environment", "command", "settings file"])
def test_a_program_is_restarted_when_anything_about_it_changes(change: str, tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("a=1", encoding="utf-8")
    before = Program(name="kafka", command=("/bin/true",), environment={"A": "1"}, depends_on_file=file).digest()
    environment, command = {"A": "1"}, ("/bin/true",)
    if change == "environment":
        environment = {"A": "2"}
    elif change == "command":
        command = ("/bin/false",)
    else:
        file.write_text("a=2", encoding="utf-8")
    after = Program(name="kafka", command=command, environment=environment, depends_on_file=file).digest()
    assert before != after


def test_a_launched_program_gets_values_that_no_configuration_file_could_carry(tmp_path: Path) -> None:
    value = '[{"name": "Công an \\"phường\\" 100%", "lines": "one\\ntwo"}]'
    program = Program(
        name="intake",
        command=(sys.executable, "-c", "import os; print(os.environ['ZALO_PAGES'], end='')"),
        environment={"ZALO_PAGES": value, "PYTHONIOENCODING": "utf-8"},
    )
    file = tmp_path / "intake.json"
    file.write_text(program.description(), encoding="utf-8")
    launcher = Path(__file__).resolve().parents[3] / "stack" / "launch.py"
    finished = subprocess.run([sys.executable, "-I", "-S", str(launcher), str(file)], capture_output=True, check=True)
    assert finished.stdout.decode() == value


def test_the_description_is_what_the_launcher_reads() -> None:
    description = json.loads(a_program(A="1").description())
    assert description["command"][0] == sys.executable
    assert description["environment"] == {"A": "1"}
    assert Path(description["directory"]).is_dir()


def test_a_supervisor_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    assert not supervisor.is_running()
    with pytest.raises(StackError) as failure:
        supervisor.processes()
    assert failure.value.code == "hub_not_running"
    assert "make up" in failure.value.advice


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_private(file, "one")
    write_private(file, "two")
    assert file.read_text(encoding="utf-8") == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_the_end_of_a_log_is_at_hand(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    assert supervisor.log_tail("router") == ""
    supervisor.logs.mkdir()
    supervisor.log_file("router").write_text("".join(f"line {n}\n" for n in range(100)), encoding="utf-8")
    assert supervisor.log_tail("router", lines=2) == "line 98\nline 99"


def test_a_line_that_repeats_is_shown_once(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    supervisor.logs.mkdir()
    supervisor.log_file("router").write_text("cannot start\n" * 9, encoding="utf-8")
    assert supervisor.log_tail("router") == "cannot start"
