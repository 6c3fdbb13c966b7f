import os
import socket
from collections.abc import Iterator

import pytest

from stack import ports
from stack.errors import StackError


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def nobody(_port: int) -> bool:
    return False


def test_a_port_that_somebody_listens_on_is_not_free(listening: int) -> None:
    assert not ports.is_free(listening)


def test_a_found_port_lies_below_the_range_of_outgoing_connections() -> None:
    assert ports.FIRST_PORT <= ports.find_free(set()) <= ports.LAST_PORT < 32_768


def test_the_port_of_the_last_run_is_used_again() -> None:
    remembered = ports.find_free(set())
    assert ports.choose("ROUTER_PORT", fixed=None, remembered=remembered, taken=set(), is_ours=nobody) == remembered


def test_a_remembered_port_that_somebody_took_meanwhile_is_replaced(listening: int) -> None:
    assert ports.choose("ROUTER_PORT", fixed=None, remembered=listening, taken=set(), is_ours=nobody) != listening


def test_a_remembered_port_is_kept_while_our_own_program_holds_it(listening: int) -> None:
    assert (
        ports.choose("ROUTER_PORT", fixed=None, remembered=listening, taken=set(), is_ours=listening.__eq__)
        == listening
    )


def test_a_port_of_another_program_of_this_run_is_not_given_twice() -> None:
    remembered = ports.find_free(set())
    assert (
        ports.choose("ROUTER_PORT", fixed=None, remembered=remembered, taken={remembered}, is_ours=nobody) != remembered
    )


def test_a_wanted_port_that_is_taken_is_refused_with_the_name_of_its_holder(listening: int) -> None:
    with pytest.raises(StackError) as refusal:
        ports.choose("WEBHOOK_PORT", fixed=listening, remembered=None, taken=set(), is_ours=nobody)
    assert refusal.value.code == "port_taken"
    assert f"pid {os.getpid()}" in refusal.value.message
    assert str(listening) in refusal.value.message
    assert "WEBHOOK_PORT" in refusal.value.advice
