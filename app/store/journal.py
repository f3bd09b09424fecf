"""The journal: what happened, written in the transaction that made it happen.

The log tells the same events under the same names, once the transaction is committed.
"""

from typing import Any

from app.store.db import Tx
from app.store.tables import JournalRow

# Of an edit, after its own end: a later order, `by`, has taken it out or replaced it, or a restore
# holds it again.
TAKEN_OUT = "edit.taken-out"
BROUGHT_BACK = "edit.brought-back"

EVENTS = frozenset(
    {
        "model.registered",
        "model.ready",
        "model.failed",
        "model.removed",
        "edit.submitted",
        "edit.claimed",
        "edit.cancel-requested",
        "edit.settled",
        "edit.failed",
        TAKEN_OUT,
        BROUGHT_BACK,
        "snapshot.created",
        "snapshot.labelled",
        "eval.submitted",
        "eval.claimed",
        "eval.settled",
    }
)


def append(tx: Tx, event: str, *, model: str, edit: str | None = None, **data: Any) -> None:  # noqa: ANN401
    """Write one line. Ids, not objects."""
    if event not in EVENTS:
        raise ValueError(event)
    tx.session.add(JournalRow(model_id=model, edit_id=edit, event=event, data=data))
    tx.events.append((event, {"model": model, **({"edit": edit} if edit else {}), **data}))
