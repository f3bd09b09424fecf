"""What is said of an edit before it is made."""

import json
from dataclasses import replace

import pytest
import torch

from editing import forecast as forecasts
from editing.errors import EmptyField, TargetTooLong
from editing.forecast import COLLIDES, LIKELY, forecast
from editing.history import Entry
from editing.metrics.gradsim import gram
from editing.model.view import ModelView
from editing.outcome import Outcome, Written
from editing.run import finish

from .facts import CAPITAL, OTHER_SPORT, SPORT, run

FEW = {"layers": [1, 3], "search.steps": 2, "search.min_probability": 0}


def test_each_ripple_has_the_gradsim_of_its_first_name(llama: ModelView) -> None:
    ripples = [
        ("Kobe Bryant plays the sport of", ("tennis", "ball")),
        (SPORT.question, ("tennis",)),
    ]
    found = finish(forecast(llama, SPORT, ripples))
    facts = [(SPORT.question, "tennis"), (ripples[0][0], "tennis")]
    wanted = float(finish(gram(llama, facts)).cosine[0, 1])
    near, same = found["ripples"]
    assert near == {
        "prompt": ripples[0][0],
        "answer": "tennis",
        "gradsim": pytest.approx(wanted, abs=1e-5),
        "likely": wanted >= LIKELY,
    }
    assert same["gradsim"] == pytest.approx(1)
    assert same["likely"] is True
    assert found["collisions"] == []
    json.dumps(found, allow_nan=False)


def test_a_name_that_cannot_be_said_is_passed_over(llama: ModelView) -> None:
    (one,) = finish(forecast(llama, SPORT, [("Italy is in", ("x " * 100, "Rome"))]))["ripples"]
    assert one["answer"] == "Rome"
    with pytest.raises(TargetTooLong):
        finish(forecast(llama, SPORT, [("Italy is in", ("x " * 100,))]))
    with pytest.raises(EmptyField):
        finish(forecast(llama, SPORT, [("Italy is in", ())]))


def test_live_edits_that_wrote_at_its_key_are_named_nearest_first(llama: ModelView) -> None:
    view = llama
    outcomes = {
        "same": run(view, "memit", [SPORT], FEW),
        "both": run(view, "attention", [SPORT, CAPITAL], FEW),
        "far": Outcome({}, {view.down_proj(1): at_right_angles(view)}),
        "without": Outcome({}),
    }
    live = [Entry(name, lambda made=made: made) for name, made in outcomes.items()]
    again = replace(SPORT, target_new="football")
    found = finish(forecast(view, again, [], live))["collisions"]
    named = {one["edit"]: one["cosine"] for one in found}
    assert named.keys() >= {"same", "both"}
    assert not named.keys() & {"far", "without"}
    assert named["same"] == pytest.approx(1, abs=1e-4)
    cosines = [one["cosine"] for one in found]
    assert cosines == sorted(cosines, reverse=True)
    assert min(cosines) >= COLLIDES


def at_right_angles(view: ModelView) -> Written:
    """A key that has nothing to do with the one of SPORT."""
    (pair,) = run(
        view, "rome", [SPORT], {"layers": [1], **dict(list(FEW.items())[1:])}
    ).written.values()
    key = pair.keys[:, :1]
    other = torch.randn(key.shape, generator=torch.Generator().manual_seed(0))
    other -= key * (key.mT @ other) / (key.mT @ key)
    return Written(other, pair.values[:, :1], pair.missing[:, :1])


def test_the_cosine_is_the_nearest_of_all_stored_keys(
    llama: ModelView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts, "COLLIDES", -1.0)
    lowest = {**FEW, "layers": [1]}  # nothing is edited below
    outcome = run(llama, "memit", [OTHER_SPORT, SPORT], lowest)
    (mine,) = run(llama, "memit", [CAPITAL], lowest).written.values()
    (stored,) = outcome.written.values()
    wanted = torch.cosine_similarity(stored.keys, mine.keys[:, :1], dim=0).max()  # bare prompt
    (told,) = finish(forecast(llama, CAPITAL, [], [Entry("other", lambda: outcome)]))["collisions"]
    assert told == {"edit": "other", "cosine": pytest.approx(float(wanted), abs=1e-4)}
