"""`python -m workers.training`: from a command line to a network, also when it is interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from editing.request import EditRequest
from editing.training.artefact import load_net
from editing.tuned import placement
from tests.editing.nets import records
from tests.tiny import save_tiny, tiny_view
from workers.training.__main__ import main

QUICK = [
    "--set=rank=4",
    "--set=accumulate=2",
    "--set=iterations=12",
    "--set=check_every=6",
    "--set=check_records=3",
]
Go = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps([as_counterfact(one) for one in records()]), "utf-8")
    return file


def as_counterfact(one: EditRequest) -> dict[str, Any]:
    rewrite = {
        "prompt": one.prompt,
        "subject": one.subject,
        "target_new": {"str": one.target_new},
        "target_true": {"str": one.target_true},
    }
    return {
        "requested_rewrite": rewrite,
        "paraphrase_prompts": list(one.paraphrases),
        "neighborhood_prompts": [near.prompt for near in one.neighborhood],
    }


@pytest.fixture
def go(
    tiny: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Go:
    monkeypatch.setenv("ERRATA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ERRATA_THREADS", "1")

    def run(*more: str, leave_out: str = "0..0") -> tuple[int, list[dict[str, Any]]]:
        argv = [
            "mend",
            "--model",
            str(tiny),
            "--data",
            str(data),
            "--leave-out",
            leave_out,
            "--json",
        ]
        code = main([*argv, *QUICK, *more])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_it_trains_and_an_editor_finds_what_came_of_it(go: Go, tmp_path: Path) -> None:
    code, told = go()
    assert code == 0
    began, *_, finished = told
    assert [one["event"] for one in (began, finished)] == ["began", "finished"]
    assert [one["iteration"] for one in told if one["event"] == "check"] == [6, 12]
    view = tiny_view("llama", stats_folder=tmp_path / "cache" / "statistics")
    assert load_net(view, placement("mend", view.facts)).id == finished["net"]
    asked = {one.question for one in records() if one.subject != records()[0].subject}
    assert began["records"] + began["kept_apart"] < len(asked)  # neighbors' texts are spared too

    again, told = go()  # nothing is left to do
    assert again == 0
    assert [one["event"] for one in told] == ["began", "finished"]
    assert told[-1]["net"] == finished["net"]


def test_records_of_another_file_are_left_out(go: Go, data: Path, tmp_path: Path) -> None:
    facts = json.loads(data.read_text("utf-8"))
    mine = [one for one in facts if one["requested_rewrite"]["subject"] == "LeBron James"]
    other = tmp_path / "measured.json"
    other.write_text(json.dumps(mine), "utf-8")
    _, none = go("--budget", "0.001", leave_out="none")
    _, some = go("--budget", "0.001", leave_out=f"{other}:0..{len(mine) - 1}")
    assert some[0]["records"] < none[0]["records"]


def test_a_spent_budget_leaves_the_network_there_is_and_a_larger_one_goes_on(go: Go) -> None:
    code, told = go("--budget", "0.001")
    assert code == 0
    assert told[-1]["event"] == "finished"
    first = told[-1]["iterations"]
    assert first < 12
    code, told = go("--budget", "600")
    assert code == 0
    assert told[0]["iteration"] == first
    assert told[-1]["iterations"] == 12


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--set=lr=fast"], "invalid-hparam", "a number"),
        (["--set=speed=1"], "unknown-hparam", "speed"),
        (["--set=lr"], "bad-request", "NAME=JSON"),
        (["--set=check_records=1000"], "bad-request", "lower check_records"),
        (["--data=/nowhere"], "bad-request", "is no file"),
        (["--layers=3,77"], "bad-request", "0 to 4"),
        (["--model=nothing at all"], "bad-source", "write one of"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(
    go: Go, more: list[str], code: str, words: str
) -> None:
    exit_code, told = go(*more)
    assert exit_code == 1
    (failed,) = told
    assert failed["event"] == "failed"
    assert failed["error"]["code"] == code
    assert words in failed["error"]["detail"]


def test_a_command_line_that_cannot_be_read_is_refused(go: Go) -> None:
    for wrong in ("--leave-out=9..3", "--leave-out=all", "--layers=a,b", "--recipe=secret"):
        with pytest.raises(SystemExit) as raised:
            go(wrong)
        assert raised.value.code == 2


def test_a_person_reads_lines_on_stderr(
    go: Go, capsys: pytest.CaptureFixture[str], tiny: Path, data: Path
) -> None:
    del go  # for its cache folder
    argv = ["mend", "--model", str(tiny), "--data", str(data), "--leave-out", "none", *QUICK]
    assert main(argv) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "efficacy" in told.err
    assert "network " in told.err.splitlines()[-1]


@pytest.mark.slow
def test_it_can_be_interrupted_and_goes_on_to_the_same_network(
    go: Go, tiny: Path, data: Path, tmp_path: Path
) -> None:
    longer = ["--set=iterations=60", "--set=check_every=30"]
    code, told = go(*longer)
    assert code == 0
    expected = told[-1]
    argv = [sys.executable, "-m", "workers.training", "mend", "--model", str(tiny), *QUICK, *longer]
    argv += ["--data", str(data), "--leave-out", "0..0", "--json"]
    environ = {**os.environ, "ERRATA_CACHE_DIR": str(tmp_path / "other")}

    def started() -> subprocess.Popen[str]:
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ)

    with started() as first:
        assert first.stdout
        for line in first.stdout:
            if json.loads(line)["event"] == "progress":
                first.send_signal(signal.SIGTERM)
                break
        rest = [json.loads(line)["event"] for line in first.stdout]
    assert first.returncode == 130
    assert rest[-1] == "interrupted"
    with started() as second:
        assert second.stdout
        told = [json.loads(line) for line in second.stdout]
    assert second.returncode == 0
    assert 0 < told[0]["iteration"] < 60
    assert told[-1]["net"] == expected["net"]
    assert told[-1]["loss"] == expected["loss"]


def test_two_at_once_do_not_write_one_state(go: Go, tmp_path: Path) -> None:
    import fcntl  # noqa: PLC0415

    go("--budget", "0.001")
    (lock,) = (tmp_path / "cache" / "statistics").glob("*.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        code, told = go()
    assert code == 1
    assert told[-1]["error"]["code"] == "already-training"
