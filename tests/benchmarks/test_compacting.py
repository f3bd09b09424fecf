"""Many edits solved anew together: the same facts said, and the same table after a restart."""

import io

from benchmarks.compacting import Run, text_of
from benchmarks.longrun import lineage
from benchmarks.progress import Progress
from editing.walk import Plan

from .conftest import MakeStudy
from .test_lifelong import HPARAMS


def test_what_was_written_one_by_one_is_said_when_solved_together(make_study: MakeStudy) -> None:
    told = []
    for _ in range(2):  # the second time it is all there
        study = make_study()
        with lineage(study, Plan.of(study.view, "ledger", HPARAMS), HPARAMS) as chain:
            told.append(Run(study, chain, Progress([3], io.StringIO())).go([0.9]))
    first, again = told
    assert [row["what"] for row in first["rows"]] == [
        "one after another",
        "together, written_share 0.5",
        "together, written_share 0.9",
    ]
    assert [row["values"]["ES"]["value"] for row in first["rows"]] == [100.0] * 3
    assert first["rows"][1]["being"] != first["rows"][2]["being"]
    assert [row["values"] for row in again["rows"]] == [row["values"] for row in first["rows"]]
    assert text_of(first).count("\n| together") == 2
