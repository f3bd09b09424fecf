"""Every family of editors through the queue: applied, kept, found by the next worker, undone."""

from pathlib import Path

import pytest

from editing.catalogue import METHODS
from tests.editing.facts import overrides_for
from tests.tiny import tiny_view
from tests.workers.hands import take_over
from tests.workers.shop import FRANCE, LEBRON, MODEL, Queue

# One of each family, and of each kind of delta and of memory. Of a hypernetwork, which is trained
# first, what becomes of an order without one is tested with it.
EDITORS = [
    name
    for name in ("alphaedit", "attention", "prune", "ft-m", "lora", "kn", "ctp", "ike", "memory")
    if name in METHODS
]


def test_every_family_is_here() -> None:
    families = {METHODS[name].family for name in EDITORS}
    assert families | {"hypernetwork"} == {one.family for one in METHODS.values()}


@pytest.mark.parametrize("editor", EDITORS)
def test_two_edits_outlive_their_worker_and_are_undone_bit_for_bit(
    queue: Queue, statistics_folder: Path, tmp_path: Path, editor: str
) -> None:
    view = tiny_view(stats_folder=statistics_folder)
    hands = take_over(queue.database, view, MODEL, tmp_path)
    base = hands.host.view.audit()
    hparams = dict(overrides_for(editor))
    edits = [queue.order(fact, editor=editor, **hparams) for fact in (LEBRON, FRANCE)]
    hands.work()
    settled = [queue.edit(edit) for edit in edits]
    assert [one.status for one in settled] == ["applied", "applied"], settled[-1].error
    assert all(one.report and "efficacy" in one.report and "drift" in one.report for one in settled)
    after = hands.host.view.audit()
    assert len({base, after, queue.snapshot(settled[0].snapshot_id).fingerprint}) == 3

    fresh = tiny_view(stats_folder=statistics_folder)
    later = take_over(queue.database, fresh, MODEL, tmp_path)
    assert later.host.view.audit() == after
    first, untouched, *_ = settled[0].snapshot_id, queue.lineage()[0].id
    for snapshot in (first, untouched):
        queue.restore(snapshot)
        later.work()
        assert later.host.view.audit() == queue.snapshot(snapshot).fingerprint
    assert later.host.view.audit() == base
