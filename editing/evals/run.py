"""Running one case of a suite, and summing up. What a worker, a benchmark or a test drives."""

from collections.abc import Generator, Sequence
from typing import Any

from editing.entry import loaded
from editing.errors import BadRequest, EditFailed
from editing.model.state import State
from editing.run import under
from editing.step import Step
from editing.walk import prepare

from .catalogue import Json, Suite
from .scene import Scene


def prepared(scene: Scene) -> Generator[Step, None, None]:
    """Collect what the scene's editor needs to know of the untouched model; once, ahead of all."""
    if scene.plan is not None:
        yield from prepare(scene.view, scene.plan)


def rows_of(
    suite: Suite,
    scene: Scene,
    case: Any,  # noqa: ANN401 - whatever the suite's reader makes
    number: int,
    start: State,
) -> Generator[Step, None, list[Json]]:
    """The rows of one case, measured in the state `start`. Each names its case.

    A case that its editor or its records do not allow gives one row that says so ("failed", "why"):
    it is counted, and the others go on.
    """
    work = loaded(suite.measure)(scene, case)
    try:
        rows = yield from under(scene.view, start, work)
    except (EditFailed, BadRequest) as error:
        rows = [{"failed": error.code, "why": str(error)}]
    return [{"case": number, **row} for row in rows]


def summary_of(suite: Suite, rows: Sequence[Json], options: Any) -> Json:  # noqa: ANN401
    """What the rows say together; `failed` counts the cases that gave none, by why."""
    good = [row for row in rows if "failed" not in row]
    failed: dict[str, int] = {}
    for row in rows:
        if "failed" in row:
            failed[row["failed"]] = failed.get(row["failed"], 0) + 1
    cases = len({row["case"] for row in rows})
    told = loaded(suite.summarise)(good, options)
    return {"cases": cases, "rows": len(rows), "failed": failed, **told}
