"""Measure what an edit does and what it costs.

On records of CounterFact: ROME and R-ROME (one edit each, the model restored between), MEMIT (all
in one batch) and memit-history (one edit a commit, all kept). Efficacy, paraphrase and neighborhood
before and after, CPU-seconds per edit by stage, and how far the model moved on neutral text: KL in
nats a token and perplexity (of the last single edit, of the batch, of the whole sequence).

    python -m benchmarks.walk --data DIR [--records 32] [--offset 0] [--methods rome,memit]
        [--model NAME] [--corpus FILE] [--hparams JSON]
"""

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import corpus_name, parser, prepared
from benchmarks.measuring import drifted, measured, rates
from editing.catalogue import METHODS
from editing.errors import EditFailed
from editing.history import History
from editing.metrics.counterfact import FactScores
from editing.metrics.drift import Drift
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.stats.moments import read_texts
from editing.walk import Plan, Stopwatch, edit, finish, prepare

_STAGES = ("statistics", "z", "keys", "solve", "measure")


@dataclass
class Run:
    """One method over all records."""

    method: str
    mode: str
    before: list[FactScores] = field(default_factory=list)
    after: list[FactScores] = field(default_factory=list)
    failed: int = 0
    drift: Drift | None = None
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
            "kl": self.drift.kl if self.drift else 0.0,
            "perplexity": self.drift.perplexity if self.drift else 0.0,
            "cpu_s": {name: round(value, 3) for name, value in seconds.items()},
            "edit_cpu_s": round(edit_s, 2),
        }


def one_by_one(view: ModelView, plan: Plan, requests: Sequence[EditRequest], run: Run) -> State:
    """Each edit alone, from base."""
    state = State()
    for number, request in enumerate(requests):
        run.before += finish(measured(view, [request], State()))
        try:
            outcome = finish(run.watch.timed(edit(view, plan, [request])))
            state = view.after(outcome.deltas)
        except EditFailed:
            run.failed += 1
            state = State()
        run.after += finish(run.watch.timed(measured(view, [request], state)))
        progress(run.method, number + 1, len(requests))
    return state


def in_one_batch(view: ModelView, plan: Plan, requests: Sequence[EditRequest], run: Run) -> State:
    """All edits in one solve."""
    run.before = finish(measured(view, requests, State()))
    outcome = finish(run.watch.timed(edit(view, plan, requests)))
    state = view.after(outcome.deltas)
    run.after = finish(run.watch.timed(measured(view, requests, state)))
    progress(run.method, len(requests), len(requests))
    return state


def one_after_another(
    view: ModelView, plan: Plan, requests: Sequence[EditRequest], run: Run
) -> State:
    """One edit a commit, all kept; measured after the last."""
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
        progress(run.method, number + 1, len(requests))
    final = view.current
    view.adopt(State())
    run.after = finish(run.watch.timed(measured(view, requests, final)))
    return final


def _always(outcome: Outcome) -> Any:  # noqa: ANN401 - a closure over one outcome
    return lambda: outcome


MODES = {
    "rome": ("single", one_by_one),
    "r-rome": ("single", one_by_one),
    "memit": ("batch", in_one_batch),
    "memit-history": ("sequence", one_after_another),
}


def measure(
    view: ModelView,
    name: str,
    requests: Sequence[EditRequest],
    overrides: dict[str, Any],
    corpus: Path | None,
) -> Run:
    """One method over all records, with C from a corpus or from the model's own text."""
    mode, apply = MODES[name]
    run = Run(name, mode)
    plan = Plan.of(view, name, overrides, corpus=corpus and corpus_name(corpus))
    texts = read_texts(corpus) if corpus else None
    finish(run.watch.timed(prepare(view, plan, texts)))
    run.drift = drifted(view, apply(view, plan, requests, run))
    return run


def progress(name: str, done: int, total: int) -> None:
    """One line, rewritten."""
    print(f"\r{name}: {done}/{total}   ", end="\n" if done == total else "", file=sys.stderr)


def main() -> None:
    """Run the methods asked for and print the table."""
    made = parser(__doc__, records=32)
    made.add_argument("--methods", default=",".join(MODES))
    made.add_argument("--hparams", default="{}", help="JSON overrides, for every method")
    made.add_argument("--corpus", type=Path, help="take C from this text, not from the model's own")
    args, requests, view = prepared(made)
    text = corpus_name(args.corpus) if args.corpus else "self"
    print(
        f"model {args.model} {view.fingerprint()[:23]}  records {args.offset}.."
        f"{args.offset + len(requests) - 1}  threads {args.threads}  dtype {view.info['dtype']}"
        f"  C from {text}  hparams {args.hparams}  unedited perplexity "
        f"{drifted(view, State()).perplexity:.3f}"
    )
    print(
        f"{'method':14} {'mode':8} {'n':>3} {'ES':>13} {'EA':>13} {'PS':>13} {'NS':>13}  "
        f"CPU-s per edit: {' '.join(_STAGES)} | z+keys+solve"
    )
    for name in args.methods.split(","):
        assert name in METHODS, name
        found = measure(view, name, requests, json.loads(args.hparams), args.corpus)
        row = found.row(len(requests))
        cells = " ".join(f"{row[k][0]:5.1f} ->{row[k][1]:5.1f}" for k in ("ES", "EA", "PS", "NS"))
        spent = " ".join(f"{row['cpu_s'][stage]:.2f}" for stage in _STAGES)
        print(
            f"{name:14} {row['mode']:8} {row['n']:3} {cells}  {spent} | {row['edit_cpu_s']:.2f}"
            f"  failed {row['failed']}  KL {row['kl']:.4f}  perplexity {row['perplexity']:.3f}",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
