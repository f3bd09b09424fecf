"""Nothing is done twice, and what was interrupted ends as if it had not been."""

from pathlib import Path

import pytest

from benchmarks.ledger import Ledger

from .conftest import MakeTask
from .doing import entries, killed, lines_file, lines_of, perform, rows_of, timeless


@pytest.mark.parametrize("mode", ["single", "sequence"])
def test_a_killed_run_goes_on_and_gives_the_same_row(
    make_task: MakeTask, tmp_path: Path, mode: str
) -> None:
    editor = "rome" if mode == "single" else "memit-history"
    task = make_task(editor, mode)
    killed(task, 2)
    before = lines_of(task)
    perform(task)
    assert lines_of(task)[: len(before)] == before
    perform(task)
    whole = make_task(editor, mode, out=str(tmp_path / "at-once"))
    perform(whole)
    assert len(lines_of(task)) == len(lines_of(whole)) == task.pieces(3)
    assert list(map(timeless, rows_of(task))) == list(map(timeless, rows_of(whole)))
    assert rows_of(task)[0]["failed"] == 0


def test_a_resumed_sequence_has_the_weights_of_one_that_was_not_killed(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task("memit-history", "sequence")
    for after in (1, 2):
        killed(task, after)
    perform(task)
    whole = make_task("memit-history", "sequence", out=str(tmp_path / "at-once"))
    perform(whole)
    assert entries(task).keys() == entries(whole).keys()  # keys name what was built on
    assert rows_of(task)[0]["state"] == rows_of(whole)[0]["state"]
    assert rows_of(task)[0]["state"].startswith("sha256:")


def test_more_records_of_a_sequence_build_on_what_is_there(make_task: MakeTask) -> None:
    perform(make_task("rome", "sequence", records=2))
    task = make_task("rome", "sequence", records=3)
    before = entries(task)
    perform(task)
    fresh = [e for key, e in entries(task).items() if key not in before]
    assert sum("edit" in entry for entry in fresh) == 1


@pytest.mark.parametrize("torn", [b'{"key": "half a li', b""])
def test_a_torn_line_is_dropped_and_its_piece_done_again(make_task: MakeTask, torn: bytes) -> None:
    task = make_task("unedited")
    perform(task)
    whole, before, file = rows_of(task), lines_of(task), lines_file(task)
    file.write_bytes(b"".join(before[:2]) + (torn or before[2][:-1]))
    assert rows_of(task)[0]["done"] == 2
    perform(task)
    assert lines_of(task)[:2] == before[:2]
    assert list(map(timeless, rows_of(task))) == list(map(timeless, whole))


def test_a_lost_blob_is_made_again(make_task: MakeTask) -> None:
    task = make_task("rome", "sequence", records=2)
    killed(task, 2)
    blobs = sorted(lines_file(task).parent.glob("*.safetensors"))
    kept = [blob.read_bytes() for blob in blobs]
    blobs[0].unlink()
    blobs[1].write_bytes(b"something else")
    perform(task)
    assert [blob.read_bytes() for blob in blobs] == kept


def test_one_process_writes_at_a_time(make_task: MakeTask) -> None:
    task = make_task("unedited")
    first = Ledger(task.runs, task.asked)
    with pytest.raises(RuntimeError, match="Another process"):
        Ledger(task.runs, task.asked)
    first.close()
    Ledger(task.runs, task.asked).close()


def test_other_code_is_told_and_can_be_redone(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task("unedited", records=1)
    perform(task)
    assert not rows_of(task)[0]["stale"]
    monkeypatch.setattr("benchmarks.table.code", lambda: "other")
    monkeypatch.setattr("benchmarks.ledger.code", lambda: "other")
    perform(task)
    assert rows_of(task)[0]["stale"]
    perform(make_task("unedited", records=1, redo=True))
    assert not rows_of(task)[0]["stale"]
