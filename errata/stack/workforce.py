"""One worker for each registered model, as GET /models tells; and whether a model answers."""

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Thread

from errata.client import Client
from errata.errors import ErrataError
from errata.results import Model
from errata.stack.kept import Kept, Program
from errata.stack.say import Say

BUSY_LOOK, IDLE_LOOK = 0.2, 2.0  # seconds between two looks: while something loads, and later
LOOK_PATIENCE, PROBE_PATIENCE = 5.0, 120.0
QUESTION = "Hello"
FAILED = "failed"


class Workforce:
    """Keeps as many workers as there are models."""

    def __init__(
        self,
        url: str,
        program: Callable[[str], Program],
        say: Say,
        frozen: Callable[[str, int], bool] = lambda _model, _pid: False,
    ) -> None:
        self._frozen = frozen  # says of a model's worker, by its pid, whether it will ever move
        self._killed: set[int] = set()
        self._client = Client(url, timeout=LOOK_PATIENCE, patience=0)
        self._program = program
        self._say = say
        self._kept: dict[str, Kept] = {}
        self._told: dict[str, str] = {}
        self._asking: dict[str, Thread] = {}
        self._answered: set[str] = set()
        self._next_look = 0.0

    def __iter__(self) -> Iterator[Kept]:
        """Give the workers."""
        return iter(list(self._kept.values()))

    def engage(self, models: Sequence[str]) -> None:
        """Give these models their workers, without waiting for what the server tells."""
        for model in models:
            self._kept[model] = Kept(self._program(model), self._say)

    def tend(self, now: float) -> None:
        """Look at the models from time to time, and at the workers always."""
        if now >= self._next_look:
            self._look()
            told = self._told.values()
            loading = not told or any(each not in {"ready", FAILED} for each in told)
            self._next_look = time.monotonic() + (BUSY_LOOK if loading else IDLE_LOOK)
        for name, kept in list(self._kept.items()):
            if kept.child and kept.child.exit_code() == 0:
                del self._kept[name]  # drained, or its model is gone; the next look decides
            else:
                self._thaw(name, kept)
                kept.tend(now)

    def given_up(self, models: Sequence[str]) -> list[str]:
        """Give those of these models that could not be loaded, and are not tried again."""
        return [each for each in models if (kept := self._kept.get(each)) and kept.given_up]

    def answering(self, models: Sequence[str]) -> bool:
        """Say whether each of these models has answered a probe since we started, or never will."""
        lost = self.given_up(models)
        for model in models:
            asking = self._asking.get(model)
            if model in self._answered or (asking and asking.is_alive()):
                continue
            if self._told.get(model) == "ready":
                # In a thread: an answer may take its time, and the rest has to be looked after.
                self._asking[model] = Thread(target=self._ask, args=[model], daemon=True)
                self._asking[model].start()
        return self._answered.issuperset(set(models) - set(lost))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _thaw(self, model: str, kept: Kept) -> None:
        """Kill a worker that is frozen; its keeper starts another."""
        child = kept.child
        if child and child.pid not in self._killed and self._frozen(model, child.pid):
            self._killed.add(child.pid)
            text = "is frozen: it has not renewed its lease for long; killing it"
            self._say("worker.frozen", model, text, pid=child.pid)
            child.kill()

    def _ask(self, model: str) -> None:
        try:
            with Client(self._client.base_url, timeout=PROBE_PATIENCE, patience=0) as client:
                client.probe(model, QUESTION, max_tokens=1, top_k=1)
        except ErrataError:
            time.sleep(BUSY_LOOK)  # it is asked again
        else:
            self._answered.add(model)

    def _look(self) -> None:
        try:
            models = {model.id: model for model in self._client.models()}
        except ErrataError:
            return  # the API is away; its own keeper cares
        for model in models.values():
            kept = self._kept.get(model.id)
            if kept is None or (kept.given_up and model.status != FAILED):
                # New, or registered again since it was given up.
                self._kept[model.id] = Kept(self._program(model.id), self._say)
            self._tell(model)
        for gone in set(self._told) - set(models):
            self._say("model.removed", gone, "is no longer registered")
            del self._told[gone]
            if kept := self._kept.pop(gone, None):
                kept.stop()

    def _tell(self, model: Model) -> None:
        if self._told.get(model.id) != model.status:
            self._told[model.id] = model.status
            text = f"is {model.status}"
            if model.status == FAILED:
                text = f"could not be loaded: {(model.error or {}).get('detail', '?')}"
            self._say(f"model.{model.status}", model.id, text)
