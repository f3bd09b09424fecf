"""Evals over HTTP: what is taken, what is refused before anything is written, what comes out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.main import create_app
from app.services import eval_work, work
from app.settings import Settings
from app.store.db import Database
from app.store.tables import Blob, Eval
from tests.app.hands import FACT, MODEL, Hands

Json = dict[str, Any]

FACTS: list[Json] = [
    {"subject": "France", "prompt": "The capital of {} is", "attribute": "Paris"},
    {"subject": "Italy", "prompt": "The capital of {} is", "attribute": "Rome"},
]
SHAPE = {"id", "suite", "status", "progress", "summary", "created_at", "settled_at"}
TRACING: Json = {"suite": "tracing", "model": MODEL, "records": FACTS}


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    (folder / "known_facts").mkdir(parents=True)
    (folder / "known_facts" / "known_1000.json").write_text(json.dumps(FACTS))
    (tmp_path / "secret.json").write_text(json.dumps(FACTS))
    return folder


@pytest.fixture
def reading(settings: Settings, roots: Path) -> Iterator[TestClient]:
    own = settings.model_copy(update={"data_roots": (roots,), "max_records": 2, "max_evals": 2})
    with TestClient(create_app(own)) as client:
        yield client


def worked(database: Database, hands: Hands, rows: list[Json]) -> str:
    """Take the next eval, and keep these rows as its first case."""
    with database.tx() as tx:
        claimed = eval_work.claim(tx, hands.model, epoch=hands.epoch)
    assert claimed is not None
    progress = {"rate": 2.0, "eta_s": 0.5}
    with database.tx() as tx:
        eval_work.keep(tx, claimed.id, epoch=hands.epoch, case=0, rows=rows, progress=progress)
    return claimed.id


def test_an_eval_from_its_taking_to_its_end(
    database: Database, hands: Hands, client: TestClient
) -> None:
    answer = client.post("/evals", json=TRACING)
    taken = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/evals/{taken['id']}"
    assert {"id", "suite", "status", "progress", "summary", "created_at", "settled_at"} <= set(
        taken
    )
    assert (taken["status"], taken["summary"], taken["editor"]) == ("queued", None, None)
    assert taken["progress"] == {"done": 0, "total": 2, "rate": None, "eta_s": None}
    assert taken["snapshot"] == hands.head.id
    worked(database, hands, [{"case": 0, "kind": "state"}, {"case": 0, "kind": "mlp"}])
    seen = client.get(answer.headers["location"]).json()
    assert seen["status"] == "running"
    assert seen["progress"] == {"done": 1, "total": 2, "rate": 2.0, "eta_s": 0.5}
    with database.tx() as tx:
        end: Json = {"status": "finished", "summary": {"values": {}}}
        eval_work.settle(tx, taken["id"], epoch=hands.epoch, **end)
    ended = client.get(answer.headers["location"]).json()
    assert (ended["status"], ended["summary"]) == ("finished", {"values": {}})
    assert ended["settled_at"] is not None
    events = client.get(f"/evals/{taken['id']}/events").text
    assert "event: eval.settled" in events


def test_rows_come_in_pages_and_can_be_filtered(
    database: Database, hands: Hands, client: TestClient
) -> None:
    client.post("/evals", json=TRACING)
    rows = [{"case": 0, "kind": "mlp" if n % 2 else "state", "n": n} for n in range(5)]
    asked = worked(database, hands, rows)
    where = f"/evals/{asked}/rows"
    first = client.get(where, params={"limit": 2}).json()
    assert (first["data"], first["has_more"]) == (rows[:2], True)
    second = client.get(where, params={"limit": 9, "after": first["next"]}).json()
    assert (second["data"], second["has_more"], second["next"]) == (rows[2:], False, None)
    some = client.get(where, params={"match": '{"kind": "mlp"}'}).json()
    assert [row["n"] for row in some["data"]] == [1, 3]
    refused = client.get(where, params={"match": "[1]"})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad-match")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"suite": "tea-leaves"}, "unknown-suite"),
        ({"records": []}, "empty-field"),
        ({"records": None}, "no-records"),
        ({"records": [{"subject": "France"}]}, "bad-record"),
        ({"data": {"name": "known-facts"}}, "no-records"),  # and records
        ({"records": None, "data": {"name": "tea"}}, "unknown-dataset"),
        ({"editor": "rome"}, "no-editor-needed"),
        ({"options": {"tea": 1}}, "unknown-hparam"),
        ({"options": {"copies": 0}}, "invalid-hparam"),
        ({"snapshot": "snp_" + "0" * 26}, "snapshot-not-found"),
        ({"model": "nobody"}, "model-not-found"),
        ({"suite": "ripple", "editor": "tea"}, "unknown-editor"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_nothing_is_written(
    database: Database, hands: Hands, client: TestClient, change: Json, code: str
) -> None:
    body = {name: value for name, value in (TRACING | change).items() if value is not None}
    answer = client.post("/evals", json=body)
    assert answer.json()["code"] == code
    assert answer.status_code in {404, 422}
    assert hands.model == MODEL
    with database.tx() as tx:
        assert tx.session.scalars(select(Eval.id)).all() == []


def test_data_is_read_by_name_below_the_operators_folders_only(
    hands: Hands, reading: TestClient, tmp_path: Path
) -> None:
    def asked(**data: Any) -> Any:
        body = {"suite": "tracing", "model": hands.model, "data": {"name": "known-facts", **data}}
        return reading.post("/evals", json=body)

    assert asked().json()["progress"]["total"] == 2
    one = asked(path="known_facts/known_1000.json", offset=1, limit=5).json()
    assert one["progress"]["total"] == 1
    for path in ("../secret.json", str(tmp_path / "secret.json"), "known_facts/../../secret.json"):
        assert asked(path=path).json()["code"] == "data-not-allowed"
    (tmp_path / "benchmarks" / "link.json").symlink_to(tmp_path / "secret.json")
    assert asked(path="link.json").json()["code"] == "data-not-allowed"
    assert asked(path="nothing.json").json()["code"] == "data-not-found"
    assert asked(offset=7).json()["code"] == "bad-request"


def test_no_more_records_and_evals_than_the_operator_allows(
    hands: Hands, reading: TestClient
) -> None:
    body = {**TRACING, "model": hands.model}
    many = reading.post("/evals", json={**body, "records": FACTS * 2})
    assert (many.status_code, many.json()["code"]) == (422, "too-many-requests")
    assert [reading.post("/evals", json=body).status_code for _ in range(3)] == [202, 202, 429]


def test_the_same_key_is_the_same_eval(hands: Hands, client: TestClient) -> None:
    body = {**TRACING, "model": hands.model}
    first, again = (
        client.post("/evals", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post(
        "/evals", json={**body, "options": {"copies": 3}}, headers={"Idempotency-Key": "k"}
    )
    assert other.json()["code"] == "idempotency-key-reused"
    edit = client.post(
        "/edits", json={"model": hands.model, **FACT}, headers={"Idempotency-Key": "k"}
    )
    assert edit.json()["code"] == "idempotency-key-reused"


def test_a_waiting_eval_is_cancelled_at_once_and_only_once(
    hands: Hands, client: TestClient
) -> None:
    asked = client.post("/evals", json={**TRACING, "model": hands.model}).json()["id"]
    assert client.post(f"/evals/{asked}/cancel").json()["status"] == "cancelled"
    again = client.post(f"/evals/{asked}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "eval-settled")
    assert client.get("/evals/evl_nothing").json()["code"] == "eval-not-found"


def test_a_running_eval_is_asked_to_stop(
    database: Database, hands: Hands, client: TestClient
) -> None:
    client.post("/evals", json=TRACING)
    asked = worked(database, hands, [{"case": 0}])
    said = client.post(f"/evals/{asked}/cancel").json()
    assert (said["status"], said["cancel_requested"]) == ("running", True)
    with database.tx() as tx:
        assert eval_work.stop_wanted(tx, asked, epoch=hands.epoch)


def test_evals_are_listed_newest_first_and_by_what_they_are(
    hands: Hands, client: TestClient
) -> None:
    ids = [
        client.post("/evals", json={**TRACING, "model": hands.model}).json()["id"] for _ in range(3)
    ]
    page = client.get("/evals", params={"limit": 2}).json()
    assert [each["id"] for each in page["data"]] == ids[:0:-1]
    rest = client.get("/evals", params={"after": page["next"]}).json()
    assert [each["id"] for each in rest["data"]] == ids[:1]
    assert client.get("/evals", params={"suite": "ripple"}).json()["data"] == []
    assert len(client.get("/evals", params={"status": "queued"}).json()["data"]) == 3


def test_records_are_kept_with_the_eval_and_not_cleaned_up(
    database: Database, hands: Hands, client: TestClient
) -> None:
    from app.store.cleanup import take_away  # noqa: PLC0415

    asked = client.post("/evals", json={**TRACING, "model": hands.model}).json()["id"]
    blobs = client.app.state.house.blobs  # type: ignore[attr-defined]
    with database.tx() as tx:
        held = tx.session.get_one(Eval, asked).records
        assert held is not None
        assert take_away(tx, blobs, [held]) == []
        assert tx.session.get(Blob, held) is not None


def test_suites_are_listed_with_their_options(client: TestClient) -> None:
    listed = {each["name"]: each for each in client.get("/suites").json()["data"]}
    assert listed["tracing"]["editor"] == "never"
    assert listed["ripple"]["editor"] == "always"
    assert "copies" in listed["tracing"]["options"]["properties"]


def test_a_picture_shows_one_of_several_snapshots(
    database: Database, hands: Hands, client: TestClient
) -> None:
    first, (_, second) = hands.head.id, hands.edit()
    body = {"suite": "keys", "model": MODEL, "snapshots": [first, second]}
    asked = client.post("/evals", json=body).json()["id"]
    plot = f"/evals/{asked}/plot/keys"
    assert client.get(plot).json()["code"] == "nothing-measured"
    live: Json = {"row": "live", "weight": "w", "edits": ["edt_1", "edt_2"]}
    worked(
        database,
        hands,
        [
            {"snapshot": first, **live, "cosine": [[1, 0.1], [0.1, 1]]},
            {"snapshot": second, **live, "cosine": [[1, 0.9], [0.9, 1]]},
        ],
    )
    shown = [client.get(plot, params={"format": "svg", **which}).content for which in (
        {}, {"snapshot": first}, {"snapshot": second}
    )]  # fmt: skip
    assert shown[0] == shown[1] != shown[2]
    assert second.encode() in shown[2]
    page = client.get(f"/evals/{asked}/report").text
    assert all(f"<h2>keys, {each}</h2>" in page for each in (first, second))
    missing = client.get(plot, params={"snapshot": "snp_" + "0" * 26})
    assert (missing.status_code, missing.json()["code"]) == (404, "snapshot-not-measured")
    assert missing.json()["measured"] == [first, second]


def test_an_eval_of_too_many_rows_is_read_and_not_drawn(
    database: Database, hands: Hands, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/evals", json=TRACING)
    asked = worked(database, hands, [{"case": 0}, {"case": 0}])
    monkeypatch.setattr("app.services.pictures._MOST", 1)
    for place in ("plot/tracing", "report"):
        refused = client.get(f"/evals/{asked}/{place}")
        assert (refused.status_code, refused.json()["code"]) == (409, "too-many-rows")


def test_an_eval_of_a_model_that_cannot_be_loaded_says_so(
    database: Database, hands: Hands, client: TestClient
) -> None:
    error = {"code": "bad-source", "detail": "Its weights are gone."}
    with database.tx() as tx:
        work.model_failed(tx, hands.model, error=error)
    taken = client.post("/evals", json=TRACING).json()
    assert taken["blocked"] == error
    place = f"/evals/{taken['id']}"
    assert [client.get(place).json()["blocked"], *(
        each["blocked"] for each in client.get("/evals").json()["data"]
    )] == [error, error]  # fmt: skip
    assert client.post(f"{place}/cancel").json()["blocked"] is None
