"""Evals and forecasts: what the clients send, and what the commands make of the answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from errata.errors import EvalFailed, EvalUnfinished, Refused, ServerNotRunning
from tests.errata.answers import EVL, FACT, SNP, forecast, measurement, probe, suite
from tests.errata.either import Either, FakeServer, answered


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errata.measuring.FIRST_LOOK", 0.0)


def test_an_eval_is_asked_for_and_looked_at_until_it_has_ended(ask: Either) -> None:
    waiting, running = measurement("queued", summary=None), measurement("running")
    server = FakeServer(*map(answered, (waiting, running, measurement())))
    seen: list[int] = []
    found = ask(
        server,
        "evaluate",
        "efficacy",
        model="m",
        editor="rome",
        records=[FACT],
        options={"max_tokens": 3},
        on_progress=lambda now: seen.append(now.done),
    )
    assert server.heads == ["POST /evals", f"GET /evals/{EVL}", f"GET /evals/{EVL}"]
    assert server.body() == {
        "suite": "efficacy",
        "model": "m",
        "editor": "rome",
        "records": [FACT],
        "options": {"max_tokens": 3},
    }
    assert "Idempotency-Key" in server.asked[0].headers
    assert (found.finished, found.total, seen) == (True, 2, [1, 2])
    assert found.values["efficacy.success"]["n_testable"] == 3


def test_a_dataset_is_named_or_sliced(ask: Either) -> None:
    server = FakeServer(answered(measurement()), answered(measurement()))
    ask(server, "evaluate", "zsre", data="zsre", snapshots=[f"{SNP}1", f"{SNP}2"], wait=False)
    ask(server, "evaluate", "zsre", data={"name": "zsre", "limit": 3}, wait=False)
    assert server.body(0) == {
        "suite": "zsre",
        "data": {"name": "zsre"},
        "snapshots": [f"{SNP}1", f"{SNP}2"],
    }
    assert server.body(1)["data"] == {"name": "zsre", "limit": 3}


def test_an_eval_that_was_not_finished_raises_and_keeps_what_it_has(ask: Either) -> None:
    error = {"code": "poisoned", "detail": "three workers died"}
    server = FakeServer(*[answered(measurement("failed", error=error))] * 2)
    with pytest.raises(EvalFailed, match="three workers died") as caught:
        ask(server, "evaluate", "efficacy", records=[FACT])
    assert (caught.value.code, caught.value.eval.id) == ("poisoned", EVL)


def test_one_who_waits_gives_up_and_knows_where_it_goes_on(ask: Either) -> None:
    server = FakeServer(answered(measurement("running")))
    with pytest.raises(EvalUnfinished, match=f"errata eval {EVL}"):
        ask(server, "wait_eval", EVL, timeout=0)


def test_one_who_waits_takes_a_silent_server_for_one_that_restarts(
    ask: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = httpx.ConnectError("refused")
    closed = httpx.Response(503, json={"code": "unavailable", "detail": "Postgres is away."})
    server = FakeServer(answered(measurement("running")), gone, closed, answered(measurement()))
    assert ask(server, "wait_eval", EVL, patience=0.0).finished
    missing = httpx.Response(404, json={"code": "eval-not-found", "detail": "There is none."})
    with pytest.raises(Refused, match="There is none"):
        ask(FakeServer(missing), "wait_eval", EVL, patience=0.0)
    monkeypatch.setattr("errata.measuring.RESTART", 0.0)
    with pytest.raises(ServerNotRunning):
        ask(FakeServer(gone), "wait_eval", EVL, patience=0.0)


def test_rows_come_page_by_page(ask: Either) -> None:
    pages = [
        {"data": [{"case": 0}], "has_more": True, "next": "0"},
        {"data": [{"case": 1}], "has_more": False, "next": None},
    ]
    server = FakeServer(*map(answered, pages))
    assert ask(server, "eval_rows", EVL, match={"kind": "edit"}) == [{"case": 0}, {"case": 1}]
    asked = [dict(each.url.params) for each in server.asked]
    assert [each.get("after") for each in asked] == [None, "0"]
    assert json.loads(asked[0]["match"]) == {"kind": "edit"}


def test_pictures_and_pages_are_no_json(ask: Either) -> None:
    server = FakeServer(
        httpx.Response(200, content=b"\x89PNG", headers={"content-type": "image/png"}),
        httpx.Response(200, content="<html>é</html>".encode()),
    )
    assert ask(server, "plot", EVL, "scores", snapshot=SNP) == b"\x89PNG"
    assert dict(server.asked[0].url.params) == {"format": "png", "snapshot": SNP}
    assert ask(server, "eval_report", EVL) == "<html>é</html>"
    assert server.heads == [f"GET /evals/{EVL}/plot/scores", f"GET /evals/{EVL}/report"]


def test_a_forecast_is_asked_for_and_read(ask: Either) -> None:
    server = FakeServer(answered(forecast()))
    found = ask(server, "forecast", "m", FACT, [{"prompt": "Italy's is", "answers": ["Rome"]}])
    assert server.body()["request"] == FACT
    assert [each.likely for each in found.ripples] == [True, False]
    assert found.collisions[0].cosine == 0.97


def test_an_answer_is_compared_with_an_edit(ask: Either) -> None:
    said = probe(gradsim=0.3, facts=[{"edit": "edt_1", "gradsim": 0.3}], ripple={"gain": 2.0})
    server = FakeServer(answered(said))
    (found,) = ask(server, "probe", "m", "Hello", answer="Rome", edit="edt_1", targets=["a", "b"])
    asked = server.asked[0].url.params
    assert (asked["answer"], asked["edit"], asked.get_list("target")) == (
        "Rome",
        "edt_1",
        ["a", "b"],
    )
    assert (found.gradsim, found.ripple) == (0.3, {"gain": 2.0})
    for wrong in ({"edit": "edt_1"}, {"answer": "Rome", "compare": "snp_1"}):
        with pytest.raises(TypeError):
            ask(server, "probe", "m", "Hello", **wrong)


def test_a_cancel_whose_answer_was_lost_is_no_refusal(ask: Either) -> None:
    problem = {"code": "eval-settled", "detail": "over", "eval_status": "cancelled"}
    server = FakeServer(answered(problem, 409), answered(measurement("cancelled")))
    assert ask(server, "cancel_eval", EVL).status == "cancelled"
    finished = {**problem, "eval_status": "finished"}
    with pytest.raises(Refused):
        ask(FakeServer(answered(finished, 409)), "cancel_eval", EVL)


def test_suites_and_single_evals(ask: Either) -> None:
    server = FakeServer(
        answered({"data": [suite()]}),
        answered(measurement("cancelled")),
        answered({"data": [measurement()], "has_more": False}),
    )
    assert ask(server, "suites")[0].editor == "if named"
    assert ask(server, "cancel_eval", EVL).settled
    assert [each.id for each in ask(server, "evals", suite="efficacy")] == [EVL]


# --- the commands --------------------------------------------------------------------------------


def test_a_local_file_is_sent_along_and_a_slice_of_it(
    run: Callable[..., Result], bodies: list[Any], tmp_path: Path
) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text("".join(json.dumps({**FACT, "subject": name}) + "\n" for name in "abcd"))
    flags = ("--data", str(file), "--offset", "1", "--limit", "2", "--option", "max_tokens=3")
    result = run("eval", "efficacy", *flags, "--editor", "rome")
    assert result.exit_code == 0, result.output
    assert [each["subject"] for each in bodies[0]["records"]] == ["b", "c"]
    assert bodies[0]["options"] == {"max_tokens": 3}
    assert "efficacy.success" in result.stdout
    assert "search-diverged" in result.stdout


def test_a_dataset_of_the_server_is_named(run: Callable[..., Result], bodies: list[Any]) -> None:
    result = run("eval", "zsre", "--data", "zsre", "--limit", "2", "--json")
    assert result.exit_code == 0, result.output
    assert bodies[0]["data"] == {"name": "zsre", "limit": 2}
    assert json.loads(result.stdout)["id"] == EVL


def test_an_eval_is_followed_and_cancelled_by_its_id(
    run: Callable[..., Result], paths: list[str]
) -> None:
    assert run("eval", EVL).exit_code == 0
    assert paths == []
    assert run("eval", EVL, "--cancel").exit_code == 1  # it is cancelled
    assert paths == [f"/evals/{EVL}/cancel"]
    told = run("eval", EVL, "--rows")
    assert [json.loads(line) for line in told.stdout.splitlines()] == [{"case": 0}, {"case": 1}]


def test_a_picture_needs_a_format(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("eval", EVL, "--plot", str(tmp_path / "scores.gif"))
    assert result.exit_code == 2
    assert "png" in result.output


def test_a_forecast_sorts_by_what_will_follow(
    run: Callable[..., Result], bodies: list[Any], tmp_path: Path
) -> None:
    file = tmp_path / "edit.json"
    ripples = [{"prompt": "Italy's is", "answers": ["Rome"]}]
    file.write_text(json.dumps({**FACT, "ripples": ripples}))
    result = run("forecast", str(file))
    assert result.exit_code == 0, result.output
    assert bodies[0] == {"request": FACT, "ripples": ripples}
    assert result.stdout.index("Italy") < result.stdout.index("Spain")
    assert "0.97" in result.stdout


@pytest.mark.parametrize("command", ["evals", "suites"])
def test_lists(run: Callable[..., Result], command: str) -> None:
    result = run(command)
    assert result.exit_code == 0, result.output
    assert "efficacy" in result.stdout


def test_a_file_that_holds_no_records_is_refused(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    for text in ("{}", "[1]", "tea"):
        (tmp_path / "x.json").write_text(text)
        assert run("eval", "efficacy", "--data", str(tmp_path / "x.json")).exit_code == 2
