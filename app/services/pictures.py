"""An eval told by pictures, and on one page."""

from dataclasses import dataclass

from app.errors import Json, NothingMeasured, PlotNotFound
from app.services import evals
from app.store.db import Tx
from app.store.tables import Eval
from editing.evals.catalogue import SUITES
from editing.pictures import drawn
from editing.pictures.page import page


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to draw: all rows so far, and what they say together."""

    rows: list[Json]
    summary: Json


def material(tx: Tx, found: Eval) -> Material:
    """Raises NothingMeasured. An eval that goes on has no summary yet, only its rows so far."""
    rows = list(evals.every_row(tx, found.id))
    if not rows:
        raise NothingMeasured(eval_id=found.id, status=found.status)
    return Material(rows, found.summary or {})


def draw(found: Eval, shown: Material, name: str, format: str) -> bytes:  # noqa: A002
    """One picture of an eval. Raises PlotNotFound."""
    known = list(SUITES[found.suite].plots) if found.suite in SUITES else []
    if name not in known:
        raise PlotNotFound(name, known=known)
    return drawn(name, shown.rows, shown.summary, title=title(found), format=format)


def report(found: Eval, shown: Material) -> str:
    """The whole eval as one HTML page that needs nothing beside itself."""
    plots = SUITES[found.suite].plots if found.suite in SUITES else ()
    pictures = {
        name: drawn(name, shown.rows, shown.summary, title="", format="svg").decode()
        for name in plots
    }
    facts = {
        "eval": found.id,
        "model": found.model_id,
        "suite": found.suite,
        "status": found.status,
        "snapshot": found.snapshot_id,
        "editor": found.editor,
        "hparams": found.hparams,
        "options": found.options,
        "data": found.data,
        "cases": f"{found.done} of {found.total}",
        "created": found.created_at.isoformat(),
        "settled": found.settled_at.isoformat() if found.settled_at else None,
    }
    return page(title(found), facts, shown.summary, pictures, shown.rows)


def title(found: Eval) -> str:
    """What a picture is headed by."""
    by = f", {found.editor}" if found.editor else ""
    return f"{found.suite}: {found.model_id}{by} ({found.done} of {found.total} cases)"
