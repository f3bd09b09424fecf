"""`errata train`: what it makes of its command line, and which program it becomes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from errata.cli import train as command
from errata.cli.main import app
from errata.places import default_cache_folder

Train = Callable[..., Result]


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines of the programs that the process would have become."""
    seen: list[list[str]] = []
    monkeypatch.setattr(command.os, "execv", lambda _, argv: seen.append(argv))
    monkeypatch.setenv("ERRATA_CACHE_DIR", "/a/cache")
    monkeypatch.delenv("ERRATA_DATA", raising=False)
    return seen


@pytest.fixture
def train(became: list[list[str]]) -> Train:
    del became
    return lambda *argv: CliRunner().invoke(app, ["train", "mend", *argv])


def test_it_becomes_the_trainer(train: Train, became: list[list[str]]) -> None:
    result = train(
        "--data", "/d", "--data", "/e.json", "--budget", "90s", "--set", "lr=1e-5", "--json"
    )
    assert result.exit_code == 0, result.output
    (argv,) = became
    assert argv[:4] == [sys.executable, "-m", "workers.training", "mend"]
    assert argv[4:] == [
        *("--model", "smollm2-135m", "--budget", "90.0", "--leave-out", "0..99"),
        *("--recipe", "quick", "--seed", "0", "--data", "/d", "--data", "/e.json"),
        *("--set", "lr=1e-5", "--json"),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("45m", 2700), ("1.5h", 5400), ("30", 30), ("2s", 2)]
)
def test_a_budget_is_a_time(
    train: Train, became: list[list[str]], text: str, seconds: float
) -> None:
    assert train("--data", "/d", "--budget", text).exit_code == 0
    assert became[0][became[0].index("--budget") + 1] == str(float(seconds))


@pytest.mark.parametrize("text", ["soon", "-3m", "4 5m", "1d", ""])
def test_what_is_no_time_is_refused(train: Train, became: list[list[str]], text: str) -> None:
    result = train("--data", "/d", "--budget", text)
    assert result.exit_code == 2
    assert "45m" in result.output
    assert became == []


def test_without_data_it_says_what_is_missing(train: Train, became: list[list[str]]) -> None:
    result = train()
    assert result.exit_code == 2
    assert "ERRATA_DATA" in result.output
    assert became == []


def test_the_data_may_be_named_by_the_environment(
    train: Train, became: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERRATA_DATA", "/benchmarks")
    assert train().exit_code == 0
    assert became[0][became[0].index("--data") + 1] == "/benchmarks"


@pytest.mark.usefixtures("became")
def test_it_trains_into_the_cache_of_the_workers(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("--data", "/d")
    assert os.environ["ERRATA_CACHE_DIR"] == "/a/cache"
    monkeypatch.delenv("ERRATA_CACHE_DIR")
    train("--data", "/d")
    assert Path(os.environ["ERRATA_CACHE_DIR"]) == default_cache_folder()


def test_a_light_install_is_told_what_it_lacks(
    train: Train, became: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    result = train("--data", "/d")
    assert result.exit_code == 1
    assert "errata[worker]" in result.output
    assert became == []
