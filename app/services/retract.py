"""Order that one edit is taken out of the head and the later ones are kept."""

from app.errors import EditNotLive
from app.services import edits, models
from app.services.settle import locked_model, require_head
from app.services.submit import enqueue
from app.store.db import Tx
from app.store.tables import Edit

_NOTHING = "There is nothing to take out"
_AGAIN = "Order the edit again, or restore a snapshot that holds it"
_BY = {  # what has become of an edit, by the kind of the order that did it
    "edit": "{} has replaced all it said",
    "retract": "{} has taken it out",
    "restore": "{} has restored a snapshot without it",
    "compact": "{} has left it out: later edits answer all its questions",
}


def retract(
    tx: Tx,
    edit_id: str,
    *,
    if_match: str | None = None,
    dry_run: bool = False,
    max_queued: int | None = None,
) -> Edit:
    """Journal a retract of all facts of an edit.

    It runs after what is queued already, on the head that it meets then. Raises EditNotFound, and
    HeadMoved or EditNotLive by the head of this moment.
    """
    edit = edits.get(tx, edit_id)
    models.get(tx, edit.model_id)
    # Locked, so that the head, and what it holds, are those of one moment.
    require_head(locked_model(tx, edit.model_id).head_id, if_match)
    tx.session.refresh(edit)
    if not edit.live:
        why, mend = _why(tx, edit)
        raise EditNotLive(edit=edit_id, why=why, mend=mend)
    return enqueue(
        tx,
        edit.model_id,
        kind="retract",
        editor=edit.editor,
        payload={"targets": [edit_id], "hparams": edit.payload.get("hparams", {})},
        dry_run=dry_run,
        if_match=if_match,
        max_queued=max_queued,
    )


def _why(tx: Tx, edit: Edit) -> tuple[str, str]:
    """What stands in the way, and what to do instead: of these the first that is so."""
    kind = edit.kind
    this = "it is an edit" if kind == "edit" else f"it is an order of kind {kind}"
    cancel = f"POST /edits/{edit.id}/cancel takes it back"
    back = f"POST /snapshots/{edit.parent_id}/restore goes back to before it"
    reasons = (
        (edit.status in {"queued", "running"}, f"{this} that is {edit.status} still", cancel),
        (edit.status != "applied", f"{this} that is {edit.status} and changed nothing", _NOTHING),
        (edit.dry_run, f"{this} that was a dry run and changed nothing", _NOTHING),
        (kind == "statistics", f"{this}, which changes no weight", _NOTHING),
        (kind != "edit", this, back),
        (edit.noop, "the model answered so already, and it changed nothing", _NOTHING),
    )
    for so, why, mend in reasons:
        if so:
            return why, mend
    ended = edits.taken_out_by(tx, [edit]).get(edit.id)
    by = _BY[ended.kind].format(ended.order) if ended else "a later order has taken it out"
    return by, _AGAIN
