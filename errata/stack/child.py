"""One child process of the stack: started through `launch`, so that it never outlives us."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from errata.stack.account import Account

LAUNCHER = Path(__file__).with_name("launch.py")
TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start, and how to stop, one program."""

    argv: Sequence[str]
    cwd: Path
    log: Path
    account: Account | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    fds: tuple[int, ...] = ()  # open files that it inherits
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # sent by the kernel when we die
    patience: float = 10.0  # seconds between the stop signal and SIGKILL

    def wrapped(self) -> list[str]:
        """Give the command line of the launcher that becomes this program."""
        who = (
            ["--user", str(self.account.user), "--group", str(self.account.group)]
            if self.account
            else []
        )
        return [
            *(sys.executable, "-I", "-S", str(LAUNCHER)),
            *("--parent", str(os.getpid())),
            *("--death-signal", str(int(self.death_signal))),
            *who,
            "--",
            *self.argv,
        ]


class Child:
    """A running program. Must be started from a thread that lives as long as the process."""

    def __init__(self, command: Command) -> None:
        self.command = command
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                command.wrapped(),
                cwd=command.cwd,
                env={**os.environ, **command.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=command.fds,
                process_group=0,  # a Ctrl-C in the terminal is for the supervisor alone
            )
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """The process id; the launcher execs, so it stays the same."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Give the exit code, or None while it runs."""
        return self._process.poll()

    def alive(self) -> bool:
        """Say whether it still runs."""
        return self.exit_code() is None

    def ask_to_stop(self) -> None:
        """Send the stop signal, and return at once."""
        if self.alive():
            self._process.send_signal(self.command.stop_signal)

    def kill(self) -> None:
        """Put an end to it, also when it is frozen."""
        if self.alive():
            self._process.kill()

    def wait(self, patience: float | None = None) -> int:
        """Wait for the end; after `patience` seconds put an end to it."""
        try:
            return self._process.wait(self.command.patience if patience is None else patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def stop(self) -> int:
        """Ask it to stop and wait."""
        self.ask_to_stop()
        return self.wait()


def tail(log: Path, lines: int = 12) -> list[str]:
    """Give the last lines of a log file."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]
