"""When a request is sent again and when not, and what is said when no answer comes."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from errata import Client, wire
from errata.errors import (
    ConnectionLost,
    NoAnswerInTime,
    NotErrata,
    OtherVersion,
    Refused,
    ServerNotRunning,
)
from errata.places import LOCK, Holder
from errata.wire import Attempts
from tests.conftest import wait_until
from tests.errata.answers import FACT, model, order, page, problem
from tests.errata.either import URL, Either, FakeServer, answered

BUSY = answered(problem(503, "database-unavailable"), 503)


@pytest.fixture
def settled() -> httpx.Response:
    return answered(order())


# --- again or not --------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadError("cut"),
        httpx.WriteError("cut"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        answered(problem(429, "queue-full"), 429, retry_after="0"),
        answered(problem(503, "database-unavailable"), 503, retry_after="0"),
        answered(problem(409, "idempotency-key-in-flight"), 409),
        httpx.Response(502, text="<h1>Bad gateway</h1>"),
        answered(problem(504, "probe-timed-out"), 504),
    ],
    ids=lambda failure: getattr(failure, "status_code", type(failure).__name__),
)
def test_an_order_is_sent_again_under_the_same_key(ask: Either, failure: Any) -> None:
    server = FakeServer(failure, failure, answered(order()))
    assert ask(server, "edit", **FACT).applied
    keys = {request.headers["idempotency-key"] for request in server.asked}
    assert (len(server.asked), len(keys)) == (3, 1)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("status", [400, 404, 409, 412, 413, 415, 422, 500])
def test_what_will_not_pass_is_not_sent_again(ask: Either, status: int) -> None:
    server = FakeServer(answered(problem(status, "head-moved", head="snp_9"), status))
    with pytest.raises(Refused) as caught:
        ask(server, "edit", **FACT)
    error = caught.value
    assert (error.status, error.code, error.detail) == (status, "head-moved", "Why.")
    assert error.fields == {"head": "snp_9"}


@pytest.mark.usefixtures("hasty")
def test_what_is_not_the_same_twice_is_sent_again_only_if_it_did_not_arrive(ask: Either) -> None:
    server = FakeServer(httpx.ConnectError("refused"), httpx.ReadError("cut"))
    with pytest.raises(ConnectionLost, match="look before you repeat"):
        ask(server, "remove_model", "m")
    assert len(server.asked) == 2


def test_patience_has_an_end(ask: Either) -> None:
    server = FakeServer(*[BUSY] * 100)
    began = time.monotonic()
    with pytest.raises(Refused) as caught:
        ask(server, "models", patience=0.5)
    assert caught.value.code == "database-unavailable"
    assert 1 < len(server.asked) < 100
    assert time.monotonic() - began < 5


def test_without_patience_nothing_is_sent_again(ask: Either) -> None:
    server = FakeServer(BUSY)
    with pytest.raises(Refused):
        ask(server, "models", patience=0)


def test_a_slow_server_is_not_asked_again(ask: Either) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    server = FakeServer(slow)
    with pytest.raises(NoAnswerInTime, match="within 60 s"):
        ask(server, "models")
    assert len(server.asked) == 1


def test_the_pause_is_as_long_as_the_server_asks() -> None:
    def pause(text: str, patience: float = 3600) -> float:
        response = answered(problem(503, "x"), 503, retry_after=text)
        response.request = httpx.Request("GET", URL)
        return Attempts(URL, patience, repeatable=True).refused(response)

    assert 7 < pause("7") < 7 + wire.LONGEST_PAUSE
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < pause(later) < 60 + wire.LONGEST_PAUSE
    assert pause("nonsense") < 1
    with pytest.raises(Refused):  # at once: the time would be over before
        pause("7", patience=5)


def test_pauses_grow_and_differ() -> None:
    def pauses() -> list[float]:
        attempts = Attempts(URL, 3600, repeatable=True)
        return [attempts.after(httpx.ConnectError("refused")) for _ in range(10)]

    one, other = pauses(), pauses()
    assert one != other
    assert one[0] <= wire.FIRST_PAUSE
    assert wire.LONGEST_PAUSE / 2 <= one[-1] <= wire.LONGEST_PAUSE


# --- events --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_events_go_on_where_a_cut_stream_ended(ask: Either) -> None:
    first = 'id: 7\nevent: edit.claimed\ndata: {"edit": 1}\n\n: still here\n\nid: 8\ndata: half'
    second = "id: 8\nevent: edit.cancel-requested\ndata: {}\n\n"
    third = "id: 9\nevent: edit.settled\ndata: done\n\n"

    class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield first.encode()
            raise httpx.ReadError("cut")

        async def __aiter__(self) -> Any:
            for part in self:
                yield part

    server = FakeServer(
        httpx.Response(200, stream=Cut()),
        BUSY,
        httpx.Response(200, text=second),
        httpx.ConnectError("refused"),
        httpx.Response(200, text=third),
    )
    events = ask(server, "events", "edt_1")
    assert [(event.id, event.name, event.data) for event in events] == [
        ("7", "edit.claimed", {"edit": 1}),
        ("8", "edit.cancel-requested", {}),
        ("9", "edit.settled", "done"),
    ]
    assert "last-event-id" not in server.asked[0].headers
    assert [each.headers.get("last-event-id") for each in server.asked[1:]] == ["7", "7", "8", "8"]


def test_events_of_an_unknown_order_are_a_refusal(ask: Either) -> None:
    server = FakeServer(answered(problem(404, "edit-not-found"), 404))
    with pytest.raises(Refused) as caught:
        ask(server, "events", "edt_404")
    assert caught.value.code == "edit-not-found"


def test_a_stream_that_never_comes_back_is_given_up(ask: Either) -> None:
    server = FakeServer(*[httpx.ReadTimeout("silent")] * 100)
    with pytest.raises(ConnectionLost):
        ask(server, "events", "edt_1", patience=0.3)


# --- nobody, or somebody else ---------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "errata").mkdir()
    return tmp_path / "errata"


def refused(ask: Either, url: str = "http://127.0.0.1:8642") -> str:
    server = FakeServer(httpx.ConnectError("refused"))
    with pytest.raises(ServerNotRunning) as caught:
        ask(server, "models", url=url, patience=0)
    assert caught.value.url == url
    return caught.value.detail


def test_nobody_there_says_what_to_start(ask: Either, data: Path) -> None:
    assert refused(ask) == (
        "no server answers at http://127.0.0.1:8642. "
        f"Start one with `errata up`; {data} holds no data yet"
    )
    assert "`errata up --port 9000`" in refused(ask, "http://127.0.0.1:9000")
    assert "Is that host up" in refused(ask, "http://elsewhere.test")


def test_a_stack_that_has_ended_left_its_data(ask: Either, data: Path) -> None:
    (data / LOCK).write_text("999999999\nhttp://127.0.0.1:8642\n")
    assert f"it goes on with the data in {data}" in refused(ask)


@pytest.fixture
def looks_like_a_stack() -> Iterator[int]:
    """The pid of a process that does nothing, under the name of a stack."""
    argv = [sys.executable, "-c", "import time; time.sleep(300)", "errata.stack"]
    with subprocess.Popen(argv) as process:
        # The parent goes on a moment before the kernel shows the new command line.
        wait_until(Holder(process.pid, None).lives)
        yield process.pid
        process.kill()


def test_a_stack_that_runs_is_told_with_where_it_listens(
    ask: Either, data: Path, looks_like_a_stack: int
) -> None:
    (data / LOCK).write_text(f"{looks_like_a_stack}\nhttp://127.0.0.1:9000\n")
    assert f"`errata up` (pid {looks_like_a_stack})" in refused(ask)
    assert "listens at http://127.0.0.1:9000" in refused(ask)
    assert "its API is away" in refused(ask, "http://127.0.0.1:9000")
    (data / LOCK).write_text(f"{looks_like_a_stack}\n\n")
    assert "does not listen yet" in refused(ask)


@pytest.mark.parametrize(
    "strange",
    [
        httpx.Response(200, text="<html>Hello</html>", headers={"server": "nginx"}),
        httpx.Response(404, text="<html>Not found</html>", headers={"server": "nginx"}),
        answered({"detail": "Not Found"}, 404, server="nginx"),
        answered([], 403, server="nginx"),
    ],
)
def test_another_service_at_the_address_is_told_apart(ask: Either, strange: Any) -> None:
    with pytest.raises(NotErrata, match=f"at {URL} is no Errata server .*nginx") as caught:
        ask(FakeServer(strange), "models")
    assert caught.value.code == "not-errata"


@pytest.mark.parametrize(
    "strange",
    [
        answered(problem(404, "not-found"), 404),
        answered(problem(405, "method-not-allowed"), 405),
        answered({"items": []}),
        answered(page({"name": "no id"})),
        answered(["m"]),
        answered(page(model(created_at="yesterday"))),
    ],
)
def test_another_version_is_told_apart(ask: Either, strange: Any) -> None:
    with pytest.raises(OtherVersion, match="another version") as caught:
        ask(FakeServer(strange), "models")
    assert caught.value.fields == {"url": URL, "request": "GET /models"}


@contextmanager
def listening(reply: bytes) -> Iterator[str]:
    """Something that takes connections, sends `reply` and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("reply", "error"),
    [(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", NotErrata), (b"", ConnectionLost)],
    ids=["ssh", "hangs up"],
)
def test_what_speaks_no_http_is_told(reply: bytes, error: type[Exception]) -> None:
    with listening(reply) as url, Client(url, patience=0) as client, pytest.raises(error):
        client.models()
