"""Bounds on what is taken, and what a refusal must say to be of use."""

import gzip
import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.api import health
from app.api.problems import problem
from app.main import create_app
from app.settings import Settings
from tests.app.hands import FACT, MODEL, Hands
from tests.app.test_wrong_input import refused

ORDER = {"model": MODEL, **FACT}
JSON = {"Content-Type": "application/json"}


def test_a_full_queue_takes_no_more_until_something_is_settled(
    hands: Hands, settings: Settings
) -> None:
    base = hands.head.id
    with TestClient(create_app(settings.model_copy(update={"max_queued": 2}))) as client:

        def everything() -> list[int]:
            return [
                client.post(path, json=body).status_code
                for path, body in (
                    ("/edits", ORDER),
                    (f"/snapshots/{base}/restore", {}),
                    (f"/models/{MODEL}/statistics", {}),
                )
            ]

        key = {"Idempotency-Key": "a1"}
        first = client.post("/edits", json=ORDER, headers=key)
        client.post("/edits", json=ORDER)
        full = client.post("/edits", json=ORDER)
        said = refused(full, 429, "queue-full")
        assert (said["model"], said["limit"]) == (MODEL, 2)
        assert int(full.headers["retry-after"]) > 0
        assert everything() == [429, 429, 429]
        # What was taken before is still answered, and a restore may clear the queue for itself.
        assert client.post("/edits", json=ORDER, headers=key).json() == first.json()
        order = hands.take()
        assert everything() == [429, 429, 429]  # what runs is not settled either
        cleared = client.post(f"/snapshots/{base}/restore", json={"cancel_queued": True})
        assert cleared.status_code == 202
        hands.settle(order)
        assert everything() == [202, 429, 429]
        client.post("/models", json={"source": "org/other", "id": "other"})
        assert client.post("/edits", json={**ORDER, "model": "other"}).status_code == 202


def test_every_not_now_says_when(standing: TestClient) -> None:
    for status in (429, 503):
        assert int(problem(status, "any-code", "Try later.").headers["retry-after"]) > 0
    assert "retry-after" not in problem(504, "probe-timed-out", "No worker.").headers
    away = standing.get(f"/models/{MODEL}/probe", params={"prompt": "x"})
    refused(away, 503, "queue-unavailable")
    assert int(away.headers["retry-after"]) > 0
    unready = standing.get("/readyz")
    refused(unready, 503, health.NOT_READY)
    assert int(unready.headers["retry-after"]) > 0


def test_a_body_without_a_length_is_counted_as_it_comes(standing: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"padding": "'
        for _ in range(10_000):
            sent += 1000
            yield b"x" * 1000

    answer = standing.post("/edits", content=endless(), headers=JSON)
    refused(answer, 413, "body-too-large")
    whole = json.dumps(ORDER).encode()
    pieces = iter([whole[:9], whole[9:]])
    assert standing.post("/edits", content=pieces, headers=JSON).status_code == 202


@pytest.mark.parametrize("packing", ["gzip", "deflate, gzip", "br"])
def test_a_packed_body_is_refused_unread(standing: TestClient, packing: str) -> None:
    """A small one may unpack to one that is larger than all memory."""
    packed = gzip.compress(b" " * (1 << 24) + json.dumps(ORDER).encode())
    headers = {**JSON, "Content-Encoding": packing}
    said = refused(
        standing.post("/edits", content=packed, headers=headers), 415, "unsupported-media-type"
    )
    assert packing in said["detail"]
    plain = {**JSON, "Content-Encoding": "identity"}
    assert standing.post("/edits", content=json.dumps(ORDER), headers=plain).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/edits", "GET, POST"),
        ("DELETE", "/edits/edt_1", "GET"),
        ("GET", "/edits/edt_1/cancel", "POST"),
        ("PUT", f"/models/{MODEL}", "DELETE, GET, PATCH"),
        ("PUT", f"/models/{MODEL}/probe", "GET, POST"),
        ("POST", "/snapshots/snp_1", "GET, PATCH"),
        ("POST", "/healthz", "GET"),
        ("OPTIONS", "/models", "GET, POST"),
    ],
)
def test_what_a_path_does_not_take_it_answers_with_what_it_takes(
    standing: TestClient, method: str, path: str, allow: str
) -> None:
    answer = standing.request(method, path)
    refused(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", f"/models/{MODEL}/probe?prompt=x&topk=3", "top_k"),
        ("GET", "/edits?stauts=queued", "status"),
        ("GET", "/models?page=2", "after"),
        ("GET", f"/models/{MODEL}?verbose", None),
        ("GET", "/editors?name=rome", None),
        ("POST", "/edits?wait=30", None),
        ("GET", "/healthz?x=1", None),
    ],
)
def test_a_query_parameter_that_nobody_reads_is_no_silence(
    standing: TestClient, method: str, path: str, known: str | None
) -> None:
    said = refused(standing.request(method, path), 422, "unknown-parameter")
    assert said["unknown"] == [path.partition("?")[2].split("&")[-1].partition("=")[0]]
    assert known is None or known in said["known"]
    assert (known is None) == (said["known"] == [])
