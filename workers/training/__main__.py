"""Train what an editor needs, for as long as there is time.

Exit codes
    0    a network is there: the budget, the iterations or the patience came to their end
    1    it could not be trained; stderr says why
    2    the command line cannot be read
    130  interrupted (SIGINT, SIGTERM); the same command goes on where it was
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.settings import Settings
from editing.errors import AlreadyTraining, EditingError
from editing.run import finish
from editing.training.loop import Training
from editing.training.state import deliver, path_of, read_state, write_state
from workers.training.asked import parse, training_of
from workers.training.told import Clock, Told

FAILED, INTERRUPTED = 1, 130
_KEEP_EVERY_S = 60.0  # between two savings of how the run stands


class Interrupted(Exception):  # a signal, not an error
    """How the run stands is written down."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and say how it goes."""
    settings = Settings()
    told = Told(as_json="--json" in (sys.argv if argv is None else argv))
    try:
        asked = parse(argv, settings)
        training, folder = training_of(asked, settings)
        with _alone(path_of(folder, training)):
            net = _trained(training, folder, asked.budget_s, told)
        told.finished(net, training, folder)
    except Interrupted:
        told.interrupted()
        return INTERRUPTED
    except (EditingError, OSError) as error:
        told.failed(error)
        return FAILED
    return 0


def _trained(training: Training, folder: Path, budget_s: float, told: Told) -> str:
    """Drive the run to its end, or to that of its budget. Returns the network's id."""
    clock = Clock(read_state(folder, training), budget_s)
    told.began(training, clock.spent_s)
    kept = time.monotonic()
    with _stopping() as asked_to_stop:
        for step in training.run() if clock.left_s > 0 else ():
            told.step(step, clock)
            if asked_to_stop:
                write_state(folder, training, clock.spent_s)
                raise Interrupted
            if clock.left_s <= 0:
                break
            if time.monotonic() - kept > _KEEP_EVERY_S:
                write_state(folder, training, clock.spent_s)
                kept = time.monotonic()
        finish(training.judge(), lambda step: told.step(step, clock))
    write_state(folder, training, clock.spent_s)
    return deliver(folder, training)


@contextmanager
def _stopping() -> Generator[list[int]]:
    """A list that is no longer empty once somebody asked the process to stop."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda found, _: asked.append(found))
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _alone(state: Path) -> Generator[None]:
    """Hold the run's lock, so that no two processes write one state. Raises AlreadyTraining."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyTraining(run=state.stem) from error
        yield


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written down by now; the interpreter would take torch apart for seconds.
    os._exit(code)
