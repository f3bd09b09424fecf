"""Keys of live edits: all with all, exact duplicates, and what a new request would disturb."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from editing.errors import BadRecord
from editing.evals.catalogue import suite
from editing.evals.run import rows_of, summary_of
from editing.evals.scene import Scene
from editing.history import Entry, History
from editing.metrics.keys import nearest
from editing.model.view import ModelView
from editing.outcome import Outcome, Written
from editing.request import EditRequest
from editing.run import finish

from .facts import CAPITAL, SPORT, run

Json = dict[str, Any]
ONE = suite("keys")
SAME_SUBJECT = replace(SPORT, prompt="{} is by the sea", target_new="river")


def written(*keys: torch.Tensor, weight: str = "w") -> Outcome:
    pair = Written(torch.stack(keys, dim=1), torch.zeros(2, len(keys)), torch.zeros(2, len(keys)))
    return Outcome({}, {weight: pair})


def history(*outcomes: Outcome) -> History:
    entries: list[Entry] = [(f"e{n}", lambda one=one: one) for n, one in enumerate(outcomes)]
    return History(entries)


def measured(
    view: ModelView, live: History, records: Sequence[Json] = (), **options: Any
) -> tuple[list[Json], Json]:
    chosen = ONE.options_of(options)
    scene = Scene(view=view, options=chosen, history=live)
    rows: list[Json] = []
    for number, case in enumerate(ONE.read(list(records), chosen)):
        rows += finish(rows_of(ONE, scene, case, number, view.current))
    return rows, summary_of(ONE, rows, chosen)


def test_the_nearest_keys_of_two_edits_count() -> None:
    a, b, c = torch.eye(3)
    found = nearest([torch.stack([a, b], 1), torch.stack([c, 2 * b + c], 1), -a[:, None]])
    far = 2 / 5**0.5
    wanted = torch.tensor([[1, far, 0], [far, 1, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.allclose(found, wanted)


def test_exact_duplicates_are_counted_and_the_nearest_pairs_named(llama: ModelView) -> None:
    a, b, c = torch.eye(3)
    live = history(written(a), written(3 * a), written(b + c), Outcome({}), written(b))
    rows, told = measured(llama, live)
    (row,) = rows
    assert row["edits"] == ["e0", "e1", "e2", "e4"]  # one wrote no keys
    assert (row["live"], row["duplicates"]) == (5, 1)
    assert told["values"]["duplicates"]["value"] == 1 / 6
    assert told["tables"]["closest"]["rows"][:2] == [["e0", "e1", 1.0], ["e2", "e4", 0.7071]]
    assert told["values"]["cosine"]["clusters"] == 4
    assert told["values"]["cosine"]["value"] == pytest.approx((1 + 0.7071) / 6, abs=1e-4)


def test_only_the_newest_are_compared(llama: ModelView) -> None:
    a, b, _ = torch.eye(3)
    rows, _ = measured(llama, history(written(a), written(a), written(b)), edits=2)
    assert rows[0]["edits"] == ["e1", "e2"]
    assert (rows[0]["live"], rows[0]["read"]) == (3, 2)


def test_without_live_edits_there_is_nothing_to_collide_with(llama: ModelView) -> None:
    rows, told = measured(llama, History.empty(), [SPORT.to_dict()])
    assert [row["row"] for row in rows] == ["live", "new"]
    assert rows[1]["disturbs"] == []
    assert told["live"] == 0
    assert told["values"]["cosine"]["value"] is None
    assert told["values"]["disturbed"]["value"] == 0
    assert measured(llama, History.empty())[1]["values"]["disturbed"]["n"] == 0


def test_a_request_about_an_edited_subject_would_disturb_its_edit(llama: ModelView) -> None:
    live = history(
        run(llama, "rome", [SPORT], {"contexts.prefixes": 2}),
        run(llama, "rome", [CAPITAL], {"contexts.prefixes": 2}),
    )
    asked: list[EditRequest] = [SAME_SUBJECT]
    rows, told = measured(llama, live, [one.to_dict() for one in asked])
    (new,) = (row for row in rows if row["row"] == "new")
    assert new["disturbs"][0]["edit"] == "e0"
    assert new["disturbs"][0]["cosine"] == pytest.approx(1, abs=1e-5)  # one subject, one key
    assert told["values"]["disturbing"]["value"] == 1
    assert told["tables"]["new"]["rows"][0] == ["LeBron James is by the sea", "e0", 1.0]
    (weight,) = told["tables"]["weights"]["rows"]
    assert weight[1] == 2


def test_a_record_that_is_no_request_is_named() -> None:
    with pytest.raises(BadRecord, match="Record 1"):
        ONE.read([SPORT.to_dict(), {"prompt": "x"}], ONE.options_of({}))
