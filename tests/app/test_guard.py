"""The guard in requests and models, the facts it asks for, and what health says of them."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.services import models, submit, work
from app.services.standing import sample
from app.store.blobs import Blobs
from app.store.cleanup import take_away
from app.store.tables import Edit
from tests.app.hands import FACT, MODEL, Hands, put

Json = dict[str, Any]

ITALY = {"subject": "Italy", "prompt": "The capital of {} is", "target_new": "Bari"}
LYON = {"subject": "Lyon", "prompt": "The river of {} is", "target_new": "Seine"}


def order(hands: Hands, *requests: Json) -> str:
    asked = submit.EditOrder(requests=list(requests), model=MODEL)
    with hands.database.tx() as tx:
        return submit.submit(tx, asked, limit=1000).id


def measured(
    asked: list[Json] | None = None,
    breaches: list[Json] | None = None,
    *,
    answers: bool = True,
    replaced: list[Json] | None = None,
) -> Json:
    """A report as a promotion makes it, as far as health reads it."""
    one = {"value": 1.0, "n": 1, "before": 1.0}
    return {
        "requests": [{"answers": answers}],
        "drift": {"kl": {**one, "value": 0.25}},
        "canary": {
            **dict.fromkeys(("perplexity_ratio", "norm_ratio", "distinct"), one),
            "finite": True,
        },
        "live": {"asked": asked or [], "replaced": replaced or []},
        "guard": {"verdict": "warn" if breaches else "passed", "breaches": breaches or []},
    }


def applied(hands: Hands, *requests: Json, asked: list[Json] | None = None, **more: Any) -> str:
    """An edit that was applied, with a report."""
    edit = order(hands, *requests)
    claimed = hands.take()
    assert claimed.id == edit
    with hands.database.tx() as tx:
        blob = put(tx, edit.encode())
        work.settle_edit(
            tx,
            edit,
            epoch=hands.epoch,
            blob=blob,
            fingerprint=f"sha256:{blob}",
            report=measured(asked, **more),
            timings={},
        )
    return edit


def found(edit: str, number: int, *, before: bool, now: bool) -> Json:
    return {"edit": edit, "fact": number, "before": before, "now": now}


# ---- in requests and models ------------------------------------------------------------------


def test_an_order_is_guarded_by_its_own_words_over_its_models(
    hands: Hands, client: TestClient
) -> None:
    changed = client.patch(f"/models/{MODEL}", json={"guard": {"kl": 1.5, "sample": 7}})
    assert (changed.status_code, changed.json()["guard"]) == (200, {"kl": 1.5, "sample": 7})
    own = {"kl": None, "on_breach": "reject"}
    made = client.post("/edits", json={"model": MODEL, **FACT, "guard": own}).json()
    assert made["guard"] == own
    batch = {"model": MODEL, "requests": [FACT], "dry_run": True, "guard": {"sample": 0}}
    assert client.post("/edits", json=batch).json()["guard"] == {"sample": 0}
    guard = hands.take().guard
    assert (guard.kl, guard.sample, guard.on_breach, guard.norm_ratio) == (None, 7, "reject", 1.5)
    assert client.get(f"/models/{MODEL}/health").json()["guard"]["sample"] == 7
    assert client.patch(f"/models/{MODEL}", json={"guard": None}).json()["guard"] is None


def test_a_model_may_be_registered_with_a_guard(client: TestClient) -> None:
    body = {"source": "org/guarded", "guard": {"on_breach": "repair"}}
    made = client.post("/models", json={**body, "source": {"kind": "hub", "id": "org/guarded"}})
    assert (made.status_code, made.json()["guard"]) == (201, {"on_breach": "repair"})
    again = client.post("/models", json={"source": {"kind": "hub", "id": "org/guarded"}})
    assert (again.status_code, again.json()["guard"]) == (200, {"on_breach": "repair"})


@pytest.mark.parametrize(
    "wrong", [{"klee": 1}, {"kl": -1}, {"on_breach": "shout"}, {"sample": 1e9}, {"kl": [1]}]
)
def test_a_guard_that_cannot_be_is_refused_with_what_to_do(
    hands: Hands, client: TestClient, wrong: Json
) -> None:
    head = hands.head.id
    for method, path, body in (
        ("POST", "/edits", {"model": MODEL, **FACT}),
        ("POST", "/models", {"source": {"kind": "hub", "id": "org/other"}}),
        ("PATCH", f"/models/{MODEL}", {}),
    ):
        answer = client.request(method, path, json={**body, "guard": wrong})
        said = answer.json()
        assert (answer.status_code, said["code"]) == (422, "invalid-guard"), said
        assert said["field"] == next(iter(wrong))
        assert "on_breach" in said["known"]
    assert hands.head.id == head
    assert client.get("/edits").json()["data"] == []


def test_what_a_model_has_no_word_for_is_refused(hands: Hands, client: TestClient) -> None:
    assert hands.model == MODEL
    assert client.patch(f"/models/{MODEL}", json={}).json()["code"] == "invalid-request"
    said = client.patch(f"/models/{MODEL}", json={"guard": None, "source": "x"}).json()
    assert said["code"] == "unknown-field"
    assert client.patch("/models/nobody", json={"guard": None}).status_code == 404


# ---- a rejection -----------------------------------------------------------------------------


def test_a_rejected_order_is_settled_and_its_evidence_is_kept(
    hands: Hands, client: TestClient, tmp_path: Path
) -> None:
    head, edit = hands.head.id, order(hands, FACT)
    hands.take()
    breach = {"what": "kl", "at": "drift.kl", "measured": 2.0, "threshold": 0.1, "n": 8}
    error = {"code": "guard-breached", "detail": "It went too far.", "breaches": [breach]}
    with hands.database.tx() as tx:
        blob = put(tx, b"evidence")
        work.settle_rejected(
            tx, edit, epoch=hands.epoch, blob=blob, error=error, report=measured(), timings={}
        )
    said = client.get(f"/edits/{edit}", headers={"Prefer": "wait=1"}).json()
    assert (said["status"], said["evidence"], said["error"]) == ("rejected", blob, error)
    assert (said["live"], said["snapshot"], said["report"]) == (False, None, measured())
    assert hands.head.id == head
    stream = client.get(f"/edits/{edit}/events").text
    assert stream.count("event: edit.settled") == 1
    assert '"status": "rejected"' in stream
    assert client.get("/edits", params={"status": "rejected"}).json()["data"][0]["id"] == edit
    assert client.post(f"/edits/{edit}/cancel").json()["code"] == "order-settled"
    assert client.post(f"/edits/{edit}/retract").json()["code"] == "edit-not-live"
    with hands.database.tx() as tx:
        assert take_away(tx, Blobs(hands.database, tmp_path), [blob]) == []


# ---- the sample ------------------------------------------------------------------------------


def asked_for(hands: Hands, *requests: Json, size: int = 32, seed: str = "edt_x") -> list[Any]:
    with hands.database.tx() as tx:
        return sample(tx, MODEL, seed, requests, size)


def test_all_of_the_same_subject_are_asked_for_however_it_is_written(hands: Hands) -> None:
    same = applied(hands, {**FACT, "subject": "  FRANCE ", "prompt": "The king of {} is"})
    object_of = applied(hands, {**ITALY, "target_new": "france"})
    subject_of = applied(hands, LYON)
    other = applied(hands, ITALY | {"subject": "Spain"})
    chosen = {one.edit: one.same_subject for one in asked_for(hands, FACT)}
    assert chosen == {same: True, object_of: True, subject_of: True, other: False}
    assert {one.edit for one in asked_for(hands, FACT, size=0)} == {same, object_of, subject_of}


def test_what_is_written_again_is_not_asked_for(hands: Hands) -> None:
    applied(hands, FACT, ITALY)
    later = applied(hands, {**FACT, "target_new": "Nice"})
    chosen = asked_for(hands, LYON)
    assert [(one.edit, one.number) for one in chosen if one.edit == later] == [(later, 0)]
    assert sorted(one.request["target_new"] for one in chosen) == ["Bari", "Nice"]
    assert [one.request["target_new"] for one in asked_for(hands, FACT)] == ["Bari"]


def test_a_sample_of_others_is_the_same_for_the_same_order_and_of_its_size(hands: Hands) -> None:
    edits = [applied(hands, {**ITALY, "subject": f"Land {n}"}) for n in range(12)]
    drawn = {seed: asked_for(hands, FACT, size=4, seed=seed) for seed in map(str, range(8))}
    assert all(len(one) == 4 for one in drawn.values())
    assert drawn["3"] == asked_for(hands, FACT, size=4, seed="3")
    assert len({tuple(one.edit for one in each) for each in drawn.values()}) > 1
    assert {one.edit for each in drawn.values() for one in each} <= set(edits)
    assert len(asked_for(hands, FACT, size=100)) == 12


# ---- health ----------------------------------------------------------------------------------


def health(client: TestClient, **asked: Any) -> Json:
    answer = client.get(f"/models/{MODEL}/health", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_of_a_model_that_was_never_edited(hands: Hands, client: TestClient) -> None:
    said = health(client)
    assert said["head"] == hands.head.id
    assert said["counts"] == {"live": 0, "disturbed": 0, "superseded": 0}
    assert [one["kind"] for one in said["snapshots"]] == ["base"]
    assert said["guard"]["on_collapse"] == "reject"


def test_live_disturbed_and_superseded_edits_are_told(hands: Hands, client: TestClient) -> None:
    first = applied(hands, FACT, ITALY)
    old = applied(hands, LYON)
    new = applied(hands, {**LYON, "target_new": "Rhone"})
    bad = applied(
        hands,
        {**FACT, "subject": "Spain"},
        asked=[found(first, 1, before=True, now=False)],
        breaches=[{"what": "kl", "at": "drift.kl"}],
    )
    said = health(client)
    assert said["counts"] == {"live": 3, "disturbed": 1, "superseded": 1}
    assert [one["edit"] for one in said["live"]] == [bad, new, first]
    (hurt,) = said["disturbed"]
    assert (hurt["edit"], hurt["facts"], hurt["by"]) == (first, [1], hands.head.id)
    (gone,) = said["superseded"]
    assert (gone["edit"], gone["by"]) == (old, new)
    latest = said["snapshots"][0]
    assert (latest["edit"], latest["drift"], latest["verdict"]) == (bad, 0.25, "warn")
    assert latest["breaches"] == [{"what": "kl", "at": "drift.kl"}]
    assert [one["edit"] for one in health(client, limit=1)["live"]] == [bad]
    assert [one["edit"] for one in health(client, after=new)["live"]] == [first]
    # Asked again, it may be well again.
    applied(hands, ITALY | {"subject": "Peru"}, asked=[found(first, 1, before=False, now=True)])
    assert health(client)["disturbed"] == []


def test_a_loss_that_no_promotion_has_seen_happen_is_told_once_it_is_found(
    hands: Hands, client: TestClient
) -> None:
    victim = applied(hands, FACT)
    applied(hands, ITALY)  # it draws others, and does the damage
    unsaid = applied(hands, LYON, answers=False)
    asked = [found(edit, 0, before=False, now=False) for edit in (victim, unsaid)]
    applied(hands, ITALY | {"subject": "Peru"}, asked=asked)
    (hurt,) = health(client)["disturbed"]
    assert (hurt["edit"], hurt["by"]) == (victim, hands.head.id)
    # A later one asks again, and finds nothing new.
    finder = hands.head.id
    applied(hands, ITALY | {"subject": "Chad"}, asked=asked)
    (hurt,) = health(client)["disturbed"]
    assert (hurt["edit"], hurt["by"]) == (victim, finder)


def test_what_was_replaced_in_other_words_stands_again_only_before_that(
    hands: Hands, client: TestClient
) -> None:
    first = applied(hands, FACT, ITALY)
    before = hands.head.id
    second = applied(hands, LYON, replaced=[{"edit": first, "fact": 0}])
    after = hands.head.id

    def stands() -> Any:
        return {one["edit"]: one["facts"] for one in health(client)["live"]}

    assert stands() == {first: [1], second: [0]}
    assert {(one.edit, one.number) for one in asked_for(hands)} == {(first, 1), (second, 0)}
    hands.restore(before)
    assert stands() == {first: [0, 1]}
    third = applied(hands, FACT | {"subject": "Gaul"}, replaced=[{"edit": first, "fact": 1}])
    assert stands() == {first: [0], third: [0]}
    hands.restore(after)
    assert stands() == {first: [1], second: [0]}
    # What has replaced it is taken out: it stands again where the editor has written it again.
    hands.order_retract(second)
    hands.settle(hands.take())
    assert stands() == {first: [1]}
    hands.restore(hands.head.id)
    assert stands() == {first: [1]}
    hands.restore(after)
    hands.order_retract(second)
    report = {**measured(), "live": {"returned": [{"edit": first, "fact": 0}]}}
    hands.settle(hands.take(), report=report)
    assert stands() == {first: [0, 1]}
    back = hands.head.id
    hands.restore(after)
    assert stands() == {first: [1], second: [0]}
    hands.restore(back)
    assert stands() == {first: [0, 1]}


def test_what_was_taken_out_is_superseded_by_nothing(hands: Hands, client: TestClient) -> None:
    base = hands.head.id
    restored = applied(hands, FACT)
    hands.restore(base)
    retracted = applied(hands, LYON)
    kept = applied(hands, ITALY)
    later = applied(hands, FACT, LYON, ITALY)
    hands.order_retract(retracted)
    hands.settle(hands.take())
    assert [one["edit"] for one in health(client)["superseded"]] == [kept]
    assert not {restored, retracted} & set(hands.live())
    # Of an edit that a later one has ended, nothing is live either.
    head = order(hands, {**ITALY, "target_new": "Rome"})
    hands.take()
    with hands.database.tx() as tx:
        blob = put(tx, b"ended")
        ends: Any = {"ends": (kept,), "fingerprint": "sha256:e", "timings": {}}
        more = {"blob": blob, "epoch": hands.epoch, "report": measured()}
        work.settle_edit(tx, head, **ends, **more)
    (gone,) = health(client)["superseded"]
    assert (gone["edit"], gone["by"], later in hands.live()) == (kept, head, True)


def test_health_is_not_read_on_from_an_edit_of_another_model(
    hands: Hands, client: TestClient
) -> None:
    other = Hands(hands.database, "other").register().own().load()
    edit = other.order()
    answer = client.get(f"/models/{MODEL}/health", params={"after": edit})
    said = answer.json()
    assert (answer.status_code, said["code"]) == (422, "edit-of-another-model")
    assert (said["owner"], said["model"]) == ("other", MODEL)


def test_a_restore_forgets_what_later_states_were_asked(hands: Hands, client: TestClient) -> None:
    first = applied(hands, FACT)
    before = hands.head.id
    applied(hands, ITALY, asked=[found(first, 0, before=True, now=False)])
    after = hands.head.id
    assert health(client)["counts"]["disturbed"] == 1
    hands.restore(before)
    said = health(client)
    assert said["counts"] == {"live": 1, "disturbed": 0, "superseded": 0}
    assert said["snapshots"][0]["drift"] == 0.25
    hands.restore(after)
    assert health(client)["counts"]["live"] == 2


def test_an_unknown_edit_or_model_is_not_found(hands: Hands, client: TestClient) -> None:
    assert hands.model == MODEL
    assert client.get("/models/nobody/health").json()["code"] == "model-not-found"
    unknown = client.get(f"/models/{MODEL}/health", params={"after": "edt_1"})
    assert unknown.json()["code"] == "edit-not-found"


def test_every_live_edit_has_its_place_in_the_draw(hands: Hands) -> None:
    edit = applied(hands, FACT)
    with hands.database.tx() as tx:
        assert 0 <= tx.session.get_one(Edit, edit).draw < 1
        assert models.get(tx, MODEL).guard is None
