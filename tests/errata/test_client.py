"""Both clients against a fake server: what they send, how they wait, and how they fail."""

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import errata
from app.api import eval_schemas, forecasts, schemas
from errata import AsyncClient, Client, errors, eval_results, results
from errata.errors import (
    ErrataError,
    OrderFailed,
    Refused,
    WaitTimeout,
)
from tests.errata.answers import (
    EDT,
    FACT,
    SNP,
    diff,
    editor,
    model,
    order,
    page,
    plan,
    probe,
    problem,
    snapshot,
)
from tests.errata.either import Either, FakeServer, answered

pytestmark = pytest.mark.usefixtures("hasty")

ERRORS = (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8")


def stream(*events: tuple[str, str, str]) -> httpx.Response:
    text = "".join(f"id: {id}\nevent: {name}\ndata: {data}\n\n" for id, name, data in events)  # noqa: A001
    return httpx.Response(200, text=text)


# --- the two clients -----------------------------------------------------------------------------


def public(kind: type) -> dict[str, inspect.Signature]:
    """The public methods of a class, as they would be if nothing was awaited."""
    found = {}
    for name, function in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_") and name != "__init__":
            continue
        signature = inspect.signature(function)
        given = str(signature.return_annotation).replace("AsyncIterator", "Iterator")
        parameters = [
            each.replace(annotation=str(each.annotation).replace("Async", ""))
            for each in signature.parameters.values()
        ]
        found[name] = signature.replace(parameters=parameters, return_annotation=given)
    return found


def test_the_two_clients_are_one() -> None:
    assert public(Client) == public(AsyncClient)
    for name in public(Client):
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__
    properties = set(vars(Client("http://a"))) ^ set(vars(AsyncClient("http://a")))
    assert properties == set()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (results.Order, "OrderOut"),
        (results.Snapshot, "SnapshotOut"),
        (results.Model, "ModelOut"),
        (results.Probe, "ProbeOut"),
        (results.Token, "TokenOut"),
        (results.Target, "TargetOut"),
        (results.Editor, "EditorOut"),
        (results.OrderBrief, "OrderBrief"),
        (results.RestorePlan, "RestorePlanOut"),
        (results.Diff, "DiffOut"),
        (eval_results.Eval, "EvalOut"),
        (eval_results.Suite, "SuiteOut"),
        (eval_results.Forecast, "ForecastOut"),
        (eval_results.Foreseen, "ForeseenOut"),
        (eval_results.Collision, "CollisionOut"),
    ],
)
def test_answers_have_every_field_that_the_server_gives(ours: Any, theirs: str) -> None:
    known = {each.metadata.get("name") or each.name for each in dataclasses.fields(ours)}
    place = next(one for one in (schemas, eval_schemas, forecasts) if hasattr(one, theirs))
    given = getattr(place, theirs).model_fields
    assert known == {"raw"} | {each.alias or name for name, each in given.items()}


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


def test_every_error_of_the_client_is_on_the_page() -> None:
    section = ERRORS.partition("## Said by the client")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \|", section, re.MULTILINE))
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    ours = [each for each in kinds if issubclass(each, ErrataError) and each is not ErrataError]
    assert rows == {each.default: each.__name__ for each in ours}


# --- orders --------------------------------------------------------------------------------------


def test_one_fact_is_sent_inline_and_many_as_requests(ask: Either) -> None:
    server = FakeServer(answered(order()), answered(order()))
    ask(server, "edit", model="m", **FACT)
    ask(server, "edit", editor="memit", requests=[FACT, FACT], hparams={"layers": [1]})
    assert server.body(0) == {"model": "m", **FACT}
    assert server.body(1) == {
        "editor": "memit",
        "hparams": {"layers": [1]},
        "requests": [FACT, FACT],
    }


def test_a_relation_is_sent_as_it_was_given(ask: Either) -> None:
    relation = {
        "perspective": "relation",
        "subject": "France",
        "object": "Lyon",
        "relation_text": "capital",
        "add_prompt": "The relation between {} and Lyon is",
        "delete_prompt": "The relation between {} and Paris is",
    }
    server = FakeServer(answered(order()), answered(order()))
    ask(server, "edit", **relation)
    ask(server, "edit", requests=[relation, FACT])
    assert server.body(0) == relation
    assert server.body(1) == {"requests": [relation, FACT]}


def test_neither_and_both_forms_of_an_order_are_refused(ask: Either) -> None:
    with pytest.raises(TypeError, match="requests"):
        ask(FakeServer(), "edit", model="m")
    with pytest.raises(TypeError, match="requests"):
        ask(FakeServer(), "edit", requests=[FACT], **FACT)


def test_two_orders_have_two_keys_and_a_given_key_is_kept(ask: Either) -> None:
    server = FakeServer(*[answered(order("queued"), 202) for _ in range(3)])
    for given in (None, None, "mine"):
        ask(server, "edit", idempotency_key=given, wait=False, **FACT)
    first, second, third = (request.headers["idempotency-key"] for request in server.asked)
    assert first != second
    assert third == "mine"


def test_one_who_waits_says_so_and_one_who_does_not_gets_the_order_as_it_is(ask: Either) -> None:
    server = FakeServer(answered(order()), answered(order("queued"), 202))
    assert ask(server, "edit", timeout=7, **FACT).snapshot == f"{SNP}2"
    assert ask(server, "edit", wait=False, **FACT).status == "queued"
    assert server.asked[0].headers["prefer"] == "wait=7"
    assert "prefer" not in server.asked[1].headers


def test_an_order_is_a_typed_object_that_keeps_what_was_said(ask: Either) -> None:
    said = order(progress={"stage": "z", "done": 3, "total": 25, "loss": 0.5}, new="field")
    made = ask(FakeServer(answered(said)), "order", f"{EDT}1")
    assert (made.applied, made.settled, made.dry_run) == (True, True, False)
    assert (made.progress.stage, made.progress.done) == ("z", 3)
    assert made.created_at.year == 2030
    assert made.raw == said
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.status = "failed"


def test_a_dry_run_is_an_order_like_any_other(ask: Either) -> None:
    server = FakeServer(answered(order(dry_run=True, snapshot=None)))
    made = ask(server, "edit", dry_run=True, **FACT)
    assert server.body()["dry_run"] is True
    assert (made.dry_run, made.snapshot) == (True, None)
    assert made.report


def test_waiting_hears_of_progress_and_of_the_end(ask: Either) -> None:
    events = stream(
        ("1", "edit.claimed", "{}"),
        ("1", "edit.progress", '{"stage": "z", "done": 1, "total": 2}'),
        ("2", "edit.settled", '{"status": "applied"}'),
    )
    server = FakeServer(answered(order("queued"), 202), events, answered(order()))
    seen: list[str] = []

    def told(now: results.Order) -> None:
        seen.append(now.progress.stage if now.progress else now.status)

    done = ask(server, "edit", on_progress=told, **FACT)
    assert done.applied
    assert seen == ["queued", "z"]
    path = f"/edits/{EDT}1"
    assert server.heads == ["POST /edits", f"GET {path}/events", f"GET {path}"]


def test_without_events_the_order_itself_is_looked_at(ask: Either) -> None:
    server = FakeServer(
        answered(order("queued")),
        answered(problem(503, "database-unavailable"), 503),
        answered(order("running")),
        httpx.ReadError("cut"),
        answered(order("running")),
        httpx.Response(200, text=""),
        answered(order()),
    )
    assert ask(server, "wait", f"{EDT}1", patience=0).applied


def test_an_order_that_failed_raises_with_its_reason(ask: Either) -> None:
    error = {"code": "search-diverged", "detail": "After 25 steps p is 0.001.", "steps": 25}
    server = FakeServer(answered(order("failed", error=error)))
    with pytest.raises(OrderFailed) as caught:
        ask(server, "edit", **FACT)
    assert (caught.value.code, caught.value.fields) == ("search-diverged", {"steps": 25})
    assert caught.value.order.status == "failed"


def test_an_order_that_takes_too_long_is_named_and_not_lost(ask: Either) -> None:
    server = FakeServer(answered(order("running")))
    with pytest.raises(WaitTimeout, match=f"`errata watch {EDT}1`") as caught:
        ask(server, "edit", timeout=0, **FACT)
    assert caught.value.order.id == f"{EDT}1"


def test_a_restore_is_an_order_and_its_plan_is_none(ask: Either) -> None:
    server = FakeServer(answered(order(kind="restore")), answered(plan()))
    done = ask(server, "restore", "snp_0", if_match="snp_9", cancel_queued=True)
    assert done.kind == "restore"
    assert server.heads == ["POST /snapshots/snp_0/restore"]
    assert server.body() == {"cancel_queued": True}
    assert server.asked[0].headers["if-match"] == '"snp_9"'
    assert server.asked[0].headers["idempotency-key"]

    planned = ask(server, "plan_restore", "snp_0")
    assert server.body(1) == {"dry_run": True}
    assert "idempotency-key" not in server.asked[1].headers
    assert [each.ord for each in planned.undone] == [1]
    assert [each.status for each in planned.queued] == ["queued"]


def test_a_retract_is_an_order(ask: Either) -> None:
    taken = order(kind="retract", target=f"{EDT}1")
    server = FakeServer(answered(taken), answered(taken))
    done = ask(server, "retract", f"{EDT}1", if_match="snp_9")
    assert (done.kind, done.target) == ("retract", f"{EDT}1")
    assert server.heads == [f"POST /edits/{EDT}1/retract"]
    assert server.asked[0].content == b""
    assert server.asked[0].headers["if-match"] == '"snp_9"'
    ask(server, "retract", f"{EDT}1", dry_run=True)
    assert server.body(1) == {"dry_run": True}


def test_a_compaction_is_an_order(ask: Either) -> None:
    taken = order(kind="compact")
    server = FakeServer(answered(taken), answered(taken))
    assert ask(server, "compact", "m", if_match="snp_9").kind == "compact"
    assert server.heads == ["POST /models/m/compact"]
    assert server.asked[0].content == b""
    assert server.asked[0].headers["if-match"] == '"snp_9"'
    ask(server, "compact", "m", hparams={"layers": [3]}, dry_run=True)
    assert server.body(1) == {"hparams": {"layers": [3]}, "dry_run": True}


def test_a_restore_that_asks_for_nothing_else_has_no_body(ask: Either) -> None:
    server = FakeServer(answered(order(kind="restore")))
    ask(server, "restore", "snp_0")
    assert server.asked[0].content == b""


def test_a_cancelled_order_is_given_as_it_ended(ask: Either) -> None:
    asked = answered(order("running", cancel_requested=True), 202)
    server = FakeServer(asked, asked, answered(order("cancelled")))
    assert ask(server, "cancel", f"{EDT}1").status == "cancelled"
    # Asked again and again: the first time its worker was alive, the last time it was not.
    assert server.heads == [f"POST /edits/{EDT}1/cancel"] * 3
    assert {each.headers["prefer"] for each in server.asked} == {"wait=5"}
    refused = answered(problem(409, "order-settled", edit=f"{EDT}1", order_status="applied"), 409)
    with pytest.raises(Refused) as caught:
        ask(FakeServer(refused), "cancel", f"{EDT}1")
    assert (caught.value.status, caught.value.code) == (409, "order-settled")
    assert caught.value.fields == {"edit": f"{EDT}1", "order_status": "applied"}


def test_an_order_that_ends_while_one_cancels_it_is_given_as_it_ended(ask: Either) -> None:
    refused = problem(409, "order-settled", edit=f"{EDT}1", order_status="applied")
    asked = answered(order("running", cancel_requested=True), 202)
    server = FakeServer(asked, answered(refused, 409), answered(order("applied")))
    assert ask(server, "cancel", f"{EDT}1").status == "applied"
    with pytest.raises(WaitTimeout):
        ask(FakeServer(asked), "cancel", f"{EDT}1", timeout=0)
    running = ask(FakeServer(asked), "cancel", f"{EDT}1", wait=False)
    assert running.cancel_requested


def test_an_order_is_cancelled_once_however_often_one_asks(ask: Either) -> None:
    refused = problem(409, "order-settled", edit=f"{EDT}1", order_status="cancelled")
    server = FakeServer(
        httpx.ReadError("cut"), answered(refused, 409), answered(order("cancelled"))
    )
    assert ask(server, "cancel", f"{EDT}1").status == "cancelled"


def test_statistics_are_an_order(ask: Either) -> None:
    report = {"statistics": [], "seconds": 1.5, "collected": True}
    server = FakeServer(answered(order(kind="statistics", snapshot=None, report=report)))
    made = ask(server, "statistics", "m", editor="memit", hparams={"layers": [1]})
    assert server.heads == ["POST /models/m/statistics"]
    assert server.body() == {"editor": "memit", "hparams": {"layers": [1]}}
    assert server.asked[0].headers["idempotency-key"]
    assert made.report == report


# --- looks ---------------------------------------------------------------------------------------


def test_lists_are_read_to_their_end(ask: Either) -> None:
    server = FakeServer(
        answered(page(order(number=2), following="c1")),
        answered(page(order(number=1))),
    )
    found = ask(server, "edits", model="m", status="applied")
    assert [each.ord for each in found] == [2, 1]
    assert dict(server.asked[0].url.params) == {"model": "m", "status": "applied", "limit": "100"}
    assert server.asked[1].url.params["after"] == "c1"


def test_models_snapshots_and_editors_are_listed(ask: Either) -> None:
    server = FakeServer(answered(page(model())), answered(page(snapshot(1), snapshot())))
    assert [each.id for each in ask(server, "models")] == ["m"]
    assert [each.seq for each in ask(server, "snapshots", "m")] == [1, 0]
    assert ask(FakeServer(answered({"data": [editor()]})), "editors")[0].paper == "2202.05262"


def test_a_model_is_given_only_when_its_head_has_moved(ask: Either) -> None:
    server = FakeServer(httpx.Response(304), answered(model(head="snp_b")))
    assert ask(server, "model_if_moved", "m", "snp_a") is None
    assert ask(server, "model_if_moved", "m", "snp_a").head == "snp_b"
    assert {each.headers["if-none-match"] for each in server.asked} == {'"snp_a"'}


def test_a_model_is_registered_and_removed(ask: Either) -> None:
    server = FakeServer(answered(model(), 201), httpx.Response(204))
    assert ask(server, "register_model", "smollm2-135m", id="m").id == "m"
    assert server.body() == {"source": "smollm2-135m", "id": "m"}
    assert ask(server, "remove_model", "m") is None
    assert server.heads[1] == "DELETE /models/m"


def test_a_probe_sends_what_was_asked_and_nothing_else(ask: Either) -> None:
    server = FakeServer(answered({"data": [probe(compare=probe(snapshot="snp_2"))]}))
    [said] = ask(server, "probe", "m", "Hello", snapshot="snp_1", compare="snp_2")
    assert server.body() == {"prompts": ["Hello"], "snapshot": "snp_1", "compare": "snp_2"}
    assert said.targets[0].p == pytest.approx(0.001, abs=1e-4)
    assert said.compare.snapshot == "snp_2"


def test_labels_are_given_and_taken_away(ask: Either) -> None:
    server = FakeServer(answered(snapshot(label="best")), answered(snapshot()))
    assert ask(server, "label", "snp_1", "best").label == "best"
    assert ask(server, "label", "snp_1", None).label is None
    assert server.heads == ["PATCH /snapshots/snp_1"] * 2
    assert [server.body(0), server.body(1)] == [{"label": "best"}, {"label": None}]


def test_a_diff_is_from_here_to_there(ask: Either) -> None:
    server = FakeServer(answered(diff()), answered(diff()))
    found = ask(server, "diff", "snp_1", "snp_2")
    ask(server, "diff", "snp_1")
    assert (found.from_snapshot, found.to_snapshot) == (f"{SNP}1", f"{SNP}2")
    assert [each.ord for each in found.added] == [1]
    assert dict(server.asked[0].url.params) == {"to": "snp_2"}
    assert not server.asked[1].url.params


def test_a_name_is_one_part_of_a_path(ask: Either) -> None:
    server = FakeServer(answered(model()))
    ask(server, "model", "a?b#c%2f")
    assert server.asked[0].url.raw_path == b"/models/a%3Fb%23c%252f"
