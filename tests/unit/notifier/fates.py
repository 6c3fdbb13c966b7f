"""What becomes of a call to Zalo in the state machines, by the fate that an example draws for it."""

from collections.abc import Callable
from typing import Literal

from services.notifier.domain.outcomes import Accepted, NotSent, Refused, SendOutcome, Unknown
from tests.unit.notifier.fakes import RULES

Fate = Literal[
    "accepted", "applied_and_lost", "lost", "refused", "again", "unreachable", "throttled", "dies_before", "dies_after"
]


class ProcessDied(BaseException):
    """The replica is gone in the middle of its work."""


def answer(fate: Fate, apply: Callable[[], str]) -> SendOutcome:
    """What the sender sees of a call.

    Args:
        fate: of the call.
        apply: lets Zalo take the message; returns its id.

    Raises:
        ProcessDied: the sender sees nothing any more.
    """
    match fate:
        case "accepted":
            return Accepted(apply())
        case "applied_and_lost":
            apply()
            return Unknown("zalo.answer_lost", "reset")
        case "lost":
            return Unknown("zalo.answer_lost", "reset")
        case "refused":
            return Refused(-213, RULES.errors.codes[-213].usual)
        case "again":
            return Refused(-200, RULES.errors.codes[-200].usual)
        case "unreachable":
            return NotSent("refused")
        case "throttled":
            return Refused(-32, RULES.errors.codes[-32].usual)
        case "dies_after":
            apply()
    raise ProcessDied
