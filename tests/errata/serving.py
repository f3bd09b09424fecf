"""A server that answers from a table of paths, for programs that make connections of their own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.errata.answers import problem


@dataclass
class Posted:
    """What was sent with a body."""

    bodies: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Answers from a table of paths; an answer may be a function."""

    answers: dict[str, Any]
    posted: Posted

    def do_GET(self) -> None:
        found = self.answers.get(self.path.partition("?")[0])
        found = found() if callable(found) else found
        body = found if found is not None else problem(404, "edit-not-found")
        self._send(200 if found is not None else 404, body)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.posted.paths.append(self.path)
        self.posted.bodies.append(json.loads(self.rfile.read(length) or "null"))
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_POST()

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        """Say nothing."""


@contextmanager
def serving(answers: dict[str, Any]) -> Iterator[tuple[str, Posted]]:
    """Give the URL of such a server, and what is posted to it."""
    posted = Posted()
    handler = type("Answering", (Handler,), {"answers": answers, "posted": posted})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
