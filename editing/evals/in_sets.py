"""Editing a set of records: alone, as one batch, or one after another.

Where one edit of a chain fails, the chain goes on without it: it is counted, and its record is not
measured. A batch is all or nothing.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from editing.datasets.sets import LeftOut, RecordSet
from editing.errors import BadRecord, BadRequest, EditFailed, EditingError, EmptyField
from editing.model.state import State
from editing.run import under
from editing.step import Step

from .catalogue import Json
from .scene import Scene

if TYPE_CHECKING:
    from editing.request import EditRequest


@dataclass(frozen=True, slots=True)
class Written:
    """The state that a set led to, and which of its edits failed, by their place."""

    state: State
    failed: Mapping[int, EditingError] = field(default_factory=dict[int, EditingError])


def written(
    scene: Scene, requests: Sequence["EditRequest"], *, chained: bool
) -> Generator[Step, None, Written]:
    """Write the requests on the side: in one order, or each in one of its own.

    Raises EditFailed or BadRequest where a single order cannot be written; EmptyField without an
    editor.
    """
    if not requests:  # of a set from which all was left out
        return Written(scene.view.current)
    if not chained or len(requests) == 1:
        return Written((yield from scene.edited(requests)).state)
    if scene.plan is None:  # else every edit would fail for it
        raise EmptyField(field="editor")
    # As Scene.chained does, but only the last state is kept, and the chain goes on behind an edit
    # that failed: it may be a thousand edits long.
    later, state = scene, scene.view.current
    failed: dict[int, EditingError] = {}
    for number, request in enumerate(requests):
        try:
            done = yield from under(scene.view, state, later.edited([request]))
        except (EditFailed, BadRequest) as error:
            failed[number] = error
            continue
        later, state = later.behind([done]), done.state
    return Written(state, failed)


def left_out(case: RecordSet[object], dataset: str) -> list[Json]:
    """A row that says so, for each record that could not be read."""
    return [_failed(one.number, _unread(one, dataset)) for one in case.left_out]


def failures(numbers: Sequence[int], failed: Mapping[int, EditingError]) -> list[Json]:
    """A row that says so, for each edit of a chain that failed; `numbers` are its records'."""
    return [_failed(numbers[place], error) for place, error in failed.items()]


def place_of(case: RecordSet[object], place: int) -> Json:
    """Where in its set a record stands: how many are edited with it, and how many after it."""
    size = len(case.records)
    later = size - 1 - place if case.mode == "consecutive" else 0
    return {"mode": case.mode, "size": size, "later": later}


def _unread(one: LeftOut, dataset: str) -> EditingError:
    return BadRecord(one.number, why=one.why, dataset=dataset)


def _failed(number: int, error: EditingError) -> Json:
    return {"record": number, "failed": error.code, "why": str(error)}
