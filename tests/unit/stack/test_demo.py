import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from services.notifier.settings import NotifierSettings
from stack.demo import STAFF_TAG, follow_pages
from stack.errors import StackError


@pytest.fixture
def simulator() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Takes whatever is posted, and remembers it."""
    posted: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            posted.append((self.path, body))
            answer = json.dumps({"user_id": f"u-{body['citizen']}", "oa_id": "4"}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    server.server_close()


def test_people_follow_all_pages_some_twice_some_say_stop_and_one_is_staff(simulator: Any) -> None:
    url, posted = simulator

    made = follow_pages(url, ["a", "b", "c"], 12)

    assert (made.people, made.on_two_pages, made.opted_out, made.staff) == (12, 2, 1, "4:u-demo-001")
    followed = {(body["page"], body["citizen"]) for path, body in posted if path.endswith("/follow")}
    assert len(followed) == 14
    assert {page for page, _ in followed} == {"a", "b", "c"}
    ((_, tagged),) = [(path, body) for path, body in posted if path.endswith("/events")]
    assert tagged["override"] == {"tag": {"name": STAFF_TAG, "user_ids": ["u-demo-001"]}}


def test_the_colleague_is_tagged_as_the_notifier_expects() -> None:
    assert NotifierSettings.model_fields["broadcast_staff_tag"].default == STAFF_TAG


def test_a_simulator_that_is_not_there_is_told() -> None:
    with pytest.raises(StackError, match="does not answer"):
        follow_pages("http://127.0.0.1:1", ["a"], 1)
