"""Measure what an edit does and what it costs.

On records of CounterFact: ROME and R-ROME (one edit each, the model restored between), MEMIT (all
in one batch) and memit-history (one edit a commit, all kept). Efficacy, paraphrase and neighborhood
before and after, and CPU-seconds per edit by stage.

    python -m benchmarks.walk --data DIR [--records 32] [--offset 0] [--methods rome,memit]
"""

import json
import resource
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common import parser, prepared
from editing.catalogue import METHODS
from editing.delta import Outcome
from editing.errors import EditFailed
from editing.history import History
from editing.metrics.counterfact import FactScores, measure_facts, rivals, success_rate
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.step import Step
from editing.walk import Plan, Stopwatch, edit, finish, prepare, under

_STAGES = ("statistics", "z", "keys", "solve", "measure")


@dataclass
class Run:
    """One method over all records."""

    method: str
    mode: str
    before: list[FactScores] = field(default_factory=list)
    after: list[FactScores] = field(default_factory=list)
    failed: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)

    def row(self, facts: int) -> dict[str, Any]:
        """The table's line, percentages and CPU-seconds per edit."""
        old, new = rates(self.before), rates(self.after)
        seconds = {stage: self.watch.cpu.get(stage, 0.0) / facts for stage in _STAGES}
        edit_s = seconds["z"] + seconds["keys"] + seconds["solve"]
        return {
            "method": self.method,
            "mode": self.mode,
            "n": facts,
            "failed": self.failed,
            **{name: [round(old[name], 1), round(new[name], 1)] for name in old},
            "cpu_s": {name: round(value, 3) for name, value in seconds.items()},
            "edit_cpu_s": round(edit_s, 2),
        }


def rates(facts: Sequence[FactScores]) -> dict[str, float]:
    """ES, EA, PS, NS in percent, each averaged over its prompts."""
    parts = {
        "ES": [f.prompt for f in facts],
        "PS": [one for f in facts for one in f.paraphrases],
        "NS": [one for f in facts for one in f.neighborhood],
    }
    found = {name: 100 * (success_rate(part) or 0.0) for name, part in parts.items()}
    accuracy = sum(f.prompt.wanted.greedy for f in facts) / max(len(facts), 1)
    return {**found, "EA": 100 * accuracy}


def measured(
    view: ModelView, requests: Sequence[EditRequest], state: State
) -> Generator[Step, None, list[FactScores]]:
    """Scores of the requests under a state."""
    rival = yield from rivals(view, requests)
    return (yield from under(view, state, measure_facts(view, requests, rival)))


def one_by_one(
    view: ModelView, name: str, requests: Sequence[EditRequest], overrides: dict[str, Any]
) -> Run:
    """Each edit alone, from base."""
    run = Run(name, "single")
    plan = Plan.of(view, name, overrides)
    finish(run.watch.timed(prepare(view, plan)))
    for number, request in enumerate(requests):
        run.before += finish(measured(view, [request], State()))
        try:
            outcome = finish(run.watch.timed(edit(view, plan, [request])))
            state = view.after(outcome.deltas)
        except EditFailed:
            run.failed += 1
            state = State()
        run.after += finish(run.watch.timed(measured(view, [request], state)))
        progress(name, number + 1, len(requests))
    return run


def in_one_batch(
    view: ModelView, name: str, requests: Sequence[EditRequest], overrides: dict[str, Any]
) -> Run:
    """All edits in one solve."""
    run = Run(name, "batch")
    plan = Plan.of(view, name, overrides)
    finish(run.watch.timed(prepare(view, plan)))
    run.before = finish(measured(view, requests, State()))
    outcome = finish(run.watch.timed(edit(view, plan, requests)))
    run.after = finish(run.watch.timed(measured(view, requests, view.after(outcome.deltas))))
    progress(name, len(requests), len(requests))
    return run


def one_after_another(
    view: ModelView, name: str, requests: Sequence[EditRequest], overrides: dict[str, Any]
) -> Run:
    """One edit a commit, all kept; measured after the last."""
    run = Run(name, "sequence")
    plan = Plan.of(view, name, overrides)
    finish(run.watch.timed(prepare(view, plan)))
    run.before = finish(measured(view, requests, State()))
    history = History.empty()
    for number, request in enumerate(requests):
        try:
            outcome = finish(run.watch.timed(edit(view, plan, [request], history)))
        except EditFailed:
            run.failed += 1
            continue
        view.adopt(view.after(outcome.deltas))
        history = History([*history.entries, (str(number), _always(outcome))], history.folds)
        progress(name, number + 1, len(requests))
    final = view.current
    view.adopt(State())
    run.after = finish(run.watch.timed(measured(view, requests, final)))
    return run


def _always(outcome: Outcome) -> Any:  # noqa: ANN401 - a closure over one outcome
    return lambda: outcome


MODES = {
    "rome": one_by_one,
    "r-rome": one_by_one,
    "memit": in_one_batch,
    "memit-history": one_after_another,
}


def progress(name: str, done: int, total: int) -> None:
    """One line, rewritten."""
    print(f"\r{name}: {done}/{total}   ", end="\n" if done == total else "", file=sys.stderr)


def main() -> None:
    """Run the methods asked for and print the table."""
    made = parser(__doc__, records=32)
    made.add_argument("--methods", default=",".join(MODES))
    made.add_argument("--hparams", default="{}", help="JSON overrides, for every method")
    args, requests, view = prepared(made)
    print(
        f"model {args.model} {view.fingerprint()[:23]}  records {args.offset}.."
        f"{args.offset + len(requests) - 1}  threads {args.threads}  hparams {args.hparams}"
    )
    print(
        f"{'method':14} {'mode':8} {'n':>3} {'ES':>13} {'EA':>13} {'PS':>13} {'NS':>13}  "
        f"CPU-s per edit: {' '.join(_STAGES)} | z+keys+solve"
    )
    for name in args.methods.split(","):
        assert name in METHODS, name
        row = MODES[name](view, name, requests, json.loads(args.hparams)).row(len(requests))
        cells = " ".join(f"{row[k][0]:5.1f} ->{row[k][1]:5.1f}" for k in ("ES", "EA", "PS", "NS"))
        spent = " ".join(f"{row['cpu_s'][stage]:.2f}" for stage in _STAGES)
        print(
            f"{name:14} {row['mode']:8} {row['n']:3} {cells}  {spent} | {row['edit_cpu_s']:.2f}"
            f"  failed {row['failed']}",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
