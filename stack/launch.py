"""Start one program from its JSON description, replacing this process.

supervisord runs this file instead of the program itself: its configuration cannot carry every value (quotes in JSON
settings), and secrets stay in a file that only the owner reads. Standard library only and run with `-I -S`, so that it
costs some 15 ms.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Become the program that the file named on the command line describes."""
    description = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    environment.update(description["environment"])
    os.chdir(description["directory"])
    command = description["command"]
    os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
