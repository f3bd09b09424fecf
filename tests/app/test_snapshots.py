"""Labels, differences, what a restore would do, and whether the head has moved."""

import threading
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.errors import LabelTaken
from app.services import snapshots
from app.store.tables import JournalRow
from tests.app.hands import FACT, MODEL, Hands
from tests.app.test_wrong_input import refused
from tests.conftest import wait_until

GONE = "snp_" + "0" * 26


def label(client: TestClient, snapshot: str, name: Any) -> Any:
    return client.patch(f"/snapshots/{snapshot}", json={"label": name})


# ---- labels --------------------------------------------------------------------------------


def test_a_label_belongs_to_one_snapshot_of_a_model(hands: Hands, client: TestClient) -> None:
    base = hands.head.id
    _, first = hands.edit()
    answer = label(client, base, "before.the-merge_1")
    assert (answer.status_code, answer.json()["label"]) == (200, "before.the-merge_1")
    assert label(client, base, "before.the-merge_1").status_code == 200  # as it is already
    taken = refused(label(client, first, "before.the-merge_1"), 409, "label-taken")
    assert (taken["label"], taken["snapshot"]) == ("before.the-merge_1", base)
    assert label(client, base, None).json()["label"] is None
    assert label(client, first, "before.the-merge_1").status_code == 200
    assert client.get(f"/snapshots/{first}").json()["label"] == "before.the-merge_1"
    other = Hands(hands.database, model="other").register().own().load()
    assert label(client, other.head.id, "before.the-merge_1").status_code == 200
    with hands.database.tx() as tx:
        lines = tx.session.scalars(
            select(JournalRow.data)
            .where(JournalRow.event == "snapshot.labelled", JournalRow.model_id == MODEL)
            .order_by(JournalRow.id)
        ).all()
    assert [(line["snapshot"], line["before"], line["label"]) for line in lines] == [
        (base, None, "before.the-merge_1"),
        (base, "before.the-merge_1", None),
        (first, None, "before.the-merge_1"),
    ]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("17", "bad-label"),
        ("", "bad-label"),
        ("a" * 65, "bad-label"),
        ("with space", "bad-label"),
        ("line\n", "bad-label"),
        ("nul\0", "unstorable-text"),
        (7, "invalid-request"),
    ],
)
def test_a_label_that_cannot_be_one(
    standing: TestClient, standing_hands: Hands, name: Any, code: str
) -> None:
    refused(label(standing, standing_hands.head.id, name), 422, code)


def test_a_label_has_to_be_named(standing: TestClient, standing_hands: Hands) -> None:
    path = f"/snapshots/{standing_hands.head.id}"
    refused(standing.patch(path, json={}), 422, "invalid-request")
    refused(standing.patch(path, json={"label": "x", "seq": 7}), 422, "unknown-field")
    refused(label(standing, GONE, "x"), 404, "snapshot-not-found")


def test_two_who_want_one_label_come_one_after_the_other(hands: Hands) -> None:
    base = hands.head.id
    _, first = hands.edit()
    outcome: list[object] = []

    def second() -> None:
        try:
            with hands.database.tx() as tx:
                snapshots.label(tx, first, "mine")
        except LabelTaken as error:
            outcome.append(error.fields["snapshot"])

    def blocked() -> bool:
        with hands.database.engine.connect() as connection:
            locks = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            return connection.exec_driver_sql(locks).scalar_one() > 0

    other = threading.Thread(target=second)
    with hands.database.tx() as tx:
        snapshots.label(tx, base, "mine")
        other.start()
        wait_until(blocked)
    other.join()
    assert outcome == [base]


# ---- differences ---------------------------------------------------------------------------


def ids(orders: list[dict[str, Any]]) -> list[str]:
    return [order["id"] for order in orders]


def test_what_lies_between_two_snapshots(hands: Hands, client: TestClient) -> None:
    base = hands.head.id
    (one, first), (two, second) = hands.edit(), hands.edit()
    hands.restore(first)
    three, last = hands.edit()

    def diff(start: str, **to: str) -> dict[str, Any]:
        return client.get(f"/snapshots/{start}/diff", params=to).json()

    forward = diff(base)
    assert (forward["from"], forward["to"], forward["model"]) == (base, last, MODEL)
    assert (ids(forward["removed"]), ids(forward["added"])) == ([], [one, three])
    assert forward["added"][0] == {
        "id": one,
        "ord": 1,
        "kind": "edit",
        "editor": "memit-history",
        "status": "applied",
        "requests": [FACT],
    }
    back = diff(last, to=base)
    assert (ids(back["removed"]), ids(back["added"])) == ([three, one], [])
    aside = diff(second, to=last)
    assert (ids(aside["removed"]), ids(aside["added"])) == ([two], [three])
    assert not aside["same_weights"]
    hands.restore(base)
    same = diff(base)
    assert (same["removed"], same["added"], same["same_weights"]) == ([], [], True)


def test_what_stands_before_prompts_is_told_apart_from_weights(
    hands: Hands, client: TestClient
) -> None:
    base = hands.head.id
    _, told = hands.tell("Lyon is a capital.\n")
    _, written = hands.edit()
    _, both = hands.tell("So is Kyoto.\n")

    def same(start: str, end: str) -> tuple[bool, bool]:
        said = client.get(f"/snapshots/{start}/diff", params={"to": end}).json()
        return said["same_weights"], said["same_preface"]

    assert same(base, told) == same(told, base) == same(written, both) == (True, False)
    assert same(told, written) == (False, True)
    assert same(base, both) == (False, False)
    assert same(both, both) == (True, True)
    _, back = hands.restore(told)
    assert same(back, told) == (True, True)
    assert same(both, back) == (False, False)

    listed = client.get(f"/models/{MODEL}/snapshots").json()["data"]
    prefaces = {each["id"]: each["preface"] for each in listed}
    assert prefaces == {
        base: "",
        told: "Lyon is a capital.\n",
        written: "Lyon is a capital.\n",
        both: "Lyon is a capital.\nSo is Kyoto.\n",
        back: "Lyon is a capital.\n",
    }
    for snapshot, preface in prefaces.items():
        assert client.get(f"/snapshots/{snapshot}").json()["preface"] == preface


def test_what_stands_beside_weights_is_told_apart_from_them(
    hands: Hands, client: TestClient
) -> None:
    base = hands.head.id
    hands.order(editor="memory")
    kept = hands.settle(hands.take())
    _, written = hands.edit()

    def same(start: str, end: str) -> tuple[bool, bool, bool]:
        said = client.get(f"/snapshots/{start}/diff", params={"to": end}).json()
        return said["same_weights"], said["same_preface"], said["same_memory"]

    assert same(base, kept) == same(kept, base) == (True, True, False)
    assert same(kept, written) == (False, True, True)
    assert same(base, written) == (False, True, False)


def test_a_difference_needs_two_snapshots_of_one_model(
    standing: TestClient, standing_hands: Hands
) -> None:
    mine = standing_hands.head.id
    other = Hands(standing_hands.database, model="apart").register().own().load()
    path = f"/snapshots/{mine}/diff"
    refused(standing.get(path, params={"to": other.head.id}), 422, "snapshot-of-another-model")
    refused(standing.get(path, params={"to": GONE}), 404, "snapshot-not-found")
    refused(standing.get(path, params={"to": ""}), 404, "snapshot-not-found")
    refused(standing.get(path, params={"form": GONE}), 422, "unknown-parameter")
    refused(standing.get(f"/snapshots/{GONE}/diff"), 404, "snapshot-not-found")


# ---- what a restore would do ---------------------------------------------------------------


def test_a_restore_that_is_only_imagined(hands: Hands, client: TestClient) -> None:
    (one, first), (two, _), (three, third) = hands.edit(), hands.edit(), hands.edit()
    hands.restore(first)
    running, queued = hands.order(), hands.order()
    assert hands.take().id == running
    head = hands.head
    before = client.get("/edits").json()
    path = f"/snapshots/{third}/restore"
    answer = client.post(
        path, json={"dry_run": True}, headers={"Prefer": "wait=5", "Idempotency-Key": "d1"}
    )
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["snapshot"], plan["model"]) == (third, MODEL)
    assert (plan["head"], plan["seq"]) == (head.id, head.seq)
    assert (ids(plan["undone"]), ids(plan["redone"])) == ([], [two, three])
    assert [(order["id"], order["status"]) for order in plan["queued"]] == [
        (running, "running"),
        (queued, "queued"),
    ]
    assert client.get("/edits").json() == before  # with cancel_queued too: nothing was ordered
    body = {"dry_run": True, "cancel_queued": True}
    base = client.get(f"/snapshots/{first}").json()["parent"]
    assert ids(client.post(f"/snapshots/{base}/restore", json=body).json()["undone"]) == [one]
    assert client.get("/edits").json() == before


def test_an_imagined_restore_is_refused_like_a_real_one(
    standing: TestClient, standing_hands: Hands
) -> None:
    base = standing_hands.head.id
    dry = {"dry_run": True}
    refused(
        standing.post(f"/snapshots/{GONE}/restore", json=dry),
        404,
        "snapshot-not-found",
    )
    path = f"/snapshots/{base}/restore"
    refused(standing.post(path, json={**dry, "model": "x"}), 422, "snapshot-of-another-model")
    moved = standing.post(path, json=dry, headers={"If-Match": '"snp_x"'})
    assert refused(moved, 412, "head-moved")["head"] == base


# ---- has the head moved? -------------------------------------------------------------------


def test_who_knows_the_head_is_told_only_of_another(hands: Hands, client: TestClient) -> None:
    etag = client.get(f"/models/{MODEL}").headers["etag"]

    def again(seen: str) -> Any:
        return client.get(f"/models/{MODEL}", headers={"If-None-Match": seen})

    for seen in (etag, f"W/{etag}", f'"snp_other", {etag}', "*"):
        answer = again(seen)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    for seen in ('"snp_other"', "nonsense", ""):
        assert again(seen).status_code == 200
    _, head = hands.edit()
    moved = again(etag)
    assert (moved.status_code, moved.headers["etag"]) == (200, f'"{head}"')


def test_a_model_without_a_head_matches_nothing(client: TestClient) -> None:
    client.post("/models", json={"source": "smollm2-135m"})
    answer = client.get("/models/smollm2-135m", headers={"If-None-Match": "*"})
    assert (answer.status_code, "etag" in answer.headers) == (200, False)
