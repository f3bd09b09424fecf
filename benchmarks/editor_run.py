"""Make one row of the table of editors: one method in one mode, in a process of its own.

benchmarks.editors starts it with a task as JSON and with its own process id. Every finished piece
goes into the task's ledger at once; events (one JSON object a line) go to standard output, all that
others print goes to standard error. In a process of its own, so that memory is that of this method.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import memory
from benchmarks.ledger import Entry, Ledger
from benchmarks.measuring import drifted, measured
from benchmarks.task import UNEDITED, Task, found, key_of, state_after
from editing.errors import (
    BadRequest,
    EditFailed,
    EditingError,
    HypernetworkDamaged,
    HypernetworkMissing,
    InvalidHparam,
    UnknownHparam,
    UnsupportedArchitecture,
)
from editing.history import History
from editing.metrics.drift import base_logprobs
from editing.model.load import load_view
from editing.model.state import State
from editing.model.view import ModelView
from editing.outcome import Outcome
from editing.request import EditRequest
from editing.run import Stopwatch, finish
from editing.source import parse_source
from editing.step import Step
from editing.walk import Plan, edit, prepare
from errata.stack.bond import bind_to

AGAIN = 75  # statistics were collected first; their memory is not the method's, so start me again
STATISTICS = "statistics"
_EVERY_S = 0.5  # between two events about the steps of an edit

# What no other record would mend: the row fails, not the edit.
_OF_THE_METHOD = (
    HypernetworkDamaged,
    HypernetworkMissing,
    InvalidHparam,
    UnknownHparam,
    UnsupportedArchitecture,
)

Requests = Sequence[EditRequest]
Say = Callable[[Entry], None]


class Run:
    """The work of a task; what its ledger holds already is not done again."""

    def __init__(self, task: Task, view: ModelView, say: Say) -> None:
        self.task, self.view, self._say = task, view, say
        self.requests = task.requests()
        self.plan = (
            None if task.method == UNEDITED else Plan.of(view, task.method, dict(task.hparams))
        )
        self.fingerprint = view.fingerprint(State())
        about = {
            **task.asked,
            "resolved": asdict(self.plan.hparams) if self.plan else {},
            "fingerprint": self.fingerprint,
            "dtype": view.info["dtype"],
            "device": view.info["device"],
            "torch": torch.__version__,
        }
        self.ledger = Ledger(task.runs, about, redo=task.redo)
        self._loaded = 0.0
        self._spoke = 0.0

    def go(self) -> bool:
        """Do what is missing. False when only statistics were collected: do the rest elsewhere."""
        self.tell()
        if self.plan and self._collected():
            return False
        base_logprobs(self.view)  # measuring keeps these, so they are not the method's
        self._loaded = memory.resident()
        {"single": self.single, "sequence": self.sequence, "batch": self.batch}[self.task.mode]()
        self.view.adopt(State())
        if self.view.audit() != self.fingerprint:
            raise RuntimeError("The model is not what it was, bit for bit, after these edits.")
        return True

    # ---- the modes -------------------------------------------------------------------------------

    def single(self) -> None:
        """Each edit alone, from base, measured at once."""
        for request in self.requests:
            key = key_of("single", [request])
            if key not in self.ledger.entries:
                outcome, edited = self._edited([request], History.empty())
                state = self.view.after(outcome.deltas) if outcome else State()
                self._put(key, {**edited, **self._fact(request, state), **self._drift(state)})

    def sequence(self) -> None:
        """One edit after another, all kept; measured after the last."""
        name, history = "", list[tuple[str, Callable[[], Outcome]]]()
        for request in self.requests:
            name = self._committed([request], name, history)
        self._measured(name)

    def batch(self) -> None:
        """All edits in one solve."""
        self._measured(self._committed(self.requests, "", []))

    # ---- their parts -----------------------------------------------------------------------------

    def _committed(
        self, requests: Requests, state: str, history: list[tuple[str, Callable[[], Outcome]]]
    ) -> str:
        """Edit the state called `state`, or take what an earlier process made of it.

        What is built on is always the outcome as it was read back, and an empty fold of its keys:
        so a sequence that was interrupted has the bits of one that was not.
        """
        key = key_of("edit", requests, state)
        entry = self.ledger.entries.get(key)
        if entry is None or (entry["blob"] and self.ledger.kept(entry["blob"]) is None):
            outcome, edited = self._edited(requests, History(list(history)))
            blob = self.ledger.keep(outcome.to_bytes()) if outcome else None
            entry = self._put(key, {**edited, "blob": blob})
        if blob := entry["blob"]:
            load = self._loader(blob)
            self.view.adopt(self.view.after(load().deltas))
            history.append((key, load))
        return state_after(key, entry)

    def _loader(self, blob: str) -> Callable[[], Outcome]:
        """Read when needed, as a worker does: a history in memory would count as the method's."""
        return lambda: Outcome.from_bytes(self.ledger.kept(blob) or b"")

    def _measured(self, name: str) -> None:
        """Measure what is served now, a fact at a time, as the unedited model was measured."""
        state = self.view.current
        self.view.adopt(State())
        for request in self.requests:
            key = key_of("fact", [request], name)
            if key not in self.ledger.entries:
                self._put(key, self._fact(request, state))
        key = key_of("drift", [], name)
        if key not in self.ledger.entries:
            self._put(key, {**self._drift(state), "state": self.view.fingerprint(state)})

    def _edited(self, requests: Requests, history: History) -> tuple[Outcome | None, Entry]:
        """An outcome, None where the method failed, and what is written down about it."""
        watch, outcome, failed, why = Stopwatch(), None, None, ""
        memory.forget_peak()
        torch.manual_seed(self.task.seed)
        if self.plan:
            work = edit(self.view, self.plan, requests, history)
            try:
                outcome = finish(watch.timed(work), self._step)
                with self.view.overlaid(outcome.deltas):
                    pass  # what cannot be served did not succeed
            except _OF_THE_METHOD:
                raise
            except (EditFailed, BadRequest) as error:
                outcome, failed, why = None, error.code, str(error)
        most = memory.peak()
        took = {"peak_mib": most, "rise_mib": max(most - self._loaded, 0.0)}
        about = {**watch.report(), **took, "facts": len(requests)}
        return outcome, {"edit": {**about, "failed": failed, "why": why}}

    def _fact(self, request: EditRequest, state: State) -> Entry:
        return {"fact": asdict(finish(measured(self.view, [request], state))[0])}

    def _drift(self, state: State) -> Entry:
        return {"drift": asdict(drifted(self.view, state))}

    def _collected(self) -> bool:
        """Whether statistics had to be collected, which is done once."""
        assert self.plan
        watch = Stopwatch()
        finish(watch.timed(prepare(self.view, self.plan)), self._step)
        if STATISTICS not in watch.cpu or STATISTICS in self.ledger.entries:
            return False
        self._put(STATISTICS, {"cpu_s": watch.cpu[STATISTICS]})
        return True

    def _put(self, key: str, entry: Entry) -> Entry:
        kept = self.ledger.put(key, entry)
        self.tell()
        return kept

    # ---- what the starter hears ------------------------------------------------------------------

    def tell(self) -> None:
        """Say how much is done."""
        done = found(self.task, self.requests, self.ledger.entries)
        self._say({"done": len(done.entries), "facts": len(self.requests)})

    def _step(self, step: Step) -> None:
        if time.monotonic() - self._spoke > _EVERY_S:
            self._spoke = time.monotonic()
            self._say({"step": f"{step.stage} {step.done}/{step.total}"})


@contextmanager
def opened(task: Task, say: Say) -> Generator[Run]:
    """Load the model, and open the ledger for as long as needed."""
    torch.set_num_threads(task.threads)
    view = load_view(parse_source(task.model), cache=Path(task.cache))
    run = Run(task, view, say)
    try:
        yield run
    finally:
        run.ledger.close()


def main() -> int:
    """Do the task of the command line; the exit status says how it ended."""
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(event: Entry) -> None:
        print(json.dumps(event), file=events, flush=True)

    bind_to(int(sys.argv[2]))
    try:
        with opened(Task.from_json(sys.argv[1]), say) as run:
            return 0 if run.go() else AGAIN
    except Exception as error:  # noqa: BLE001 - whatever a method raises is one row's failure
        traceback.print_exc()
        known = isinstance(error, EditingError)
        say({"error": str(error) if known else f"{type(error).__name__}: {error}"})
        return 1


if __name__ == "__main__":
    sys.exit(main())
