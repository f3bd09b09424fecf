"""Workers come and go with the models that the server tells of."""

import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from errata.stack import parts, workforce
from errata.stack.child import Child, Command
from errata.stack.folder import DataFolder
from errata.stack.kept import Program
from errata.stack.say import Say
from errata.stack.workforce import Workforce
from tests.conftest import wait_until
from tests.errata.answers import model, page
from tests.errata.serving import serving


class Tale:
    """A server with models, and a workforce whose workers are one-liners."""

    def __init__(self, folder: Path, models: dict[str, Any], url: str) -> None:
        self.models = models
        self.scripts: dict[str, str] = {}
        self.out = io.StringIO()
        self._log = folder / "log"
        self.workforce = Workforce(url, self._program, Say(as_json=True, out=self.out))

    def _program(self, name: str) -> Program:
        script = self.scripts.get(name, "import time; time.sleep(60)")
        argv = [sys.executable, "-I", "-S", "-c", script]
        real = parts.worker(DataFolder(self._log.parent), name, {})

        def start() -> Child:
            return Child(Command(argv=argv, cwd=Path("/"), log=self._log))

        def pause(deaths: int, code: int) -> float | None:
            return real.pause(deaths, code) and 0.0

        return Program(name=name, start=start, required=False, pause=pause, ends=real.ends)

    def workers(self) -> dict[str, int]:
        """The processes of living workers, by model."""
        alive = [kept for kept in self.workforce if kept.child and kept.child.alive()]
        return {kept.name: kept.child.pid for kept in alive if kept.child}

    def events(self, name: str) -> int:
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return sum(line["event"] == name for line in lines)

    def tend(self) -> bool:
        self.workforce.tend(time.monotonic())
        return False


@pytest.fixture
def tale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tale]:
    monkeypatch.setattr(workforce, "BUSY_LOOK", 0.0)
    monkeypatch.setattr(workforce, "IDLE_LOOK", 0.0)
    models: dict[str, Any] = {"m": model(id="m")}
    with serving({"/models": lambda: page(*models.values())}) as (url, _):
        tale = Tale(tmp_path, models, url)
        yield tale
        for kept in tale.workforce:
            kept.stop(patience=0)
        tale.workforce.close()


def test_a_model_that_cannot_be_loaded_is_given_up_and_told(tale: Tale) -> None:
    error = {"code": "bad-source", "detail": "There are no weights."}
    tale.models["m"] = model(id="m", status="failed", error=error)
    tale.scripts["m"] = f"raise SystemExit({parts.CANNOT_LOAD})"
    wait_until(lambda: tale.tend() or tale.workforce.given_up(["m"]) == ["m"])
    said = tale.out.getvalue()
    assert "There are no weights." in said
    assert "could not load the model" in said
    assert tale.workforce.answering(["m"])  # nobody waits for it any longer
    for _ in range(20):
        tale.tend()
    assert tale.events("child.died") == parts.LOADS - 1
    assert tale.events("child.given-up") == 1


def test_registered_again_it_is_tried_again(tale: Tale) -> None:
    tale.models["m"] = model(id="m", status="failed")
    tale.scripts["m"] = f"raise SystemExit({parts.CANNOT_LOAD})"
    wait_until(lambda: tale.tend() or bool(tale.workforce.given_up(["m"])))
    del tale.scripts["m"]  # mended
    tale.models["m"] = model(id="m", status="registered")
    wait_until(lambda: tale.tend() or "m" in tale.workers())
    assert tale.workforce.given_up(["m"]) == []


def test_other_deaths_are_never_given_up() -> None:
    pause = parts.worker(DataFolder(Path("/nowhere")), "m", {}).pause
    for deaths in range(1, 100):
        assert pause(deaths, 1) is not None
        assert pause(deaths, -9) is not None
    failures = [pause(1, parts.CANNOT_LOAD) for _ in range(parts.LOADS - 1)]
    assert None not in failures
    assert pause(1, -9) is not None  # it was loaded in between
    assert pause(1, parts.CANNOT_LOAD) is not None


def test_each_model_has_one_worker_while_others_come_and_go(tale: Tale) -> None:
    wait_until(lambda: tale.tend() or "m" in tale.workers())
    first = tale.workers()["m"]
    tale.models["n"] = model(id="n", status="registered")
    wait_until(lambda: tale.tend() or "n" in tale.workers())
    del tale.models["n"]
    wait_until(lambda: tale.tend() or "n" not in tale.workers())
    assert tale.workers() == {"m": first}
    assert tale.events("model.removed") == 1
