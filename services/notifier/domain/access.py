"""Who may do what with broadcasts. Pure.

Writing and approving are different rights, so that least privilege gives nobody both by accident; that the approver is
another person than the author is a rule of the broadcast itself (`domain/broadcast.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from services.notifier.domain.broadcast import Action, Draft

Right = Literal["read", "write", "approve", "run", "stop"]
Role = Literal["reader", "publisher", "approver", "operator"]

RIGHTS: Mapping[Role, frozenset[Right]] = {
    "reader": frozenset({"read"}),
    "publisher": frozenset({"read", "write", "run", "stop"}),
    "approver": frozenset({"read", "approve", "stop"}),
    # Whoever is on duty must be able to stop what goes wrong, and to let it go on.
    "operator": frozenset({"read", "run", "stop"}),
}

RIGHT_FOR: Mapping[Action, Right] = {
    "edit": "write",
    "preview": "write",
    "approve": "approve",
    "schedule": "run",
    "start": "run",
    "pause": "stop",
    "resume": "run",
    "cancel": "stop",
}
"""What each action of a person asks for; `finish` is nobody's but the product's own."""


@dataclass(frozen=True)
class Person:
    """Somebody who works with broadcasts.

    Attributes:
        id: stable; stands in the history.
        units: whose broadcasts they see and whose pages they write to; empty is all.
    """

    id: str
    name: str
    roles: frozenset[Role]
    units: frozenset[str] = frozenset()

    def may(self, right: Right) -> bool:
        """Whether one of their roles gives this right."""
        return any(right in RIGHTS[role] for role in self.roles)

    def covers(self, draft: Draft) -> bool:
        """Whether a broadcast speaks for, and reaches only pages of, units that are theirs."""
        if not self.units:
            return True
        return draft.unit in self.units and bool(draft.audience.units) and self.units.issuperset(draft.audience.units)
