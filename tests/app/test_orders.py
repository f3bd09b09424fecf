"""Orders over HTTP: the shapes that clients hold on to, and following one to its end."""

import json
import threading
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from app.main import create_app
from app.queue import streams
from app.queue.messages import Progress
from app.services import work
from app.settings import Settings
from tests.app.hands import FACT, MODEL, REPORT, Hands
from tests.conftest import wait_until

ORDER = {
    "id", "model", "kind", "editor", "ord", "status", "requests", "snapshot", "live", "noop",
    "report", "error", "progress", "timings", "created_at", "settled_at",
}  # fmt: skip
SNAPSHOT = {
    "id", "model", "seq", "parent", "kind", "label", "edits", "fingerprint", "report", "created_at",
}  # fmt: skip


def post(client: TestClient, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/edits", json={"model": MODEL, **FACT}, headers=named)


def events(answer: Any) -> list[dict[str, str]]:
    """Read an event stream that has ended."""
    blocks = [block for block in answer.text.replace("\r\n", "\n").split("\n\n") if block]
    return [
        dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        for block in blocks
    ]


def test_an_order_from_its_taking_to_its_end(hands: Hands, client: TestClient) -> None:
    answer = post(client)
    taken = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/edits/{taken['id']}"
    assert set(taken) >= ORDER
    assert (taken["status"], taken["editor"], taken["kind"]) == ("queued", "ledger", "edit")
    assert (taken["requests"], taken["snapshot"], taken["live"]) == ([FACT], None, False)
    snapshot = hands.settle(hands.take())
    order = client.get(answer.headers["location"]).json()
    assert (order["status"], order["snapshot"], order["live"]) == ("applied", snapshot, True)
    assert order["report"] == REPORT
    shown = client.get(f"/snapshots/{snapshot}").json()
    assert set(shown) >= SNAPSHOT
    assert (shown["edits"], shown["seq"], shown["kind"]) == ([taken["id"]], 1, "edit")


@pytest.mark.usefixtures("hands")
def test_the_model_may_be_left_out_when_there_is_one(client: TestClient) -> None:
    assert client.post("/edits", json=FACT).json()["model"] == MODEL
    client.post("/models", json={"source": "smollm2-135m"})
    refused = client.post("/edits", json=FACT)
    assert (refused.status_code, refused.json()["code"]) == (422, "model-required")
    assert refused.json()["models"] == ["smollm2-135m", MODEL]


@pytest.mark.usefixtures("hands")
def test_a_batch_is_one_order_with_everything_that_was_said(client: TestClient) -> None:
    facts = [
        {
            **FACT,
            "target_true": "Paris",
            "relation": "P36",
            "paraphrases": ["The capital city of France is"],
            "neighborhood": [{"prompt": "The capital of Italy is", "target": "Rome"}],
            "ripples": [{"prompt": "The mayor of", "answers": ["Lyon"], "criterion": "x"}],
        },
        {"subject": "日本", "prompt": "{} の首都は", "target_new": "大阪"},
    ] * 500
    body = {
        "model": MODEL,
        "editor": "memit",
        "hparams": {"search": {"steps": 7}},
        "requests": facts,
    }
    answer = client.post("/edits", json=body)
    assert answer.status_code == 202
    assert answer.json()["requests"] == facts
    assert answer.json()["hparams"] == {"search": {"steps": 7}}


def test_who_waits_is_answered_with_the_settled_order(hands: Hands, client: TestClient) -> None:
    with hands.working():
        answer = post(client, Prefer="wait=20")
        restored = client.post(
            f"/snapshots/{hands.head.id}/restore", headers={"Prefer": "respond-async, wait=20"}
        )
    assert (answer.status_code, answer.json()["status"]) == (200, "applied")
    assert answer.headers["preference-applied"] == "wait=20"
    assert (restored.status_code, restored.json()["kind"]) == (200, "restore")
    assert restored.json()["requests"] == []


@pytest.mark.usefixtures("hands")
def test_who_waits_in_vain_is_told_where_to_look(client: TestClient) -> None:
    answer = post(client, Prefer="wait=0.1, wait=1")
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    assert post(client, Prefer="handling=lenient").status_code == 202


def test_waiting_does_not_need_redis(hands: Hands, settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": "unix:///nowhere/valkey.sock"})
    with TestClient(create_app(away)) as client, hands.working():
        answer = post(client, Prefer="wait=20")
    assert answer.json()["status"] == "applied"


def test_an_order_is_followed_as_it_happens(
    hands: Hands, client: TestClient, redis_url: str
) -> None:
    edit = post(client).json()["id"]
    said = Progress(edit=edit, stage="z", done=1, total=25, loss=0.5)

    def work_on() -> None:
        order = hands.take()
        with Redis.from_url(redis_url) as redis:
            # As soon as somebody listens who is told of it.
            wait_until(lambda: len(app_ears(client, edit)) > 0)
            redis.publish(streams.progress(edit), said.to_json())
            wait_until(lambda: all(ear.empty() for ear in app_ears(client, edit)))
        hands.settle(order)

    worker = threading.Thread(target=work_on)
    worker.start()
    with client.stream("GET", f"/edits/{edit}/events") as answer:
        answer.read()
    worker.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    seen = events(answer)
    names = [event["event"] for event in seen if event["event"] != "edit.progress"]
    assert names == ["edit.submitted", "edit.claimed", "snapshot.created", "edit.settled"]
    last = json.loads(seen[-1]["data"])
    assert (last["edit"], last["status"], last["snapshot"]) == (edit, "applied", hands.head.id)
    told = [event for event in seen if event["event"] == "edit.progress"]
    assert [json.loads(event["data"]) for event in told] == [said.to_dict()]
    assert all("id" not in event for event in told)


def app_ears(client: TestClient, edit: str) -> set[object]:
    return client.app.state.house.notices._ears.get(edit, set())  # type: ignore[attr-defined]


def test_a_stream_goes_on_where_it_was_cut(hands: Hands, client: TestClient) -> None:
    edit, _ = hands.edit()
    whole = events(client.get(f"/edits/{edit}/events"))
    ids = [int(event["id"]) for event in whole]
    assert ids == sorted(ids)
    rest = client.get(f"/edits/{edit}/events", headers={"Last-Event-ID": whole[1]["id"]})
    assert events(rest) == whole[2:]
    done = client.get(f"/edits/{edit}/events", headers={"Last-Event-ID": whole[-1]["id"]})
    assert events(done) == []


def test_orders_are_listed_page_by_page_and_filtered(hands: Hands, client: TestClient) -> None:
    ids = [hands.edit()[0] for _ in range(3)] + [hands.order() for _ in range(2)]
    other = {**FACT, "subject": "Italy"}
    ids.append(client.post("/edits", json={"requests": [FACT, other]}).json()["id"])
    ids.append(hands.order_restore(hands.head.id))
    seen: list[str] = []
    after = None
    while True:
        page = client.get("/edits", params={"limit": 3, **({"after": after} if after else {})})
        assert set(page.json()) == {"data", "has_more", "next"}
        seen += [order["id"] for order in page.json()["data"]]
        after = page.json()["next"]
        assert page.json()["has_more"] == (after is not None)
        if after is None:
            break
    assert seen == ids[::-1]

    def found(**filters: str) -> list[str]:
        answer = client.get("/edits", params=filters)
        return [order["id"] for order in answer.json()["data"]][::-1]

    assert found(status="applied") == ids[:3]
    assert found(subject="Italy") == [ids[5]]
    assert found(subject="France", status="queued") == ids[3:6]
    assert found(subject="Ital") == []
    assert found(model=MODEL) == ids


def test_a_failed_order_shows_its_reason(hands: Hands, client: TestClient) -> None:
    edit = post(client).json()["id"]
    order = hands.take()
    error = {"code": "search-diverged", "detail": "Raise search.steps."}
    with hands.database.tx() as tx:
        work.settle_failed(tx, order.id, epoch=hands.epoch, error=error, timings={})
    shown = client.get(f"/edits/{edit}").json()
    assert (shown["status"], shown["error"], shown["snapshot"]) == ("failed", error, None)


def test_an_order_for_another_head_is_refused_at_the_door(hands: Hands, client: TestClient) -> None:
    etag = client.get(f"/models/{MODEL}").headers["etag"]
    assert etag == f'"{hands.head.id}"'
    assert post(client, If_Match=etag).status_code == 202
    hands.settle(hands.take())
    refused = post(client, If_Match=etag)
    assert (refused.status_code, refused.json()["code"]) == (412, "head-moved")
    assert refused.json()["head"] == hands.head.id
    assert post(client, If_Match="*").status_code == 202
