"""The hub's address book `state.json`, read by the command line and the tests; and what the stack remembers itself."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from stack.supervision import write_private


@dataclass(frozen=True)
class HubState:
    """Where everything answers. `mongo` carries a password, so the file is for its owner only."""

    kafka: str | None
    mongo: str | None
    intake: str | None
    router: str | None
    notifier: str | None
    simulator: str | None
    webhook: str | None
    zalo_config: str | None
    supervisor: str
    console: str | None = None
    version: int = 1
    instances: dict[str, list[str]] = field(default_factory=dict)
    """Every address of each service; more than one after `make scale`."""

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """The state of a hub that runs or ran here."""
        try:
            return cls(**json.loads((home / "state.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def write(self, home: Path) -> None:
        """Save it."""
        write_private(home / "state.json", json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


@dataclass
class Memory:
    """What one run leaves for the next: ports, and how many instances of each service are wanted."""

    home: Path
    ports: dict[str, int] = field(default_factory=dict)
    instances: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, home: Path) -> Self:
        """Read it; a new home remembers nothing."""
        try:
            saved = json.loads((home / "memory.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            saved = {}
        return cls(home, saved.get("ports", {}), saved.get("instances", {}))

    def save(self) -> None:
        """Write it."""
        content = {"ports": self.ports, "instances": self.instances}
        write_private(self.home / "memory.json", json.dumps(content, indent=1) + "\n")
