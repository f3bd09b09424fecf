"""Over a real socket: what happens is told when it happens, and a server can end."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress

import httpx
import pytest
import uvicorn

from app.main import create_app
from app.settings import Settings
from tests.app.hands import Hands
from tests.conftest import wait_until


@pytest.fixture
def server(settings: Settings) -> Iterator[uvicorn.Server]:
    config = uvicorn.Config(
        create_app(settings),
        port=0,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield server
    server.should_exit = True
    thread.join(timeout=10)
    assert not thread.is_alive()


def events_of(server: uvicorn.Server, edit: str) -> AbstractContextManager[httpx.Response]:
    port = server.servers[0].sockets[0].getsockname()[1]
    return httpx.stream("GET", f"http://127.0.0.1:{port}/edits/{edit}/events", timeout=10)


def test_events_come_as_they_happen(hands: Hands, server: uvicorn.Server) -> None:
    edit = hands.order()
    seen: list[str] = []
    with events_of(server, edit) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
            if seen == ["edit.submitted"] and line == "":
                order = hands.take()  # only once the first event is here
                hands.settle(order)
    assert seen == ["edit.submitted", "edit.claimed", "snapshot.created", "edit.settled"]


def test_a_server_ends_although_somebody_listens(hands: Hands, server: uvicorn.Server) -> None:
    edit = hands.order()
    with events_of(server, edit) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.should_exit = True
        with suppress(httpx.RemoteProtocolError):  # cut off is an end too
            assert "edit.settled" not in "".join(lines)
