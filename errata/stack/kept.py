"""A program that has to be up: started, watched, and started again when it dies."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from errata.stack.child import Child, tail
from errata.stack.errors import ServerFailed, StackError
from errata.stack.say import Say

STEADY = 30.0  # seconds of life after which earlier deaths are forgotten
HOPELESS = 5  # deaths before it ever answered
REPEATED = 3  # deaths after which the end of its log is shown


def growing(deaths: int, *, first: float = 0.2, longest: float = 10.0) -> float:
    """Give the seconds to wait after so many deaths: twice as long each time, to a limit."""
    return min(first * 2.0 ** min(deaths - 1, 30), longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is kept up, and how one can tell that it is."""

    name: str
    start: Callable[[], Child]
    answers: Callable[[], bool] | None = None  # none: it is up as soon as it runs
    leave: Callable[[], None] = lambda: None  # after the last end
    required: bool = True  # the stack is not worth starting without it
    # Seconds until the next start, from the number of deaths and the last code; None: never.
    pause: Callable[[int, int], float | None] = lambda deaths, _code: growing(deaths)
    ends: Mapping[int, str] = field(default_factory=dict)  # what an exit code means
    farewell: str = "it is not started again"


class Kept:
    """One program and its lives."""

    def __init__(self, program: Program, say: Say) -> None:
        self.program = program
        self.name = program.name
        self.child: Child | None = None
        self.up = False
        self.ended: int | None = None  # the last exit code
        self.given_up = False  # it is not started again
        self._ever_up = False
        self._deaths = 0
        self._not_before = 0.0
        self._say = say

    def tend(self, now: float) -> None:
        """Do what is due: start it, notice that it answers, notice that it died."""
        if self.child is None:
            if now >= self._not_before and not self.given_up:
                self._start(now)
        elif (code := self.child.exit_code()) is not None:
            self._bury(code, now)
        elif not self.up:
            self._look(self.child)
        elif now - self.child.started > STEADY:
            self._deaths = 0

    def ask_to_stop(self) -> None:
        """Send its stop signal."""
        if self.child:
            self.child.ask_to_stop()

    def stop(self, patience: float | None = None) -> None:
        """Stop it, and do not start it again."""
        if self.child:
            self.child.ask_to_stop()
            self.ended = self.child.wait(patience)
            self.child = None
        self.program.leave()
        self.up = False

    def _start(self, now: float) -> None:
        try:
            self.child = self.program.start()
        except (OSError, StackError) as error:
            if self.program.required and not self._ever_up:
                raise
            self._failed(f"cannot be started: {error}", 1, now)

    def _look(self, child: Child) -> None:
        if self.program.answers is None:
            text = "has a worker"
        elif self.program.answers():
            text = f"up after {time.monotonic() - child.started:.1f} s"
        else:
            return
        self.up = self._ever_up = True
        self._say("child.up", self.name, text, pid=child.pid)

    def _bury(self, code: int, now: float) -> None:
        log = self.child.command.log if self.child else None
        self.child, self.up, self.ended = None, False, code
        self._failed(self.program.ends.get(code) or _how(code), code, now)
        if log is not None and (self._deaths == REPEATED or self._deaths % 10 == 0):
            self._say.lines("child.log", self.name, tail(log))
        if self.program.required and not self._ever_up and self._deaths >= HOPELESS:
            message = f"{self.name} does not start; its log is {log}"
            raise ServerFailed(message)

    def _failed(self, how: str, code: int, now: float) -> None:
        self._deaths += 1
        pause = self.program.pause(self._deaths, code)
        if pause is None:
            self.given_up = True
            self._say("child.given-up", self.name, f"{how}; {self.program.farewell}", code=code)
            return
        self._not_before = now + pause
        again = f"{how}; starting it again in {pause:.1f} s"
        self._say("child.died", self.name, again, code=code, deaths=self._deaths)


def _how(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
