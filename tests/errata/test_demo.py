"""The demo has to notice when it shows something that is not so."""

import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from rich.console import Console

from errata.cli.demo_walk import Walk, question, questions
from errata.client import Client
from errata.demo_facts import ALONE, TOGETHER
from tests.errata import answers

FACTS = [ALONE, *TOGETHER]


class FakeModel:
    """A server whose model learns what it is told, perfectly, but for what a test takes away."""

    def __init__(self) -> None:
        self.learned: dict[str, str] = {}
        self.snapshots = [answers.snapshot(0, fingerprint="sha256:base")]
        self.deaf_to: str | None = None
        self.forgets_to_forget = False
        self.restored_print = "sha256:base"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        routes: list[tuple[str, Callable[[Any], Any]]] = [
            (r"/models/m$", lambda _: answers.model(head=self.snapshots[-1]["id"])),
            (r"/models/m/probe", self.probe),
            (r"/models/m/snapshots", lambda _: answers.page(*self.snapshots)),
            (r"/snapshots/\w+/restore", lambda _: self.restore()),
            (r"/snapshots/snp_(\d+)$", lambda _: self.snapshots[int(request.url.path[-1]) - 1]),
            (r"/edits$", self.edit),
            (r"/edits/edt_\d+", lambda _: self.order()),
        ]
        for pattern, answer in routes:
            if re.search(pattern, request.url.path):
                return httpx.Response(200, json=answer(body))
        return httpx.Response(404, json={"code": "not-found", "detail": request.url.path})

    def probe(self, body: Any) -> Any:
        return {"data": [self._said(prompt, body["targets"]) for prompt in body["prompts"]]}

    def edit(self, body: Any) -> Any:
        for fact in body["requests"]:
            if fact["subject"] != self.deaf_to:
                self.learned[question(fact)] = fact["target_new"]
        self.snapshots.append(answers.snapshot(len(self.snapshots), fingerprint="sha256:edited"))
        return self.order()

    def restore(self) -> Any:
        if not self.forgets_to_forget:
            self.learned.clear()
        number = len(self.snapshots)
        self.snapshots.append(
            answers.snapshot(number, kind="restore", fingerprint=self.restored_print)
        )
        return self.order()

    def order(self) -> Any:
        head = self.snapshots[-1]
        return answers.order(number=head["seq"], snapshot=head["id"])

    def _said(self, prompt: str, targets: list[str]) -> Any:
        known = {question(fact): fact["target_true"] for fact in FACTS} | self.learned
        said = known.get(prompt, "something")
        likely = [{"text": t, "logprob": math.log(0.9 if t == said else 0.01)} for t in targets]
        return {"prompt": prompt, "completion": f" {said}.", "top": [], "targets": likely}


def walk(model: FakeModel) -> tuple[list[str], str]:
    out = io.StringIO()
    with Client("http://errata.test", transport=httpx.MockTransport(model)) as client:
        failures = Walk(client, "m", Console(file=out, width=160)).run(ALONE, TOGETHER)
    return failures, out.getvalue()


def test_a_walk_on_which_all_holds_fails_nothing_and_shows_it() -> None:
    failures, shown = walk(FakeModel())
    assert failures == []
    for words in ("The Eiffel Tower", "Paris.", "Rome.", "neighbor", "restore", "sha256:base"):
        assert words in shown
    asked = len({prompt for fact in FACTS for _, prompt, _ in questions(fact)})
    assert f"{asked} of {asked} answers are what they were at first" in shown


def test_an_edit_that_did_not_take_is_a_failure() -> None:
    model = FakeModel()
    model.deaf_to = "Japan"
    failures, _ = walk(model)
    assert failures == ["after the edit the model says 'Tokyo.': The capital of Japan is"]


def test_a_restore_that_left_something_is_a_failure() -> None:
    model = FakeModel()
    model.forgets_to_forget = True
    failures, _ = walk(model)
    assert len(failures) == len(FACTS)
    assert all(failure.startswith("restored, but it answers otherwise") for failure in failures)


def test_fingerprints_that_differ_are_a_failure() -> None:
    model = FakeModel()
    model.restored_print = "sha256:other"
    failures, _ = walk(model)
    assert failures == ["the fingerprints differ: sha256:base and sha256:other"]


def test_a_model_that_never_knew_is_a_failure() -> None:
    model = FakeModel()
    model.learned[question(ALONE)] = "Berlin"
    failures, _ = walk(model)
    assert failures[0].startswith("the untouched model says 'Berlin.'")


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["subject"])
def test_the_facts_have_the_shape_of_requests(fact: dict[str, Any]) -> None:
    assert fact["prompt"].count("{}") == 1
    assert fact["target_new"] != fact["target_true"]
    assert fact["paraphrases"]
    assert fact["neighborhood"]
