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
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import loaded, parser
from benchmarks.ledger import Entry, Ledger, digest
from benchmarks.lifelong_report import written
from benchmarks.progress import Progress, clock
from benchmarks.questions import Options, Questions, holding, questions
from benchmarks.sequence import Chain
from benchmarks.wellbeing import CORPUS, Running, wellbeing
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish
from editing.step import Step
from editing.walk import Plan, prepare

Json = dict[str, Any]
Say = Callable[[str], None]
FORMAT = 1  # of the ledgers; raised when old entries no longer mean the same
_RECENT = 10  # edits whose cost is told at a checkpoint
_TOGETHER = 16  # records asked at a time: rows of like length share a batch
_WAIT_S = 2.0  # between two looks at a ledger that another process writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run is, beside its editor."""

    data: Path
    dataset: str
    start: int
    edits: int
    seed: int
    options: Options
    out: Path


class Study:
    """One model and its records, unedited; runs of several editors share it."""

    def __init__(self, view: ModelView, order: Order, about: Json) -> None:
        self.view, self.order = view, order
        self.questions: Questions = questions(
            order.dataset,
            order.data,
            order.options,
            start=order.start,
            count=order.edits,
            seed=order.seed,
        )
        file = order.data / CORPUS
        self.running = Running(view, file, order.options.tokens) if file.exists() else None
        self.about: Json = {
            "format": FORMAT,
            **about,
            "fingerprint": view.fingerprint(State()),
            "dtype": view.info["dtype"],
            "device": view.info["device"],
            "torch": torch.__version__,
        }

    @property
    def text(self) -> str:
        """What names the running text in a ledger."""
        return self.running.name if self.running else ""

    def unedited(self, asked: Sequence[tuple[int, EditRequest]], say: Say) -> list[Entry]:
        """What the untouched model answers; measured once for all runs, whoever comes first."""
        with self._base(say) as ledger:
            return self.scored(ledger, asked, "", State(), say)

    def rested(self, say: Say) -> Entry:
        """How the untouched model is."""
        with self._base(say) as ledger:
            return self.being(ledger, "", State())

    @contextmanager
    def _base(self, say: Say) -> Generator[Ledger]:
        about = {"method": "unedited", "mode": "lifelong", **self.about}
        while True:
            try:
                ledger = Ledger(self.order.out, about)
            except RuntimeError:  # another process measures it now
                say("waiting for the unedited model's answers")
                time.sleep(_WAIT_S)
                continue
            try:
                yield ledger
            finally:
                ledger.close()
            return

    def scored(
        self,
        ledger: Ledger,
        asked: Sequence[tuple[int, EditRequest]],
        name: str,
        state: State,
        say: Say,
    ) -> list[Entry]:
        """What a state called `name` answers; asked is what its ledger does not have."""
        keys = [digest("asked", name, self.questions.asked(*one)) for one in asked]
        missing = [n for n, key in enumerate(keys) if key not in ledger.entries]
        for start in range(0, len(missing), _TOGETHER):
            part = missing[start : start + _TOGETHER]
            found = self.questions.scored(self.view, [asked[n] for n in part], state)
            for number, entry in zip(part, found, strict=True):
                ledger.put(keys[number], entry)
            say(f"asking {'edited' if name else 'unedited'} {start + len(part)}/{len(missing)}")
        return [ledger.entries[key] for key in keys]

    def being(self, ledger: Ledger, name: str, state: State) -> Entry:
        """How a state called `name` is."""
        key = digest("being", name, self.text)
        if key not in ledger.entries:
            ledger.put(key, wellbeing(self.view, state, self.running))
        return ledger.entries[key]


class Run:
    """One editor on the records of a study."""

    def __init__(self, study: Study, plan: Plan, hparams: Json, progress: Progress) -> None:
        self.study, self.plan, self._progress = study, plan, progress
        order = study.order
        self.about: Json = {
            "method": plan.method.name,
            "mode": f"lifelong-{order.dataset}",
            **study.about,
            "dataset": order.dataset,
            "start": order.start,
            "target": order.options.target,
            "seed": order.seed,
            "given": hparams,
            "hparams": asdict(plan.hparams),
        }
        self.ledger = Ledger(order.out, self.about)
        self.commits: list[Entry] = []
        self._done = 0

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.ledger.folder

    def go(self, checkpoints: Sequence[int]) -> Json:
        """Edit, and ask at the checkpoints; the summary, which is written at each of them."""
        requests = self.study.questions.requests
        self._progress.begin(self.plan.method.name)
        finish(prepare(self.study.view, self.plan), self._step)
        chain = Chain(self.study.view, self.plan, self.ledger, seed=self.study.order.seed)
        found: list[Json] = []
        for number, request in enumerate(requests):
            _, entry = chain.edited(request, self._step)
            self.commits.append(entry)
            self._done = number + 1
            self._progress.tell(self._done, self._cost())
            if self._done in checkpoints or self._done == len(requests):
                found.append(self._asked(chain))
                self._write(found)
                self._progress.say(_line(self.plan.method.name, found[-1]))
        self.study.view.adopt(State())
        return self._write(found)

    def _asked(self, chain: Chain) -> Json:
        """One checkpoint."""
        failed = [entry["failed"] is not None for entry in self.commits]
        made = list(self.study.questions.requests[: self._done])
        held = holding(made, failed)
        asked = list(enumerate(held))
        before = self.study.unedited(asked, self._say)
        now = self.study.scored(self.ledger, asked, chain.name, chain.state, self._say)
        cpu = [entry["cpu_s"] for entry in self.commits]
        return {
            "n": self._done,
            "failed": sum(failed),
            "failures": dict(Counter(e["failed"] for e in self.commits if e["failed"])),
            "superseded": sum(one is not other for one, other in zip(made, held, strict=True)),
            "values": self.study.questions.values(now, before, failed, self.study.order.seed),
            "by_age": self.study.questions.ages(now, failed),
            "being": dict(self.study.being(self.ledger, chain.name, chain.state)),
            "being_before": dict(self.study.rested(self._say)),
            "cpu_s_recent": median(cpu[-_RECENT:]),
            "cpu_s": sum(cpu),
            "wall_s": sum(entry["wall_s"] for entry in self.commits),
            "bytes": sum(entry["bytes"] for entry in self.commits),
            "state": self.study.view.fingerprint(chain.state),
        }

    def _write(self, found: Sequence[Json]) -> Json:
        summary: Json = {
            "made_by": self.about,
            "text": self.study.text,
            "codes": sorted({entry["code"] for entry in self.commits}),
            "checkpoints": list(found),
            "edits": [
                {name: entry[name] for name in ("cpu_s", "wall_s", "stages", "failed", "why")}
                for entry in self.commits
            ],
        }
        partial = self.folder / "summary.json.part"
        partial.write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")
        partial.replace(self.folder / "summary.json")
        return summary

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
    made = arguments()
    args = made.parse_args()
    if not args.data:
        made.error("name the folder of benchmark data with --data or ERRATA_DATA")
    checkpoints = [int(one) for one in args.checkpoints.split(",")]
    torch.set_num_threads(args.threads)
    order = Order(
        data=Path(args.data),
        dataset=args.dataset,
        start=args.records,
        edits=args.edits,
        seed=args.seed,
        options=Options(**json.loads(args.options)),
        out=Path(args.out or Path(args.cache) / "lifelong"),
    )
    study = Study(loaded(args), order, {"model": args.model, "threads": args.threads})
    editors, hparams = args.editor.split(","), json.loads(args.hparams)
    plans = [Plan.of(study.view, editor, hparams) for editor in editors]
    count = len(study.questions.requests)
    progress = Progress([count] * len(plans), sys.stderr)
    runs: list[Path] = []
    for plan in plans:
        run = Run(study, plan, hparams, progress)
        try:
            run.go(checkpoints)
        finally:
            run.ledger.close()
        progress.close()
        runs.append(run.folder)
    _tell(runs, order.out)


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    made = parser(__doc__, records=0)
    made.add_argument("--editor", required=True, help="one, or several with commas between them")
    made.add_argument("--edits", type=int, default=1000)
    made.add_argument("--checkpoints", default="10,30,100,300,1000")
    made.add_argument("--hparams", default="{}", help="JSON, for every editor")
    made.add_argument("--options", default="{}", help="JSON: neighbors, tokens, target")
    made.add_argument("--dataset", choices=("counterfact", "zsre"), default="counterfact")
    made.add_argument("--seed", type=int, default=0, help="of the records' order, and of edits")
    made.add_argument("--out", help="where runs are kept (default: lifelong in the cache)")
    return made


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
