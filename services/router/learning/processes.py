"""Two pieces of work at once, on two processors."""

from collections.abc import Callable
from multiprocessing import get_all_start_methods, get_context
from typing import TypeVar

Mine = TypeVar("Mine")
Other = TypeVar("Other")


def side_by_side(mine: Callable[[], Mine], other: Callable[[], Other]) -> tuple[Mine, Other]:
    """What both return; the other one works in a process of its own where the system can fork one.

    A forked process finds everything as it is here: only what it returns goes through a pipe. Threads would wait for
    one another.

    Raises:
        RuntimeError: the other one failed; its own error stands on the terminal.
    """
    if "fork" not in get_all_start_methods():
        return mine(), other()
    context = get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=lambda: there.send(other()), daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    try:
        found = mine()
        return found, here.recv()
    except EOFError as error:
        raise RuntimeError("a process of the training ended without a result") from error
    finally:
        here.close()
        process.terminate()
        process.join()
