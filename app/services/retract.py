"""Order that one edit is taken out of the head and the later ones are kept."""

from app.errors import EditNotLive
from app.services import edits, models
from app.services.lineage import manifest
from app.services.submit import enqueue
from app.store.db import Tx
from app.store.tables import Edit, Model


def retract(
    tx: Tx,
    edit_id: str,
    *,
    if_match: str | None = None,
    dry_run: bool = False,
    max_queued: int | None = None,
) -> Edit:
    """Journal a retract. It runs after what is queued already, on the head that it meets then.

    Raises EditNotFound, and EditNotLive where the head of this moment does not hold the edit.
    """
    edit = edits.get(tx, edit_id)
    models.get(tx, edit.model_id)
    if not edit.live or edit.kind != "edit":
        raise EditNotLive(edit=edit_id, why=_why(tx, edit))
    return enqueue(
        tx,
        edit.model_id,
        kind="retract",
        editor=edit.editor,
        payload={"targets": [edit_id], "hparams": edit.payload.get("hparams", {})},
        if_match=if_match,
        dry_run=dry_run,
        max_queued=max_queued,
    )


def _why(tx: Tx, edit: Edit) -> str:
    """What stands in the way: the first of these that is so."""
    reasons = (
        (edit.kind != "edit", f"it is a {edit.kind}; restore the snapshot before it to undo it"),
        (edit.status in {"queued", "running"}, f"it is {edit.status} still; cancel it"),
        (edit.status != "applied", f"it is {edit.status}, and changed nothing"),
        (edit.dry_run, "it was a dry run, and changed nothing"),
        (edit.noop, "the model answered so already, and nothing was changed"),
    )
    for so, why in reasons:
        if so:
            return why
    head = str(tx.session.get_one(Model, edit.model_id).head_id)
    by = [entry.edit for entry in manifest(tx, head).entries if edit.id in entry.over]
    return (
        f"{by[-1]} has taken it out, or replaced it"
        if by
        else "a restore or a retract has taken it out"
    )
