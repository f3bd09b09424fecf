"""What a suite measures with: a model in one state, and an editor that writes on the side."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from editing import walk
from editing.errors import EmptyField
from editing.history import Entry, History
from editing.model.state import State
from editing.outcome import Outcome
from editing.run import under
from editing.step import Step

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


@dataclass(frozen=True, slots=True)
class Edited:
    """A state on the side: what it is, and what the edit that led to it did."""

    state: State
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The view shows, while a suite runs, the state that it is asked to measure.

    A suite may run anything under another state by `under(view, state, work)`; it never adopts one.
    """

    view: "ModelView"
    options: Any
    plan: walk.Plan | None = None  # of a suite that edits
    history: History = field(default_factory=History.empty)  # what the measured state consists of

    def edited(self, requests: Sequence["EditRequest"]) -> Generator[Step, None, Edited]:
        """Write the requests as one order, on the state that is shown.

        Deltas are read back from their bytes, as a worker does, so that what is measured is what
        would be served. Raises EditFailed or BadRequest, and EmptyField without an editor.
        """
        if self.plan is None:
            raise EmptyField(field="editor")
        outcome = yield from walk.edit(self.view, self.plan, requests, self.history)
        outcome = Outcome.from_bytes(outcome.to_bytes())
        return Edited(self.view.after(outcome.deltas), outcome)

    def behind(self, done: Sequence[Edited]) -> "Scene":
        """The scene behind some edits, which its history then holds; to be run under the last."""
        entries = list(self.history.entries)
        for one in done:
            name = f"on-the-side-{len(entries)}"
            entries.append(Entry(name, _known(one.outcome), one.outcome.removes))
        # The folds are copied: two ways on from here give other edits the same names.
        return replace(self, history=History(entries, dict(self.history.folds)))

    def chained(
        self, orders: Sequence[Sequence["EditRequest"]]
    ) -> Generator[Step, None, list[Edited]]:
        """Write one order after another, each on what the earlier ones made; every state in turn.

        Raises as `edited` does.
        """
        scene, state = self, self.view.current
        found: list[Edited] = []
        for requests in orders:
            done = yield from under(self.view, state, scene.edited(requests))
            scene, state = scene.behind([done]), done.state
            found.append(done)
        return found


def _known(outcome: Outcome) -> Callable[[], Outcome]:
    return lambda: outcome
