"""A stack of our own, as another process: started, waited for, and stopped again."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from errata.errors import StackFailed

POLL = 0.1
STOPPING = 90.0


@contextmanager
def own_stack(model: str, data_dir: Path, *, patience: float = 600.0) -> Generator[str]:
    """Give the base URL of a stack that serves `model`; it ends with the block, or with us."""
    with tempfile.TemporaryDirectory(prefix="errata-ready-") as folder:
        ready = Path(folder) / "url"
        argv = [sys.executable, "-m", "errata.stack", "--model", model, "--port", "0"]
        argv += ["--data-dir", str(data_dir), "--ready-file", str(ready)]
        argv += ["--parent", str(os.getpid())]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)  # noqa: S603 - no shell
        try:
            yield _url(process, ready, patience)
        finally:
            process.terminate()
            try:
                process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(process: subprocess.Popen[bytes], ready: Path, patience: float) -> str:
    deadline = time.monotonic() + patience
    while not ready.exists():
        if (code := process.poll()) is not None:
            message = f"the stack ended with code {code} before the model answered"
            raise StackFailed(message)
        if time.monotonic() > deadline:
            message = f"the model did not answer within {patience:g} s"
            raise StackFailed(message)
        time.sleep(POLL)
    return ready.read_text().strip()
