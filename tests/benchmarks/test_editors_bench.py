"""The comparison of editors: its rows, and the program that makes them."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks import editors
from benchmarks.progress import Progress
from benchmarks.table import Table, table_of
from benchmarks.task import Task, tasks
from editing.errors import EditingError, HypernetworkMissing, InvalidHparam, StatsMissing
from tests.conftest import wait_until

from .conftest import MakeTask
from .doing import killed, lines_file, lines_of, perform, rows_of

ROOT = Path(__file__).resolve().parents[2]


class TestRows:
    def test_a_failed_edit_counts_as_the_model_unedited(self, make_task: MakeTask) -> None:
        unedited, task = (make_task(name, records=1, offset=3) for name in ("unedited", "rome"))
        perform(unedited)
        perform(task)
        base, row = rows_of(unedited, task)
        assert (row["failed"], row["failures"]) == (1, "search-diverged:1")
        assert "search-diverged:1; first: After " in editors.text_of(Table({}, [row]), "")
        names = ("ES", "EA", "PS", "NS", "S", "perplexity")
        assert [row[name] for name in names] == [base[name] for name in names]
        assert [row[f"{name}_before"] for name in names] == [base[name] for name in names]

    @pytest.mark.parametrize(
        "what",
        [
            StatsMissing(layer=1),
            InvalidHparam("a", value=1, must="b"),
            HypernetworkMissing(model="tiny", layers=[1], wanted=None, known=[]),
        ],
    )
    def test_what_no_other_record_would_mend_fails_the_row(
        self, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, what: EditingError
    ) -> None:
        def edit(*_: object) -> NoReturn:
            raise what

        monkeypatch.setattr("benchmarks.editor_run.edit", edit)
        task = make_task("rome")
        with pytest.raises(type(what)):
            perform(task)
        assert rows_of(task)[0]["done"] == 0

    def test_an_edit_is_seen_and_its_cost_is_counted(self, make_task: MakeTask) -> None:
        unedited, task = make_task("unedited"), make_task("memit", "batch")
        perform(unedited)
        perform(task)
        row = rows_of(unedited, task)[1]
        assert (row["n"], row["n_paraphrases"], row["n_neighbors"]) == (3, 3, 6)
        assert row["ES_before"] < row["ES"] == 100
        assert row["kl"] > 0
        assert row["norm_ratio"] != 1
        assert row["edit_cpu_s"] == pytest.approx(
            sum(v for k, v in row.items() if k.startswith("cpu_s.") and k != "cpu_s.statistics")
        )
        assert row["peak_mib"] > row["rise_mib"] >= 0

    def test_a_row_that_is_not_finished_says_so(self, make_task: MakeTask) -> None:
        task = make_task("rome", "sequence")
        assert rows_of(task)[0]["done"] == 0
        killed(task, 2)
        row = rows_of(task)[0]
        assert (row["done"], row["of"]) == (2, 7)
        assert "S" not in row
        assert "2 of 7 pieces done" in editors.text_of(Table({}, [row]), "")

    def test_rows_of_other_weights_are_left_out(self, make_task: MakeTask) -> None:
        unedited, task = make_task("unedited", records=1), make_task("rome", records=1)
        perform(unedited)
        perform(task)
        path = lines_file(task).parent / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "sha256:0"}))
        assert rows_of(unedited, task)[1]["done"] == 0

    def test_only_methods_for_batches_have_a_batch_and_slow_ones_fewer_records(
        self, make_task: MakeTask, data_folder: Path, tmp_path: Path
    ) -> None:
        asked = tasks(make_task("unedited"), ["memit", "rome"], ["single", "batch"])
        names = ["unedited single", "rome single", "memit single", "memit batch"]
        assert [task.name for task in asked] == names
        file = tmp_path / "counterfact" / "counterfact_full.json"
        file.parent.mkdir()
        source = data_folder / "counterfact" / "counterfact_full.json"
        file.write_text(json.dumps(json.loads(source.read_text("utf-8")) * 3))
        sizes = [
            len(make_task(name, data=str(tmp_path), records=12).requests())
            for name in ("kn", "rome")
        ]
        assert sizes == [8, 12]


class TestTheRowsOfATable:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Rows that were given a process; memit's ends as one that the kernel killed."""
        names: list[str] = []

        def child(task: Task, progress: Progress) -> tuple[int, str]:
            names.append(task.name)
            if task.method == "memit":
                return -9, ""
            perform(task)
            progress.tell(task.pieces(3))
            return 0, ""

        monkeypatch.setattr(editors, "in_a_child", child)
        return names

    def test_a_row_that_fails_takes_no_other_along_and_finished_ones_start_nothing(
        self, make_task: MakeTask, started: list[str]
    ) -> None:
        wanted = [make_task(name) for name in ("unedited", "memit", "rome")]
        errors = editors.carry_out(wanted)
        assert errors == {"memit single": "its process ended with status -9"}
        table = table_of(wanted, errors)
        assert [row["method"] for row in table.rows if "S" in row] == ["unedited", "rome"]
        assert "ended with status -9" in editors.text_of(table, "")
        editors.carry_out(wanted)
        names = ["unedited single", "memit single", "rome single"]
        assert started == [*names, "unedited single", "memit single"]

    def test_other_weights_under_the_same_name_make_a_row_anew(
        self, make_task: MakeTask, started: list[str]
    ) -> None:
        wanted = [make_task(name) for name in ("unedited", "rome")]
        editors.carry_out(wanted)
        path = lines_file(wanted[1]).parent / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "sha256:0"}))
        editors.carry_out(wanted)
        assert started.count("rome single") == 2

    def test_a_network_trained_since_makes_a_row_anew(
        self, make_task: MakeTask, started: list[str], tmp_path: Path
    ) -> None:
        wanted = [make_task(name, cache=str(tmp_path)) for name in ("unedited", "rome")]
        editors.carry_out(wanted)
        (tmp_path / "statistics" / "rome-net.safetensors").write_bytes(b"as if it had one")
        editors.carry_out(wanted)
        assert started.count("rome single") == 2
        assert len(list(wanted[1].runs.glob("rome.single.*"))) == 2


class TestTheProgram:
    """What is typed, in processes of its own."""

    @pytest.fixture
    def command(self, make_task: MakeTask) -> Callable[..., list[str]]:
        task = make_task("rome")

        def made(*more: str, out: str = task.out) -> list[str]:
            return [
                *(sys.executable, "-m", "benchmarks.editors", "--model", task.model),
                *("--data", task.data, "--cache", task.cache, "--out", out, "--records", "3"),
                *more,
            ]

        return made

    @pytest.mark.slow
    def test_a_kill_loses_nothing_and_a_method_that_raises_is_one_row(
        self, command: Callable[..., list[str]], make_task: MakeTask
    ) -> None:
        task = make_task("rome")
        out, done = Path(task.out), "runs/rome.single.*/records.jsonl"
        knob = '{"damping": 0.02}'  # which memit does not have
        typed = command("--methods", "rome,memit", "--modes", "single", "--hparams", knob)
        with subprocess.Popen(typed, cwd=ROOT, stdout=subprocess.DEVNULL) as first:
            wait_until(
                lambda: first.poll() is not None or (any(out.glob(done)) and bool(lines_of(task))),
                seconds=120,
            )
            first.kill()
        before = lines_of(task)
        second = subprocess.run(
            typed, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240
        )
        whole_lines = [line for line in before if line.endswith(b"\n")]
        assert lines_of(task)[: len(whole_lines)] == whole_lines
        assert len(lines_of(task)) == 3
        assert "memit single failed:" in second.stdout
        assert "damping" in second.stdout

        (sheet,) = out.glob("*.csv")
        rows = json.loads(sheet.with_suffix(".json").read_text())["rows"]
        assert [(row["method"], "S" in row) for row in rows] == [
            ("unedited", True),
            ("rome", True),
            ("memit", False),
        ]
        with sheet.open(newline="") as file:
            told = list(csv.DictReader(file))
        for row, cells in zip(rows, told, strict=True):
            assert {k: v for k, v in cells.items() if v} == {
                k: str(v) for k, v in row.items() if v not in ("", None)
            }
        assert sheet.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    def test_a_report_runs_nothing(
        self,
        command: Callable[..., list[str]],
        make_task: MakeTask,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        perform(make_task("unedited"))
        arguments = command("--methods", "rome", "--modes", "single", "--report")
        monkeypatch.setattr(sys, "argv", arguments[2:])
        editors.main()
        told = capsys.readouterr().out
        assert "0 of 3 pieces done" in told
        assert "sha256:" in told
        assert max(map(len, told.splitlines()[2:])) <= 180

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--methods", "rome,romme"], "romme is none of"),
            (["--modes", "alone"], "alone is none of"),
            (["--hparams", "{"], "no JSON"),
            (["--hparams", "[]"], "a JSON object"),
        ],
    )
    def test_what_cannot_be_is_refused_at_once(
        self,
        command: Callable[..., list[str]],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        more: list[str],
        says: str,
    ) -> None:
        monkeypatch.setattr(sys, "argv", command(*more)[2:])
        with pytest.raises(SystemExit):
            editors.main()
        assert says in capsys.readouterr().err
