"""How a program is kept up: with patience, and with an end to patience."""

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from errata.stack.child import Child, Command
from errata.stack.errors import ServerFailed, StackError
from errata.stack.kept import HOPELESS, Kept, Program, growing
from errata.stack.say import Say
from tests.conftest import wait_until


class Tale:
    """Runs Python one-liners as programs, and remembers what was said of them."""

    def __init__(self, folder: Path) -> None:
        self.out = io.StringIO()
        self.kept: list[Kept] = []
        self._log = folder / "log"

    def keep(self, script: str, *, answers: Callable[[], bool] | None = None) -> Kept:
        def start() -> Child:
            argv = [sys.executable, "-I", "-S", "-c", script]
            return Child(Command(argv=argv, cwd=Path("/"), log=self._log))

        return self.keep_program(start, answers)

    def keep_program(self, start: Callable[[], Child], answers: Callable[[], bool] | None) -> Kept:
        program = Program(name="it", start=start, answers=answers, pause=lambda _deaths, _code: 0)
        self.kept.append(Kept(program, Say(as_json=True, out=self.out)))
        return self.kept[-1]

    @property
    def said(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def events(self) -> list[object]:
        return [line["event"] for line in self.said]


@pytest.fixture
def tale(tmp_path: Path) -> Iterator[Tale]:
    tale = Tale(tmp_path)
    yield tale
    for kept in tale.kept:
        kept.stop(patience=0)


def tend(kept: Kept) -> bool:
    kept.tend(time.monotonic())
    return False


def test_it_is_up_when_it_answers_and_not_before(tale: Tale) -> None:
    ready: list[bool] = []
    kept = tale.keep("import time; time.sleep(60)", answers=lambda: bool(ready))
    for _ in range(3):
        tend(kept)
    assert not kept.up
    ready.append(True)
    tend(kept)
    assert kept.up
    assert tale.events() == ["child.up"]


def test_one_that_never_lives_is_given_up_with_the_end_of_its_log(tale: Tale) -> None:
    kept = tale.keep("import sys; sys.exit('no such thing')", answers=lambda: False)
    with pytest.raises(ServerFailed, match="it does not start"):
        wait_until(lambda: tend(kept))
    assert tale.events().count("child.died") == HOPELESS
    shown = next(line for line in tale.said if line["event"] == "child.log")
    assert "no such thing" in str(shown["lines"])


def test_one_that_lived_is_started_for_ever(tale: Tale) -> None:
    kept = tale.keep("import time; time.sleep(0.3)", answers=lambda: True)
    wait_until(lambda: tend(kept) or tale.events().count("child.died") > HOPELESS)
    assert "ended with code 0" in tale.out.getvalue()


def test_one_that_cannot_be_started_is_told_at_once(tale: Tale) -> None:
    def start() -> Child:
        raise StackError("there is no such program")

    kept = tale.keep_program(start, None)
    with pytest.raises(StackError, match="no such program"):
        tend(kept)


def test_one_that_will_not_stop_is_made_to(tale: Tale, tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    kept = tale.keep(
        "import signal, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(deaf)!r}).touch(); time.sleep(60)"
    )
    tend(kept)
    wait_until(deaf.exists)
    kept.stop(patience=0.2)
    assert kept.ended == -9


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 0.2), (2, 0.4), (7, 10), (5000, 10)])
def test_the_pauses_grow_to_a_limit(deaths: int, seconds: float) -> None:
    assert growing(deaths) == seconds
