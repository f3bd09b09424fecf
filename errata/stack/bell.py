"""Signals for a loop that sleeps: a pipe that rings, and the wish to stop."""

import select
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Bell:
    """Counts how often we were asked to stop, and wakes the loop for every signal."""

    def __init__(self) -> None:
        self.rings = 0
        self._ear, self._mouth = socket.socketpair()
        for end in (self._ear, self._mouth):
            end.settimeout(0)

    @contextmanager
    def hung(self) -> Generator[None]:
        """Take the signals of this process; afterwards they are as before."""
        before = {number: signal.signal(number, self._ring) for number in ENDING}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._stir)
        fd = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """Sleep until the time is over or a signal comes."""
        ready, _, _ = select.select([self._ear], [], [], seconds)
        if ready:
            self._ear.recv(4096)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        self.rings += 1

    def _stir(self, _number: int, _frame: FrameType | None) -> None:
        """Only wake up: a child has changed."""
