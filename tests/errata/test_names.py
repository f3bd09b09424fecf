"""What a person calls a model, a snapshot or an order, and which one is taken."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.errata.answers import EDT, SNP, model, page, snapshot


@pytest.mark.parametrize(
    ("name", "found"),
    [("0", "1"), ("before-launch", "2"), ("1", "2"), (f"{SNP}1", "1"), (SNP[:9], None)],
)
def test_a_snapshot_has_many_names(
    run: Callable[..., Result], paths: list[str], name: str, found: str | None
) -> None:
    result = run("restore", name, "--json")
    if found is None:
        assert result.exit_code == 1
        assert json.loads(result.stdout)["error"]["code"] == "not-one"
    else:
        assert result.exit_code == 0, result.output
        assert paths == [f"/snapshots/{SNP}{found}/restore"]


@pytest.mark.parametrize(
    "argv",
    [
        ("restore", f"{SNP}1"),
        ("restore", f"{SNP}1", "--dry-run"),
        ("label", f"{SNP}1", "mine"),
        ("diff", f"{SNP}1"),
        ("diff", "0", f"{SNP}1"),
        ("probe", "Hello", "--snapshot", f"{SNP}1"),
        ("cancel", f"{EDT}1"),
        ("watch", f"{EDT}1"),
    ],
    ids=" ".join,
)
def test_what_is_meant_for_one_model_is_not_done_to_another(
    run: Callable[..., Result],
    answers: dict[str, Any],
    bodies: list[Any],
    argv: tuple[str, ...],
) -> None:
    answers["/models"] = page(model(), model(id="n"))
    answers["/models/n/snapshots"] = page(snapshot(0, id=f"{SNP}7", model="n"))
    result = run(*argv, "--model", "n", "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert (error["code"], error["owner"], error["model"]) == ("of-another-model", "m", "n")
    assert bodies == []


def test_the_model_that_was_named_goes_along_with_a_restore(
    run: Callable[..., Result], bodies: list[Any]
) -> None:
    for flags in ([], ["--dry-run"]):
        assert run("restore", f"{SNP}1", "-m", "m", *flags).exit_code == 0
    assert bodies == [{"model": "m"}, {"model": "m", "dry_run": True}]


def test_a_model_is_named_once(run: Callable[..., Result]) -> None:
    assert run("watch", "m", "-m", "m").exit_code == 2
    assert run("snapshots", "-m", "").exit_code == 1


def test_two_models_have_to_be_told_apart(
    run: Callable[..., Result], answers: dict[str, Any]
) -> None:
    answers["/models"] = page(model(), model(id="n"))
    result = run("snapshots")
    assert result.exit_code == 1
    assert "fits several: m, n" in result.stderr
    assert run("snapshots", "--model", "m").exit_code == 0
