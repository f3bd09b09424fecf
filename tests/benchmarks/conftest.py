"""A tiny model and a few facts in CounterFact's form, as the benchmarks find them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.longrun import Order, Study
from benchmarks.questions import CounterFact, Options
from benchmarks.task import Task
from editing.datasets.counterfact import counterfact_request
from editing.model.load import load_view
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.source import parse_source
from tests.editing.facts import CAPITAL, OTHER_SPORT, SPORT, UNREACHABLE
from tests.tiny import save_tiny

MakeTask = Callable[..., Task]
MakeStudy = Callable[..., Study]


def record(request: EditRequest) -> dict[str, object]:
    return {
        "requested_rewrite": {
            "prompt": request.prompt,
            "subject": request.subject,
            "target_new": {"str": request.target_new},
            "target_true": {"str": request.target_true or "Paris"},
        },
        "paraphrase_prompts": [f"Therefore we know. {request.question}"],
        "neighborhood_prompts": ["Diego Maradona plays the sport of", "The capital of France is"],
    }


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics are collected once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "counterfact").mkdir()
    records = [record(fact) for fact in (SPORT, CAPITAL, OTHER_SPORT, UNREACHABLE)]
    file = folder / "counterfact" / "counterfact_full.json"
    file.write_text(json.dumps(records), "utf-8")
    return folder


@pytest.fixture
def make_task(
    model_folder: Path, cache_folder: Path, data_folder: Path, tmp_path: Path
) -> MakeTask:
    def make(method: str, mode: str = "single", **changed: object) -> Task:
        given = {
            "method": method,
            "mode": mode,
            "model": str(model_folder),
            "data": str(data_folder),
            "offset": 0,
            "records": 3,
            "hparams": {"contexts": {"prefixes": 2}} if method != "unedited" else {},
            "cache": str(cache_folder),
            "out": str(tmp_path / "out"),
            "threads": 1,
            "seed": 0,
        }
        return Task(**{**given, **changed})

    return make


@pytest.fixture(scope="session")
def view(model_folder: Path, cache_folder: Path) -> ModelView:
    return load_view(parse_source(str(model_folder)), cache=cache_folder)


@pytest.fixture
def make_study(view: ModelView, tmp_path: Path) -> MakeStudy:
    """A long run's records are these facts, in this order."""

    def make(
        facts: Sequence[EditRequest] = (SPORT, CAPITAL, OTHER_SPORT), out: str = "out"
    ) -> Study:
        order = Order(
            data=tmp_path,
            dataset="counterfact",
            start=0,
            edits=len(facts),
            seed=0,
            options=Options(),
            out=tmp_path / out,
        )
        study = Study(view, order, {"model": "tiny", "threads": 1})
        study.questions = CounterFact([counterfact_request(0, record(fact)) for fact in facts])
        return study

    return make
