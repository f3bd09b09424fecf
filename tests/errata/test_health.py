"""The guard and a model's health: what both clients send and read, and what the commands print."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from errata.errors import OrderFailed
from tests.errata.answers import AT, EDT, FACT, REPORT, SNP, model, order
from tests.errata.either import Either, FakeServer, answered

BREACH = {
    "what": "kl",
    "at": "drift.kl",
    "measured": 0.5,
    "threshold": 0.1,
    "n": 90,
    "collapse": False,
    "before": 0.25,
}
MEMBER = {"edit": f"{EDT}1", "ord": 1, "editor": "rome", "facts": [0, 2], "by": f"{SNP}2"}
STATE = {
    "snapshot": f"{SNP}2",
    "seq": 1,
    "kind": "edit",
    "edit": f"{EDT}1",
    "created_at": AT,
    "drift": 0.5,
    "perplexity_ratio": 1.25,
    "norm_ratio": 1.01,
    "distinct": None,
    "verdict": "warn",
    "breaches": [BREACH],
}
HEALTH = {
    "model": "m",
    "head": f"{SNP}2",
    "seq": 1,
    "guard": {"kl": 0.1, "on_breach": "warn"},
    "counts": {"live": 1, "disturbed": 1, "superseded": 0},
    "live": [{**MEMBER, "by": None}],
    "disturbed": [MEMBER],
    "superseded": [],
    "snapshots": [STATE],
}


def test_health_is_asked_and_read(ask: Either) -> None:
    server = FakeServer(answered(HEALTH))
    found = ask(server, "health", "m", after=f"{EDT}2", limit=3)
    assert server.heads == ["GET /models/m/health"]
    assert dict(server.asked[0].url.params) == {"after": f"{EDT}2", "limit": "3"}
    assert found.counts["disturbed"] == 1
    assert (found.disturbed[0].facts, found.disturbed[0].by) == ([0, 2], f"{SNP}2")
    assert (found.snapshots[0].drift, found.snapshots[0].created_at.year) == (0.5, 2030)


def test_a_guard_is_set_for_a_model_and_for_an_order(ask: Either) -> None:
    server = FakeServer(
        answered(model(guard={"kl": 1})),
        answered(model()),
        answered(model(), 201),
        answered(order("queued"), 202),
    )
    assert ask(server, "set_guard", "m", {"kl": 1}, if_match="snp_1").guard == {"kl": 1}
    ask(server, "set_guard", "m", None)
    ask(server, "register_model", "x", guard={"sample": 0})
    ask(server, "edit", wait=False, guard={"kl": None}, **FACT)
    assert server.heads[:2] == ["PATCH /models/m"] * 2
    assert server.asked[0].headers["if-match"] == '"snp_1"'
    assert [server.body(n) for n in (0, 1)] == [{"guard": {"kl": 1}}, {"guard": None}]
    assert server.body(2) == {"source": "x", "guard": {"sample": 0}}
    assert server.body(3)["guard"] == {"kl": None}


def test_who_waits_is_told_of_a_rejection(ask: Either) -> None:
    error = {"code": "guard-breached", "detail": "It went too far.", "breaches": [BREACH]}
    server = FakeServer(answered(order("rejected", error=error, evidence="ab")))
    with pytest.raises(OrderFailed) as told:
        ask(server, "edit", **FACT)
    assert (told.value.code, told.value.fields["breaches"]) == ("guard-breached", [BREACH])
    assert (told.value.order.status, told.value.order.evidence) == ("rejected", "ab")


@pytest.fixture
def told_health(answers: dict[str, Any]) -> None:
    answers["/models/m/health"] = HEALTH


@pytest.mark.usefixtures("told_health")
def test_the_command_shows_how_a_model_does(run: Callable[..., Result]) -> None:
    shown = run("health")
    assert shown.exit_code == 0, shown.output
    for word in ("1 disturbed", f"{EDT}1", "0, 2", "0.500", "1.250", "warn", "on_breach=warn"):
        assert word in shown.stdout, word
    assert json.loads(run("health", "m", "--json").stdout) == HEALTH


def test_the_command_sets_a_guard(
    run: Callable[..., Result], answers: dict[str, Any], bodies: list[Any]
) -> None:
    assert answers["/models/m"]
    shown = run("guard", "on_breach=reject", "kl=null")
    assert shown.exit_code == 0, shown.output
    assert bodies[-1] == {"guard": {"on_breach": "reject", "kl": None}}
    assert run("guard", "--reset").exit_code == 0
    assert bodies[-1] == {"guard": None}
    for wrong in (("guard",), ("guard", "--reset", "kl=1"), ("guard", "kl")):
        assert run(*wrong).exit_code == 2


def test_a_rejected_edit_says_why_and_ends_with_1(
    run: Callable[..., Result], answers: dict[str, Any], bodies: list[Any]
) -> None:
    judged = {"verdict": "reject", "breaches": [BREACH]}
    repaired = {"disturbed": [{"edit": f"{EDT}7", "fact": 0}], "breaches": [BREACH]}
    report = {**REPORT, "guard": judged, "repair": repaired}
    error = {"code": "guard-breached", "detail": "It went too far.", "breaches": [BREACH]}
    answers["/edits"] = order("rejected", error=error, report=report)
    flags = [
        flag for name, value in FACT.items() for flag in (f"--{name.replace('_', '-')}", value)
    ]
    shown = run("edit", *flags, "--guard", "on_breach=repair", "--guard", "kl=0.1")
    assert shown.exit_code == 1
    assert bodies[0]["guard"] == {"on_breach": "repair", "kl": 0.1}
    breach = "drift.kl is worse by 0.500, before 0.250, the threshold 0.100"
    for word in ("is rejected", "It went too far.", f"again with {EDT}7", breach):
        assert word in shown.stdout, word
