"""The client against a fake server: what it sends, when it asks again, how it fails."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import errata
from errata.client import Client
from errata.errors import ErrataError, OrderFailed, ServerNotRunning, WaitTimeout

FACT = {"subject": "France", "prompt": "The capital of {} is", "target_new": "Lyon"}
Answer = httpx.Response | Exception


class FakeServer:
    """Gives its answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: Answer | Callable[[httpx.Request], Answer]) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> Client:
        return Client("http://errata.test", pauses=(0, 0), transport=httpx.MockTransport(self))

    def body(self, number: int = 0) -> Any:
        return json.loads(self.asked[number].content)


def order(status: str, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"id": "edt_1", "status": status, **more})


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"type": "about:blank", "title": "No", "status": status, "code": code, "detail": "Why."}
    return httpx.Response(
        status, json=body, headers={"content-type": "application/problem+json", **headers}
    )


def test_one_fact_is_sent_inline_and_many_as_requests() -> None:
    server = FakeServer(order("queued"), order("queued"))
    with server.client() as client:
        client.submit(model="m", editor="memit", **FACT)
        client.submit(model="m", editor="memit", requests=[FACT, FACT], hparams={"layers": [1]})
    assert server.body(0) == {"model": "m", "editor": "memit", **FACT}
    assert server.body(1) == {
        "model": "m",
        "editor": "memit",
        "hparams": {"layers": [1]},
        "requests": [FACT, FACT],
    }


def test_neither_and_both_forms_of_an_order_are_refused() -> None:
    with FakeServer().client() as client:
        with pytest.raises(TypeError, match="requests"):
            client.submit(model="m", editor="memit")
        with pytest.raises(TypeError, match="requests"):
            client.submit(model="m", editor="memit", requests=[FACT], **FACT)


def test_an_order_is_repeated_under_the_same_key_after_a_cut_connection() -> None:
    server = FakeServer(
        httpx.ReadError("cut"),
        problem(503, "queue-unavailable", **{"retry-after": "0"}),
        order("queued"),
    )
    with server.client() as client:
        assert client.submit(model="m", editor="rome", **FACT)["id"] == "edt_1"
    keys = {request.headers["idempotency-key"] for request in server.asked}
    assert len(server.asked) == 3
    assert len(keys) == 1


def test_two_orders_have_two_keys_and_a_given_key_is_kept() -> None:
    server = FakeServer(order("queued"), order("queued"), order("queued"))
    with server.client() as client:
        client.submit(model="m", editor="rome", **FACT)
        client.submit(model="m", editor="rome", **FACT)
        client.submit(model="m", editor="rome", idempotency_key="mine", **FACT)
    first, second, third = (request.headers["idempotency-key"] for request in server.asked)
    assert first != second
    assert third == "mine"


def test_registering_is_not_repeated_when_it_may_have_arrived() -> None:
    server = FakeServer(httpx.ReadError("cut"))
    with server.client() as client, pytest.raises(ServerNotRunning):
        client.register_model("smollm2-135m")
    assert len(server.asked) == 1


def test_nobody_there_says_how_to_start_a_server() -> None:
    refused = [httpx.ConnectError("refused")] * 3
    with FakeServer(*refused).client() as client, pytest.raises(ServerNotRunning) as caught:
        client.models()
    assert str(caught.value) == (
        "no server answers at http://errata.test; start one with `errata up`"
    )
    assert caught.value.code == "server-not-running"


def test_a_problem_becomes_an_error_with_its_code() -> None:
    server = FakeServer(problem(422, "subject-slot-missing"))
    with server.client() as client, pytest.raises(ErrataError) as caught:
        client.submit(model="m", editor="rome", **FACT)
    error = caught.value
    assert (error.status, error.code, error.detail) == (422, "subject-slot-missing", "Why.")
    assert error.problem["title"] == "No"


@pytest.mark.parametrize("text", ["<h1>Bad gateway</h1>", "[]", ""])
def test_an_answer_that_is_no_problem_json_is_an_error_all_the_same(text: str) -> None:
    server = FakeServer(httpx.Response(502, text=text))
    with server.client() as client, pytest.raises(ErrataError) as caught:
        client.models()
    assert caught.value.status == 502


def test_busy_for_good_is_told_as_the_server_told_it() -> None:
    server = FakeServer(*[problem(503, "model-not-ready")] * 3)
    with server.client() as client, pytest.raises(ErrataError) as caught:
        client.probe("m", "Hello")
    assert caught.value.code == "model-not-ready"
    assert len(server.asked) == 3


def test_a_slow_server_is_not_asked_again() -> None:
    server = FakeServer(httpx.ReadTimeout("slow"))
    with server.client() as client, pytest.raises(ErrataError) as caught:
        client.models()
    assert caught.value.code == "timeout"


def test_edit_waits_and_tells_of_progress() -> None:
    server = FakeServer(
        order("queued"),
        order("running", progress={"stage": "z", "done": 1, "total": 2}),
        order("applied", snapshot="snp_1"),
    )
    seen: list[str] = []
    with server.client() as client:
        done = client.edit(
            model="m", editor="rome", on_progress=lambda now: seen.append(now["status"]), **FACT
        )
    assert done["snapshot"] == "snp_1"
    assert seen == ["running"]


def test_an_order_that_failed_raises_with_its_reason() -> None:
    error = {"code": "search-diverged", "detail": "After 25 steps p is 0.001."}
    server = FakeServer(order("queued"), order("failed", error=error))
    with server.client() as client, pytest.raises(OrderFailed) as caught:
        client.edit(model="m", editor="rome", **FACT)
    assert caught.value.code == "search-diverged"
    assert caught.value.order["status"] == "failed"


def test_an_order_that_takes_too_long_is_not_lost() -> None:
    server = FakeServer(order("queued"), order("running"))
    with server.client() as client, pytest.raises(WaitTimeout, match="not lost"):
        client.edit(model="m", editor="rome", wait=0, **FACT)


def test_restore_is_an_order_of_its_own() -> None:
    server = FakeServer(order("queued"), order("applied", kind="restore"))
    with server.client() as client:
        assert client.restore("snp_0", if_match="snp_9")["kind"] == "restore"
    assert server.asked[0].url.path == "/snapshots/snp_0/restore"
    assert server.asked[0].headers["if-match"] == '"snp_9"'
    assert server.asked[0].headers["idempotency-key"]


def test_lists_are_read_to_their_end() -> None:
    server = FakeServer(
        httpx.Response(200, json={"data": [{"id": "a"}], "has_more": True, "next": "c1"}),
        httpx.Response(200, json={"data": [{"id": "b"}], "has_more": False, "next": None}),
    )
    with server.client() as client:
        assert [each["id"] for each in client.edits(model="m", status="applied")] == ["a", "b"]
    assert dict(server.asked[0].url.params) == {"model": "m", "status": "applied", "limit": "100"}
    assert server.asked[1].url.params["after"] == "c1"


def test_a_probe_sends_what_was_asked_and_nothing_else() -> None:
    server = FakeServer(httpx.Response(200, json={"data": [{"prompt": "Hello"}]}))
    with server.client() as client:
        assert client.probe("m", "Hello", snapshot="snp_1") == [{"prompt": "Hello"}]
    assert server.body() == {"prompts": ["Hello"], "snapshot": "snp_1"}


def test_events_go_on_where_a_cut_stream_ended() -> None:
    first = 'id: 7\nevent: edit.claimed\ndata: {"edit": "edt_1"}\n\n: still here\n\n'
    second = "id: 8\nevent: edit.settled\ndata: done\n\n"
    server = FakeServer(
        httpx.Response(200, text=first),
        order("running"),
        httpx.Response(200, text=second),
        order("applied"),
    )
    with server.client() as client:
        events = list(client.events("edt_1"))
    assert [(event.name, event.data) for event in events] == [
        ("edit.claimed", {"edit": "edt_1"}),
        ("edit.settled", "done"),
    ]
    assert "last-event-id" not in server.asked[0].headers
    assert server.asked[2].headers["last-event-id"] == "7"


def test_events_of_an_unknown_order_are_a_problem() -> None:
    server = FakeServer(problem(404, "edit-not-found"))
    with server.client() as client, pytest.raises(ErrataError) as caught:
        list(client.events("edt_404"))
    assert caught.value.code == "edit-not-found"


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRATA_URL", "http://elsewhere.test:1/")
    with Client() as client:
        assert client.base_url == "http://elsewhere.test:1"
    monkeypatch.delenv("ERRATA_URL")
    with Client() as client:
        assert client.base_url == "http://127.0.0.1:8642"


def test_what_is_exported_exists() -> None:
    assert errata.__all__ == sorted(errata.__all__)
    assert all(hasattr(errata, name) for name in errata.__all__)


def test_the_client_and_the_command_load_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "sqlalchemy", "fastapi", "app", "workers", "psycopg", "redis"]
    check = (
        "import sys, errata, errata.cli.main;"
        f"found = [name for name in {heavy!r} if name in sys.modules];"
        "sys.exit(f'loaded: {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
