"""A whole stack as another process, for tests: start it, hurt it, look into it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from errata.client import Client
from tests.conftest import wait_until

STARTING = 240.0


class Stack:
    """`errata up` on a folder; may be stopped or killed, and started again on the same data."""

    def __init__(self, folder: Path, *flags: str, **environ: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ready = folder / "ready"
        self._output = folder / "output"
        self._flags = flags
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.ready.read_text().strip()

    @property
    def output(self) -> str:
        return self._output.read_text()

    def client(self) -> Client:
        return Client(self.url, timeout=30)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        argv = [sys.executable, "-m", "errata.stack", "--parent", str(os.getpid()), "--port", "0"]
        argv += ["--data-dir", str(self.data), "--ready-file", str(self.ready), *self._flags]
        clean = {
            name: value
            for name, value in os.environ.items()
            if (not name.startswith("ERRATA_") or name == "ERRATA_CACHE_DIR")
            and name
            != "OMP_NUM_THREADS"  # that was for tiny models; a stack may say ERRATA_THREADS
        }
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean, **self._environ},
            )
        return self._process

    def start(self) -> None:
        """Start, and wait until the model answers."""
        began = time.time_ns()  # a killed stack leaves its ready file behind
        process = self.launch()
        deadline = time.monotonic() + STARTING
        while not (self.ready.exists() and self.ready.stat().st_mtime_ns > began):
            if process.poll() is not None or time.monotonic() > deadline:
                code = process.poll()
                self.kill()
                pytest.fail(f"the stack did not come up ({code}):\n{self.output}\n{self.logs()}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to stop, and give the exit code."""
        assert self._process
        self._process.send_signal(number)
        return self._process.wait(60)

    def kill(self) -> None:
        """Kill -9 the supervisor, and wait until its family is gone."""
        assert self._process
        if self._process.poll() is None:
            family = self.family()
            self._process.kill()
            self._process.wait()
            assert_gone(family)

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process and self._process.poll() is None:
            self.stop()

    def family(self) -> list[psutil.Process]:
        """Give every process of the stack but the supervisor."""
        assert self._process
        return psutil.Process(self._process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process:
        """Give the direct child whose command line holds `name`."""
        assert self._process
        for child in psutil.Process(self._process.pid).children():
            if any(name in part for part in child.cmdline()):
                return child
        raise LookupError(name)

    def has_child(self, name: str) -> bool:
        try:
            return self.child(name).is_running()
        except (LookupError, psutil.Error):
            return False

    def logs(self) -> str:
        """Give the ends of all logs."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}"
            for log in sorted((self.data / "logs").glob("*.log"))
        )


def assert_gone(family: list[psutil.Process], seconds: float = 15) -> None:
    """Fail when one of these processes still lives."""

    def living() -> list[psutil.Process]:
        _, alive = psutil.wait_procs(family, timeout=0)
        return [process for process in alive if lives(process)]

    wait_until(lambda: not living(), lambda: f"left over: {living()}", seconds=seconds)


def lives(process: psutil.Process) -> bool:
    """Say whether a process is there and no zombie; it may go while we look."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
