"""Models and their snapshots over HTTP, and what a probe is answered."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis
from starlette.testclient import TestClient

from app.main import create_app
from app.queue import streams
from app.queue.messages import ProbeMessage, ProbeReply
from app.services import work
from app.settings import Settings
from tests.app.hands import FACT, MODEL, Hands

PROBE = {
    "model": MODEL,
    "snapshot": "snp_head",
    "completion": " Paris.",
    "top": [{"token": " Paris", "p": 0.5}],
    "targets": [{"text": "Lyon", "logprob": -3.5, "n_tokens": 1}],
}


def test_a_model_is_registered_once(client: TestClient) -> None:
    first = client.post("/models", json={"source": "smollm2-135m"})
    assert (first.status_code, first.headers["location"]) == (201, "/models/smollm2-135m")
    model = first.json()
    assert set(model) >= {"id", "source", "head", "fingerprint", "status"}
    assert model["source"] == {"kind": "named", "name": "smollm2-135m"}
    assert (model["head"], model["fingerprint"], model["status"]) == (None, None, "registered")
    again = client.post("/models", json={"source": {"kind": "named", "name": "smollm2-135m"}})
    assert (again.status_code, again.json()) == (200, model)
    assert "etag" not in client.get("/models/smollm2-135m").headers
    taken = client.post("/models", json={"source": "org/other", "id": "smollm2-135m"})
    assert (taken.status_code, taken.json()["code"]) == (409, "model-exists")


@pytest.mark.parametrize(
    "source",
    ["hub:../outside", "hub:./outside", "hub:a/..", "hub:a--b/c", {"kind": "hub", "id": "../.."}],
)
def test_no_hub_id_is_a_path(client: TestClient, source: object) -> None:
    answer = client.post("/models", json={"source": source, "id": "escaped"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad-source")


def test_what_no_worker_could_load_is_refused_at_the_door(settings: Settings) -> None:
    root = settings.data_dir / "models"
    (root / "empty").mkdir(parents=True)
    with TestClient(create_app(settings.model_copy(update={"model_roots": (root,)}))) as client:
        for source, code in (
            (str(root / "empty"), "bad-source"),
            ({"kind": "gguf", "path": str(root / "empty")}, "bad-source"),
            (str(root / "missing"), "source-not-found"),
            (str(root / ("x" * 5000)), "bad-source"),
        ):
            answer = client.post("/models", json={"source": source})
            assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_model_that_comes_back_fences_the_worker_it_had(hands: Hands, client: TestClient) -> None:
    source = client.get(f"/models/{MODEL}").json()["source"]
    assert client.delete(f"/models/{MODEL}").status_code == 204
    assert client.post("/models", json={"source": source, "id": MODEL}).status_code == 201
    with pytest.raises(work.Fenced):
        hands.claim()
    hands.own().load(client.get(f"/models/{MODEL}").json()["base_fingerprint"])
    assert client.get(f"/models/{MODEL}").json()["status"] == "ready"


def test_a_page_after_no_model_is_a_problem(client: TestClient) -> None:
    assert client.get("/models", params={"after": "\0"}).json()["code"] == "model-not-found"


def test_an_id_comes_from_the_source(client: TestClient) -> None:
    answer = client.post("/models", json={"source": "hub:Qwen/Qwen2.5 0.5B".replace(" ", "-")})
    assert answer.json()["id"] == "qwen2.5-0.5b"
    answer = client.post("/models", json={"source": "EleutherAI/gpt-j-6b@float16", "id": "gptj"})
    assert answer.json()["source"] == {
        "kind": "hub",
        "id": "EleutherAI/gpt-j-6b",
        "revision": "float16",
    }
    assert [model["id"] for model in client.get("/models").json()["data"]] == [
        "gptj",
        "qwen2.5-0.5b",
    ]


def test_a_loaded_model_shows_its_head(hands: Hands, client: TestClient) -> None:
    _, head = hands.edit()
    answer = client.get(f"/models/{MODEL}")
    assert answer.headers["etag"] == f'"{head}"'
    model = answer.json()
    assert (model["head"], model["seq"], model["status"]) == (head, 1, "ready")
    assert model["fingerprint"] == hands.head.fingerprint
    assert model["base_fingerprint"] == "sha256:base"
    assert client.get("/models").json()["data"] == [model]


def test_a_removed_model_is_gone_and_nothing_of_it_is_lost(
    hands: Hands, client: TestClient
) -> None:
    edit, head = hands.edit()
    queued = hands.order()
    assert client.delete(f"/models/{MODEL}").status_code == 204
    for answer in (
        client.get(f"/models/{MODEL}"),
        client.delete(f"/models/{MODEL}"),
        client.post("/edits", json={"model": MODEL, **FACT}),
        client.post(f"/snapshots/{head}/restore"),
        client.get(f"/models/{MODEL}/probe", params={"prompt": "x"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "model-not-found")
    assert client.get("/models").json()["data"] == []
    assert client.get(f"/edits/{queued}").json()["status"] == "cancelled"
    assert client.get(f"/edits/{edit}").json()["snapshot"] == head
    assert len(client.get(f"/models/{MODEL}/snapshots").json()["data"]) == 2
    other = client.post("/models", json={"source": "org/other", "id": MODEL})
    assert (other.status_code, other.json()["code"]) == (409, "model-exists")
    back = client.post("/models", json={"source": f"org/{MODEL}", "id": MODEL})
    assert (back.status_code, back.json()["head"]) == (201, head)


def test_snapshots_are_listed_newest_first(hands: Hands, client: TestClient) -> None:
    base = hands.head.id
    edits = [hands.edit()[0] for _ in range(3)]
    _, restored = hands.restore(base)
    first = client.get(f"/models/{MODEL}/snapshots", params={"limit": 3}).json()
    rest = client.get(f"/models/{MODEL}/snapshots", params={"after": first["next"]}).json()
    every = first["data"] + rest["data"]
    assert (first["has_more"], rest["has_more"], rest["next"]) == (True, False, None)
    assert [snapshot["seq"] for snapshot in every] == [4, 3, 2, 1, 0]
    assert [snapshot["edits"] for snapshot in every] == [[], edits, edits[:2], edits[:1], []]
    assert (every[0]["id"], every[0]["kind"], every[0]["source"]) == (restored, "restore", base)
    assert (every[-1]["id"], every[-1]["kind"], every[-1]["parent"]) == (base, "base", None)


# ---- probes --------------------------------------------------------------------------------


@contextmanager
def answering(
    redis_url: str, reply: Callable[[ProbeMessage], ProbeReply]
) -> Iterator[list[ProbeMessage]]:
    """A worker that answers one probe."""
    asked: list[ProbeMessage] = []

    def answer() -> None:
        with Redis.from_url(redis_url) as redis:
            taken = redis.blpop([streams.probes(MODEL)], timeout=4)
            assert taken is not None
            asked.append(ProbeMessage.from_json(taken[1]))
            redis.rpush(streams.probe_reply(asked[0].id), reply(asked[0]).to_json())

    thread = threading.Thread(target=answer)
    thread.start()
    yield asked
    thread.join()


def told(message: ProbeMessage) -> ProbeReply:
    return ProbeReply(ok=True, data=[{**PROBE, "prompt": prompt} for prompt in message.prompts])


@pytest.mark.usefixtures("hands")
def test_a_prompt_is_put_to_the_worker(client: TestClient, redis_url: str) -> None:
    with answering(redis_url, told) as asked:
        query = {"prompt": "France is", "target": ["Lyon", "Nice"], "top_k": 1, "max_tokens": 3}
        answer = client.get(f"/models/{MODEL}/probe", params=query)
    assert answer.json() == {**PROBE, "prompt": "France is"}
    message = asked[0]
    assert (message.prompts, message.targets) == (["France is"], ["Lyon", "Nice"])
    assert (message.top_k, message.max_tokens, message.snapshot) == (1, 3, None)
    assert 50 < message.deadline - time.time() <= 60


def test_many_prompts_at_two_snapshots(hands: Hands, client: TestClient, redis_url: str) -> None:
    base = hands.head.id
    _, head = hands.edit()

    def both(message: ProbeMessage) -> ProbeReply:
        said = told(message).data
        return ProbeReply(ok=True, data=[{**probe, "compare": probe} for probe in said])

    with answering(redis_url, both) as asked:
        body = {"prompts": ["a", "b"], "snapshot": base, "compare": head}
        answer = client.post(f"/models/{MODEL}/probe", json=body)
    assert [probe["prompt"] for probe in answer.json()["data"]] == ["a", "b"]
    assert answer.json()["data"][0]["compare"] == {**PROBE, "prompt": "a"}
    assert (asked[0].snapshot, asked[0].compare) == (base, head)


@pytest.mark.usefixtures("hands")
@pytest.mark.parametrize(
    ("code", "status"), [("text-too-long", 422), ("unavailable", 503), ("internal-error", 500)]
)
def test_a_workers_no_keeps_its_code(
    client: TestClient, redis_url: str, code: str, status: int
) -> None:
    error = {"code": code, "detail": "Shorten the text.", "tokens": 9000}
    with answering(redis_url, lambda _: ProbeReply(ok=False, error=error)):
        answer = client.post(f"/models/{MODEL}/probe", json={"prompts": ["x"]})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert (said["code"], said["detail"], said["tokens"]) == (code, "Shorten the text.", 9000)


@pytest.mark.usefixtures("hands")
def test_a_probe_that_nobody_answers_ends_at_its_deadline(settings: Settings) -> None:
    hasty = settings.model_copy(update={"probe_deadline_s": 0.2})
    with TestClient(create_app(hasty)) as client:
        answer = client.get(f"/models/{MODEL}/probe", params={"prompt": "x"})
    assert (answer.status_code, answer.json()["code"]) == (504, "probe-timed-out")


def test_a_model_that_cannot_answer_says_so_at_once(hands: Hands, client: TestClient) -> None:
    client.post("/models", json={"source": "smollm2-135m"})
    early = client.get("/models/smollm2-135m/probe", params={"prompt": "x"})
    assert (early.status_code, early.json()["code"]) == (503, "model-not-ready")
    assert early.headers["retry-after"] == "2"
    with hands.database.tx() as tx:
        work.model_failed(tx, MODEL, error={"code": "unsupported-architecture", "detail": "d"})
    failed = client.get(f"/models/{MODEL}/probe", params={"prompt": "x"})
    assert (failed.status_code, failed.json()["code"]) == (409, "model-failed")
    assert failed.json()["error"]["code"] == "unsupported-architecture"


def test_a_model_that_could_not_be_loaded_is_registered_again(
    hands: Hands, client: TestClient
) -> None:
    with hands.database.tx() as tx:
        work.model_failed(tx, MODEL, error={"code": "bad-source", "detail": "No weights."})
    failed = client.get(f"/models/{MODEL}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "bad-source")
    again = client.post("/models", json={"source": failed["source"], "id": MODEL})
    assert again.status_code == 200
    assert (again.json()["status"], again.json()["error"]) == ("registered", None)
    assert again.json()["head"] == failed["head"]
