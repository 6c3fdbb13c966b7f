"""Invented people who follow the demonstration's pages through the simulator, so that broadcasts have somebody."""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stack.errors import StackError

STAFF_TAG = "Cán bộ"
"""As the notifier's BROADCAST_STAFF_TAG: who has it gets test sends."""
EVERY_SECOND_PAGE = 6
EVERY_STOP = 10
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Followers:
    """Who was made.

    Attributes:
        staff: citizen key of the colleague who gets test sends.
    """

    people: int
    on_two_pages: int
    opted_out: int
    staff: str


def follow_pages(simulator_url: str, pages: list[str], count: int) -> Followers:
    """Let people follow the pages, some of them two; some want no broadcasts, one is a colleague. Safe to repeat.

    Raises:
        StackError: the simulator does not answer.
    """
    address = urlsplit(simulator_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_SECONDS)
    on_two = opted_out = 0
    staff = ""
    try:
        for number in range(1, count + 1):
            citizen, page = f"demo-{number:03}", pages[number % len(pages)]
            _post(connection, "follow", {"page": page, "citizen": citizen})
            if number % EVERY_SECOND_PAGE == 0:
                _post(connection, "follow", {"page": pages[(number + 1) % len(pages)], "citizen": citizen})
                on_two += 1
            if number % EVERY_STOP == 0:
                _post(connection, "messages", {"page": page, "citizen": citizen, "text": "ngừng nhận tin"})
                opted_out += 1
            if number == 1:
                staff = _make_staff(connection, page, citizen)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise StackError(
            "simulator_unreachable",
            f"The simulator does not answer at {simulator_url} ({type(error).__name__}).",
            "`make up` starts it; with SIMULATOR=off there is none.",
        ) from error
    finally:
        connection.close()
    return Followers(count, on_two, opted_out, staff)


def _make_staff(connection: http.client.HTTPConnection, page: str, citizen: str) -> str:
    """Tag a person as the page's administrator would in Zalo's OA manager."""
    who = {"page": page, "citizen": citizen}
    known = _post(connection, "follow", who)
    tag = {"name": STAFF_TAG, "user_ids": [known["user_id"]]}
    fired = _post(connection, "events", {**who, "event_name": "add_user_to_tag", "override": {"tag": tag}})
    return f"{fired['oa_id']}:{known['user_id']}"


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection.request("POST", f"/control/{path}", json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    content: dict[str, Any] = json.loads(response.read())
    if response.status != http.client.OK:
        raise ValueError(f"HTTP {response.status}")
    return content
