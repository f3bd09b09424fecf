"""A repair writes what was disturbed together with what is new, from the state before it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from editing.history import History
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.repair import repair
from editing.run import finish
from editing.step import Step
from editing.walk import edit

from .facts import CAPITAL, OTHER_SPORT, SPORT, planned, run


@pytest.mark.parametrize("editor", ["memit", "rome", "ft-m"])
def test_it_is_the_joint_batch_on_the_parent(llama: ModelView, editor: str) -> None:
    llama.adopt(llama.after(run(llama, editor, [CAPITAL]).deltas))
    plan, before = planned(llama, editor), llama.audit()
    found = finish(repair(llama, plan, History.empty(), [SPORT], [("e1", 0, CAPITAL)]))
    joint = finish(edit(llama, plan, [SPORT, CAPITAL], History.empty()))
    assert llama.audit() == before
    assert found.deltas.keys() == joint.deltas.keys()
    for name, change in found.changes.items():
        assert torch.allclose(change.matrix(), joint.changes[name].matrix(), atol=1e-6)


def own(*asked: Any) -> Iterator[Step]:
    """A method's own way to solve again."""
    _view, _hparams, _history, requests, disturbed = asked
    assert (list(requests), list(disturbed)) == ([SPORT], [("e1", 2, OTHER_SPORT)])

    def work() -> Iterator[Step]:
        yield Step("solve", 1, 1)
        return Outcome({}, notes={"again": True})

    return work()


def test_a_method_with_a_door_of_its_own_is_asked_there(llama: ModelView) -> None:
    plan = planned(llama, "memit")
    plan = replace(plan, method=replace(plan.method, again=f"{__name__}:own"))
    work = repair(llama, plan, History.empty(), [SPORT], [("e1", 2, OTHER_SPORT)])
    assert finish(work).notes == {"again": True}
