"""The walk of the demo over HTTP: probe, edit, probe, restore, probe; and what has to hold."""

import math
import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from errata.cli import tables
from errata.client import Client
from errata.results import Json, Order, Probe, Snapshot

Answers = Mapping[str, Probe]  # prompt -> probe

MAX_TOKENS = 6
TOLERANCE = 1e-6  # of a log-probability, between two probes of the same weights


class Stages:
    """Tells each stage of an edit once, on one line."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._told = ""

    def __call__(self, order: Order) -> None:
        """Tell of the stage that an order has come to."""
        stage = order.progress.stage if order.progress else ""
        if stage and stage != self._told:
            self._out.print(f"{stage} ...", end=" ")
            self._told = stage


class Walk:
    """One demonstration; collects what did not hold."""

    def __init__(self, client: Client, model: str, out: Console) -> None:
        self._client = client
        self._model = model
        self._out = out
        self._failures: list[str] = []

    def run(self, alone: Json, together: Sequence[Json]) -> list[str]:
        """Walk, and give what failed."""
        facts = [alone, *together]
        base = self._client.model(self._model).head or ""
        first = self._ask(facts)
        self._check_known(facts, first)

        self._out.rule("One fact, by the editor rome", align="left")
        self._edit("rome", [alone], first)
        self._out.rule(f"{len(together)} facts as one batch, by the editor memit", align="left")
        self._edit("memit", together, first)

        self._out.rule("Every state is kept", align="left")
        self._show_snapshots()
        self._out.rule("Back to the untouched model", align="left")
        self._restore(base)
        self._check_restored(first, self._ask(facts))
        return self._failures

    def _edit(self, editor: str, requests: Sequence[Json], first: Answers) -> None:
        started = time.monotonic()
        order = self._client.edit(
            model=self._model, editor=editor, requests=requests, on_progress=Stages(self._out)
        )
        took = time.monotonic() - started
        now = self._ask(requests)
        self._out.print(f"applied after {took:.1f} s: {order.id}, {order.snapshot}")
        made = tables.table("asked", "prompt", "said before", "says now", "probability of")
        for request in requests:
            for kind, prompt, target in questions(request):
                before, after = first[prompt], now[prompt]
                made.add_row(
                    kind,
                    prompt,
                    tables.quoted(before.completion),
                    tables.quoted(after.completion),
                    f"{target}: {chance(before, target):.3f} -> {chance(after, target):.3f}",
                )
        self._out.print(made)
        self._out.print(tables.report(order.report or {}))
        for request in requests:
            self._check_written(request, now)

    def _restore(self, base: str) -> None:
        order = self._client.restore(base)
        before = self._client.snapshot(base).fingerprint
        after = self._client.snapshot(order.snapshot or "").fingerprint
        self._out.print(f"fingerprint of the untouched model  {before}")
        self._out.print(f"fingerprint of what is served now   {after}")
        if before != after:
            self._failures.append(f"the fingerprints differ: {before} and {after}")
        if (head := self._client.model(self._model).head) != order.snapshot:
            self._failures.append(f"the head is {head}, not the restored {order.snapshot}")
        self._show_snapshots()

    def _show_snapshots(self) -> None:
        data = sorted(self._client.snapshots(self._model), key=_seq)
        self._out.print(tables.snapshots(data))

    def _ask(self, requests: Sequence[Json]) -> Answers:
        answers: dict[str, Probe] = {}
        for request in requests:
            asked = questions(request)
            targets = [request["target_new"], request["target_true"]]
            data = self._client.probe(
                self._model,
                [prompt for _, prompt, _ in asked],
                targets=list(dict.fromkeys([*targets, *(target for *_, target in asked)])),
                max_tokens=MAX_TOKENS,
            )
            answers |= {probe.prompt: probe for probe in data}
        return answers

    def _check_known(self, requests: Sequence[Json], answers: Answers) -> None:
        for request in requests:
            said = answers[question(request)].completion.strip()
            if not said.startswith(request["target_true"]):
                self._failures.append(f"the untouched model says {said!r}: {question(request)}")

    def _check_written(self, request: Json, answers: Answers) -> None:
        probe = answers[question(request)]
        said, wanted = probe.completion.strip(), request["target_new"]
        likelier = chance(probe, wanted) > chance(probe, request["target_true"])
        if not (likelier and said.startswith(wanted)):
            self._failures.append(f"after the edit the model says {said!r}: {question(request)}")

    def _check_restored(self, first: Answers, last: Answers) -> None:
        differing = [prompt for prompt in first if not same(first[prompt], last[prompt])]
        self._failures += [f"restored, but it answers otherwise: {each}" for each in differing]
        equal = len(first) - len(differing)
        self._out.print(f"{equal} of {len(first)} answers are what they were at first")


def question(request: Json) -> str:
    """Give the prompt with its subject."""
    return request["prompt"].replace("{}", request["subject"])


def questions(request: Json) -> list[tuple[str, str, str]]:
    """Give what is asked about a fact: (kind, prompt, the target to watch)."""
    new = request["target_new"]
    return [
        ("prompt", question(request), new),
        *(("paraphrase", prompt, new) for prompt in request.get("paraphrases", ())),
        *(("neighbor", near["prompt"], near["target"]) for near in request.get("neighborhood", ())),
    ]


def chance(probe: Probe, target: str) -> float:
    """Give the probability of a target, as the probe tells it."""
    return next(each.p for each in probe.targets if each.text == target)


def same(one: Probe, other: Probe) -> bool:
    """Say whether two probes of one prompt are the same answer."""
    pairs = zip(one.targets, other.targets, strict=True)
    return one.completion == other.completion and all(
        math.isclose(a.logprob, b.logprob, abs_tol=TOLERANCE) for a, b in pairs
    )


def _seq(snapshot: Snapshot) -> int:
    return snapshot.seq
