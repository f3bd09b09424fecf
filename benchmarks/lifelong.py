"""Many edits one after another, one commit each: what is left of all of them as they grow.

At each checkpoint all records so far are asked again: efficacy, paraphrases and neighbors of
CounterFact (or zsRE's measures), perplexity, how much the weights have grown, and what an edit
costs by then. Every edit and every answer is a line in a ledger below --out; the same command goes
on where it was interrupted, by whatever, and with more --edits it goes on from the last one. An
edit that fails is skipped, and counts as not answered.

    python -m benchmarks.lifelong --data DIR --editor memit-history[,memit] [--edits 1000]
        [--checkpoints 10,30,100,300,1000] [--hparams JSON] [--options JSON]
        [--dataset counterfact|zsre] [--records START] [--seed 0] [--model NAME] [--out FOLDER]
    python -m benchmarks.lifelong report RUN... [--out FOLDER]
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ledger import Entry
from benchmarks.lifelong_report import written
from benchmarks.longrun import Study, arguments, lay, lineage, study_of
from benchmarks.progress import Progress, clock
from benchmarks.questions import holding
from benchmarks.sequence import Chain
from editing.run import finish
from editing.step import Step
from editing.walk import Plan, prepare

Json = dict[str, Any]
_RECENT = 10  # edits whose cost is told at a checkpoint


class Run:
    """One editor on the records of a study."""

    def __init__(self, study: Study, chain: Chain, progress: Progress) -> None:
        self.study, self.chain, self._progress = study, chain, progress
        self.name = chain.plan.method.name
        self.commits: list[Entry] = []
        self._done = 0

    def go(self, checkpoints: Sequence[int]) -> Json:
        """Edit, and ask at the checkpoints; the summary, which is written at each of them."""
        requests = self.study.questions.requests
        self._progress.begin(self.name)
        finish(prepare(self.study.view, self.chain.plan), self._step)
        found: list[Json] = []
        for number, request in enumerate(requests):
            _, entry = self.chain.edited(request, self._step)
            self.commits.append(entry)
            self._done = number + 1
            self._progress.tell(self._done, self._cost())
            if self._done in checkpoints or self._done == len(requests):
                found.append(self._asked(self.chain))
                self._write(found)
                self._progress.say(_line(self.name, found[-1]))
        return self._write(found)

    def _asked(self, chain: Chain) -> Json:
        """One checkpoint."""
        failed = [entry["failed"] is not None for entry in self.commits]
        made = list(self.study.questions.requests[: self._done])
        held = holding(made, failed)
        asked = list(enumerate(held))
        before = self.study.unedited(asked, self._say)
        now = self.study.scored(chain.ledger, asked, chain.name, chain.state, self._say)
        cpu = [entry["cpu_s"] for entry in self.commits]
        return {
            "n": self._done,
            "failed": sum(failed),
            "failures": dict(Counter(e["failed"] for e in self.commits if e["failed"])),
            "superseded": sum(one is not other for one, other in zip(made, held, strict=True)),
            "values": self.study.questions.values(now, before, failed, self.study.order.seed),
            "by_age": self.study.questions.ages(now, failed),
            "being": dict(self.study.being(chain.ledger, chain.name, chain.state)),
            "being_before": dict(self.study.rested(self._say)),
            "cpu_s_recent": median(cpu[-_RECENT:]),
            "cpu_s": sum(cpu),
            "wall_s": sum(entry["wall_s"] for entry in self.commits),
            "bytes": sum(entry["bytes"] for entry in self.commits),
            "state": self.study.view.fingerprint(chain.state),
        }

    def _write(self, found: Sequence[Json]) -> Json:
        summary: Json = {
            "made_by": self.chain.ledger.about,
            "text": self.study.text,
            "codes": sorted({entry["code"] for entry in self.commits}),
            "checkpoints": list(found),
            "edits": [
                {name: entry[name] for name in ("cpu_s", "wall_s", "stages", "failed", "why")}
                for entry in self.commits
            ],
        }
        return lay(self.chain.ledger.folder / "summary.json", summary)

    # ---- what is heard of it ---------------------------------------------------------------------

    def _cost(self) -> str:
        recent = [entry["cpu_s"] for entry in self.commits[-_RECENT:]]
        lost = sum(entry["failed"] is not None for entry in self.commits)
        return f"{median(recent):.2f} CPU-s an edit, {lost} failed"

    def _step(self, step: Step) -> None:
        self._say(f"{step.stage} {step.done}/{step.total}")

    def _say(self, text: str) -> None:
        self._progress.tell(self._done, text)


def _line(name: str, at: Json) -> str:
    values = "  ".join(f"{key} {value['value']:.1f}" for key, value in at["values"].items())
    return (
        f"{name} at {at['n']}: {values}  perplexity {at['being']['perplexity']:.2f}  "
        f"failed {at['failed']}  {at['cpu_s_recent']:.2f} CPU-s an edit, {clock(at['wall_s'])} of "
        f"editing"
    )


def main() -> None:
    """Edit and ask, or report."""
    if sys.argv[1:2] == ["report"]:
        report(sys.argv[2:])
        return
    made = arguments(__doc__, edits=1000)
    made.add_argument("--checkpoints", default="10,30,100,300,1000")
    args = made.parse_args()
    study = study_of(made, args)
    checkpoints, given = [int(one) for one in args.checkpoints.split(",")], json.loads(args.hparams)
    plans = [Plan.of(study.view, editor, given) for editor in args.editor.split(",")]
    progress = Progress([len(study.questions.requests)] * len(plans), sys.stderr)
    runs: list[Path] = []
    for plan in plans:
        with lineage(study, plan, given) as chain:
            Run(study, chain, progress).go(checkpoints)
            runs.append(chain.ledger.folder)
        progress.close()
    _tell(runs, study.order.out)


def report(given: Sequence[str]) -> None:
    """Table, sheet and picture of runs that are there."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    made.add_argument("--out", type=Path, help="where it is written (default: beside the first)")
    args = made.parse_args(given)
    _tell(args.runs, args.out or args.runs[0].parent)


def _tell(runs: Sequence[Path], out: Path) -> None:
    text, paths = written(runs, out)
    print(text)
    for path in [*runs, *paths]:
        print(path)


if __name__ == "__main__":
    main()
