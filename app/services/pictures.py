"""An eval told by pictures, and on one page."""

from dataclasses import dataclass

from app.errors import Json, NothingMeasured, PlotNotFound, SnapshotNotMeasured, TooManyRows
from app.services import evals
from app.store.db import Tx
from app.store.tables import Eval
from editing.evals.catalogue import SUITES
from editing.pictures import OVER_SNAPSHOTS, drawn
from editing.pictures.page import page

_MOST = 100_000  # rows that are held in memory to draw them


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to draw: all rows so far, and what they say together.

    snapshots: what was measured, where it is several; each row then names its own.
    """

    rows: list[Json]
    summary: Json
    snapshots: tuple[str, ...] = ()

    def of(self, snapshot: str) -> "Material":
        """What was found of one of several snapshots."""
        each = self.summary.get("snapshots", ())
        mine: Json = next((one for one in each if one["snapshot"] == snapshot), {})
        return Material([row for row in self.rows if row["snapshot"] == snapshot], mine)


def material(tx: Tx, found: Eval) -> Material:
    """Raises NothingMeasured or TooManyRows. An eval that goes on has rows, and no summary yet."""
    if not found.rows:
        raise NothingMeasured(eval_id=found.id, status=found.status)
    if found.rows > _MOST:
        raise TooManyRows(eval_id=found.id, rows=found.rows, limit=_MOST)
    rows = list(evals.every_row(tx, found.id))
    return Material(rows, found.summary or {}, tuple(found.snapshots or ()))


def require_plot(found: Eval, name: str, snapshot: str | None) -> None:
    """Raise PlotNotFound or SnapshotNotMeasured unless there is, or will be, such a picture."""
    known = _plots(found)
    if name not in known:
        raise PlotNotFound(name, known=known)
    measured = found.snapshots or [str(found.snapshot_id)]
    if snapshot is not None and snapshot not in measured:
        raise SnapshotNotMeasured(snapshot, measured=measured)


def draw(
    found: Eval,
    shown: Material,
    name: str,
    format: str,  # noqa: A002 - the API's word
    snapshot: str | None = None,
) -> bytes:
    """One picture of an eval: of the snapshot that is named, else of the first."""
    head = title(found)
    if shown.snapshots and name not in OVER_SNAPSHOTS:
        snapshot = snapshot or shown.snapshots[0]
        shown, head = shown.of(snapshot), f"{head}, {snapshot}"
    return drawn(name, shown.rows, shown.summary, title=head, format=format)


def report(found: Eval, shown: Material) -> str:
    """The whole eval as one HTML page that needs nothing beside itself."""
    parts = {one: shown.of(one) for one in shown.snapshots}
    pictures: dict[str, str] = {}
    for name in _plots(found):
        several = {} if name in OVER_SNAPSHOTS else parts
        each = {f"{name}, {one}": part for one, part in several.items()} or {name: shown}
        for heading, part in each.items():
            svg = drawn(name, part.rows, part.summary, title="", format="svg")
            pictures[heading] = svg.decode()
    facts = {
        "eval": found.id,
        "model": found.model_id,
        "suite": found.suite,
        "status": found.status,
        "snapshot": found.snapshots or found.snapshot_id,
        "editor": found.editor,
        "hparams": found.hparams,
        "options": found.options,
        "data": found.data,
        "cases": f"{found.done} of {found.total}",
        "created": found.created_at.isoformat(),
        "settled": found.settled_at.isoformat() if found.settled_at else None,
    }
    return page(title(found), facts, shown.summary, pictures, shown.rows)


def _plots(found: Eval) -> list[str]:
    return list(SUITES[found.suite].plots) if found.suite in SUITES else []


def title(found: Eval) -> str:
    """What a picture is headed by."""
    by = f", {found.editor}" if found.editor else ""
    return f"{found.suite}: {found.model_id}{by} ({found.done} of {found.total} cases)"
