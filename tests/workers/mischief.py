"""A worker process for the tests, with tricks played on it from outside.

Imported once by a fork server: torch and transformers take seconds to import, a fork takes none.
"""

import errno
import os
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

# Models and editors are imported when first used; here, before the first fork.
import editing.editors.memit
import editing.editors.rome  # noqa: F401
import tests.tiny  # noqa: F401
from editing import walk
from editing.step import Step
from workers import main

_edit, _fsync = walk.edit, os.fsync

STEP_S = 0.02


def slow(*given: Any, pause: float = STEP_S) -> Generator[Step, None, Any]:
    """An edit that takes its time between steps."""
    work = _edit(*given)
    while True:
        time.sleep(pause)
        try:
            step = next(work)
        except StopIteration as end:
            return end.value
        yield step


def deadly(*given: Any) -> Generator[Step, None, Any]:
    """An edit that takes the process with it."""
    yield next(_edit(*given))
    os._exit(137)


def endless(*given: Any) -> Generator[Step, None, Any]:
    """An edit whose second step never comes."""
    yield next(_edit(*given))
    time.sleep(3600)
    raise AssertionError


def full(descriptor: int) -> None:
    """A disk without room, as long as there is a file called filler."""
    if (Path(os.environ["ERRATA_PRETENDED_DISK"]) / "filler").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    _fsync(descriptor)


TRICKS: dict[str, Callable[..., Any]] = {
    "slow": slow,
    "slower": partial(slow, pause=10 * STEP_S),
    "deadly": deadly,
    "endless": endless,
}


def run(model: str, environ: dict[str, str], log: Path, tricks: tuple[str, ...]) -> None:
    """Be a worker. The log takes what it says."""
    os.environ.update(environ)
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    for trick in tricks:
        if trick == "full":
            os.fsync = full
        else:
            walk.edit = TRICKS[trick]
    code = main.main(["--model", model])
    sys.stderr.flush()
    os._exit(code)  # as the module itself does


def leave_behind(model: str, environ: dict[str, str], log: Path, note: Path) -> None:
    """Be the parent of a worker, and wait to be killed."""
    child = os.fork()
    if child == 0:
        run(model, environ, log, ())
    note.write_text(str(child))
    time.sleep(3600)
