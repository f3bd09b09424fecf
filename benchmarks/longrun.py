"""What the benchmarks of many edits share: the model, its records in order, and what was asked.

Answers lie in ledgers, by the state that gave them: those of the untouched model in one of its own,
for all runs. What one driver has edited another finds: a lineage is known by all that made it.
"""

import argparse
import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import loaded, parser
from benchmarks.ledger import Entry, Ledger, digest
from benchmarks.questions import Options, Questions, questions
from benchmarks.sequence import Chain
from benchmarks.wellbeing import CORPUS, Running, wellbeing
from editing.model.state import State
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.walk import Plan

Json = dict[str, Any]
Say = Callable[[str], None]
FORMAT = 1  # of the ledgers; raised when old entries no longer mean the same
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

    def about_run(self, plan: Plan, given: Json) -> Json:
        """What a lineage of these records is known by."""
        order = self.order
        return {
            "method": plan.method.name,
            "mode": f"lifelong-{order.dataset}",
            **self.about,
            "dataset": order.dataset,
            "start": order.start,
            "target": order.options.target,
            "seed": order.seed,
            "given": given,
            "hparams": asdict(plan.hparams),
        }


@contextmanager
def lineage(study: Study, plan: Plan, given: Json, apart: Json | None = None) -> Generator[Chain]:
    """The commits of an editor on a study's records, open for this process alone.

    apart: what makes it another lineage than that of the records one after another.
    """
    ledger = Ledger(study.order.out, {**study.about_run(plan, given), **(apart or {})})
    try:
        yield Chain(study.view, plan, ledger, seed=study.order.seed)
    finally:
        study.view.adopt(State())
        ledger.close()


def arguments(doc: str | None, *, edits: int, required: bool = True) -> argparse.ArgumentParser:
    """What can be asked of any of them."""
    made = parser(doc, records=0)
    made.add_argument("--editor", required=required)
    made.add_argument("--edits", type=int, default=edits)
    made.add_argument("--hparams", default="{}", help="JSON, for every editor")
    made.add_argument("--options", default="{}", help="JSON: neighbors, tokens, target")
    made.add_argument("--dataset", choices=("counterfact", "zsre"), default="counterfact")
    made.add_argument("--seed", type=int, default=0, help="of the records' order, and of edits")
    made.add_argument("--out", help="where runs are kept (default: lifelong in the cache)")
    return made


def study_of(made: argparse.ArgumentParser, args: argparse.Namespace) -> Study:
    """The model and the records that arguments name."""
    if not args.data:
        made.error("name the folder of benchmark data with --data or ERRATA_DATA")
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
    return Study(loaded(args), order, {"model": args.model, "threads": args.threads})


def lay(path: Path, summary: Json) -> Json:
    """Write a summary, whole or not at all."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")
    partial.replace(path)
    return summary
