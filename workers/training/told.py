"""What a training says: lines for a person on stderr, or one JSON object a line on stdout."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.errors import as_error
from editing.step import Step
from editing.training.check import Check
from editing.training.loop import Trained, Training

_LINE_EVERY_S = 10.0  # into a file or a pipe; on a terminal one line is rewritten
_REWRITE_EVERY_S = 0.5
_MEMORY = 0.98  # how slowly the mean loss that is shown forgets


class Clock:
    """The time of a run, the earlier parts of it included, and what is left of its budget."""

    def __init__(self, before_s: float, budget_s: float) -> None:
        self._began = time.monotonic() - before_s
        self._budget = budget_s

    @property
    def spent_s(self) -> float:
        """Seconds that the run took so far."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self._budget - self.spent_s


class Told:
    """Says how one run goes."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._rewrites = sys.stderr.isatty() and not as_json
        self._last = float("-inf")
        self._loss: float | None = None
        self._check: Check | None = None
        self._start: tuple[float, int] | None = None

    def began(self, training: Training, spent_s: float) -> None:
        """Say what is trained, on what, and whether it goes on from an earlier part."""
        split, key = training.split, training.key
        if training.checks:
            self._check = training.checks[-1]
        self._event(
            "began",
            {
                "model": training.view.name,
                "layers": list(training.layers),
                "run": key.name,
                "records": len(split.train),
                "kept_apart": len(split.check),
                "parameters": sum(p.numel() for p in training.net.parameters()),
                "iteration": training.done,
                "spent_s": round(spent_s, 1),
            },
            f"mend for {training.view.name}, layers {', '.join(map(str, training.layers))}: "
            f"{len(split.train)} records, {len(split.check)} kept apart, run {key.name}"
            + (f", going on at iteration {training.done}" if training.done else ""),
        )

    def step(self, step: Step, clock: Clock) -> None:
        """Say how far it is, now and then; and every check."""
        if not isinstance(step, Trained):
            return
        if self._start is None:
            self._start = (clock.spent_s, step.done)
        if step.check is not None:
            self._check = step.check
            self._event("check", asdict(step.check), f"checked: {_successes(step.check)}")
        if step.loss is not None:
            mean = step.loss if self._loss is None else self._loss
            self._loss = _MEMORY * mean + (1 - _MEMORY) * step.loss
            self._progress(step, clock)

    def _progress(self, step: Trained, clock: Clock) -> None:
        now = time.monotonic()
        if now - self._last < (_REWRITE_EVERY_S if self._rewrites else _LINE_EVERY_S):
            return
        self._last = now
        assert self._start is not None  # noqa: S101 - `step` set it
        passed = max(clock.spent_s - self._start[0], 1e-9)
        rate = (step.done - self._start[1]) / passed
        left = min(clock.left_s, (step.total - step.done) / rate if rate else float("inf"))
        finite = left if left != float("inf") else None
        about: dict[str, Any] = {
            "iteration": step.done,
            "of": step.total,
            "per_second": round(rate, 2),
            "loss": self._loss,
            "left_s": None if finite is None else round(max(finite, 0), 1),
            "check": None if self._check is None else asdict(self._check),
        }
        line = f"{step.done} of at most {step.total}  {rate:.1f}/s  loss {self._loss:.3f}"
        line += "" if self._check is None else f"  {_successes(self._check)}"
        line += "" if finite is None else f"  {_minutes(finite)} left"
        self._event("progress", about, line, rewrite=True)

    def finished(self, net: str, training: Training, folder: Path) -> None:
        """Say which network there is now, and how good it is."""
        best = training.best_check
        assert best is not None  # noqa: S101 - it was checked before it was written
        self._event(
            "finished",
            {"net": net, "folder": str(folder), "iterations": training.done, **asdict(best)},
            f"network {net}, of iteration {best.iteration}: {_successes(best)}",
        )

    def interrupted(self) -> None:
        """Say that the same command goes on."""
        self._event("interrupted", {}, "interrupted; the same command goes on from here")

    def failed(self, error: Exception) -> None:
        """Say why nothing came of it."""
        self._event("failed", {"error": as_error(error)}, f"errata train: {error}")

    def _event(self, name: str, about: dict[str, Any], line: str, *, rewrite: bool = False) -> None:
        if self._json:
            sys.stdout.write(json.dumps({"event": name, **about}) + "\n")
            sys.stdout.flush()
            return
        ending = "" if rewrite and self._rewrites else "\n"
        start = "\r\x1b[K" if self._rewrites else ""
        sys.stderr.write(f"{start}{line}{ending}")
        sys.stderr.flush()


def _successes(check: Check) -> str:
    return (
        f"efficacy {check.efficacy:.1%} paraphrase {check.paraphrase:.1%} neighborhood "
        f"{check.neighborhood:.1%} loss {check.loss:.3f} at {check.iteration}"
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    return f"{minutes}:{rest:02}"
