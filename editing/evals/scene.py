"""What a suite measures with: a model in one state, and an editor that writes on the side."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from editing import walk
from editing.errors import EmptyField
from editing.history import History
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
        """Write the requests as one order. Raises EditFailed or BadRequest."""
        return (yield from self.chained([requests]))[-1]

    def chained(
        self, orders: Sequence[Sequence["EditRequest"]]
    ) -> Generator[Step, None, list[Edited]]:
        """Write one order after another, each on what the earlier ones made; every state in turn.

        Deltas are read back from their bytes, as a worker does, so that what is measured is what
        would be served. Raises EditFailed or BadRequest, and EmptyField without an editor.
        """
        if self.plan is None:
            raise EmptyField(field="editor")
        state, entries = self.view.current, list(self.history.entries)
        folds = dict(self.history.folds)
        found: list[Edited] = []
        for number, requests in enumerate(orders):
            work = walk.edit(self.view, self.plan, requests, History(list(entries), folds))
            outcome = Outcome.from_bytes((yield from under(self.view, state, work)).to_bytes())
            state = self.view.after(outcome.deltas, state)
            entries.append((f"on-the-side-{number}", _known(outcome)))
            found.append(Edited(state, outcome))
        return found


def _known(outcome: Outcome) -> Callable[[], Outcome]:
    return lambda: outcome
