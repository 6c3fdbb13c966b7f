import stat
from pathlib import Path

from stack.state import HubState, Memory


def a_state() -> HubState:
    return HubState(
        kafka="127.0.0.1:20001",
        mongo="mongodb://hub:p4ss@127.0.0.1:20002/",
        intake="http://127.0.0.1:20003",
        router="http://127.0.0.1:20004",
        notifier="http://127.0.0.1:20005",
        console="http://127.0.0.1:20006",
        simulator=None,
        webhook="http://127.0.0.1:20003/webhooks/zalo",
        zalo_config=None,
        supervisor="unix:///tmp/s.sock",
        instances={"intake": ["http://127.0.0.1:20003"]},
    )


def test_the_address_book_is_read_back_and_is_for_its_owner_only(tmp_path: Path) -> None:
    a_state().write(tmp_path)
    assert HubState.read(tmp_path) == a_state()
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


def test_a_home_without_a_hub_has_no_address_book(tmp_path: Path) -> None:
    assert HubState.read(tmp_path) is None


def test_ports_and_instances_outlive_a_run(tmp_path: Path) -> None:
    memory = Memory.load(tmp_path)
    memory.ports["router"], memory.instances["notifier"] = 20_001, 2
    memory.save()
    assert Memory.load(tmp_path).ports == {"router": 20_001}
    assert Memory.load(tmp_path).instances == {"notifier": 2}
