"""Order that all live facts of a model's ledger are solved anew, as one delta."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from app.errors import CannotCompact, NothingToCompact
from app.services import models
from app.services.settle import locked_model, require_head
from app.services.submit import enqueue
from app.store.db import Tx
from app.store.tables import Edit
from editing import knobs
from editing.catalogue import METHODS

COMPACTED = [name for name, one in METHODS.items() if one.compact]


def compact(
    tx: Tx,
    model_id: str,
    *,
    editor: str | None = None,
    hparams: Mapping[str, Any] | None = None,
    if_match: str | None = None,
    dry_run: bool = False,
    max_queued: int | None = None,
) -> Edit:
    """Journal a compaction. It runs after what is queued already, on the head that it meets then.

    Its editor and hparams are those of the latest live edit that can be compacted, unless given.
    Raises HeadMoved, and NothingToCompact where the head of this moment holds no such edit.
    """
    known = COMPACTED if editor is None else [editor]
    knobs.check(known[0], hparams or {})
    if known[0] not in COMPACTED:
        raise CannotCompact(editor=known[0], known=COMPACTED)
    models.get(tx, model_id)
    require_head(locked_model(tx, model_id).head_id, if_match)
    ours = Edit.model_id == model_id, Edit.live, Edit.editor.in_(known)
    latest = select(Edit.editor, Edit.payload).where(*ours).order_by(Edit.ord.desc()).limit(1)
    found = tx.session.execute(latest).one_or_none()
    if found is None:
        raise NothingToCompact(model=model_id, editor=known[0])
    name, payload = found
    chosen = payload.get("hparams", {}) if hparams is None else dict(hparams)
    return enqueue(
        tx,
        model_id,
        kind="compact",
        editor=name,
        payload={"hparams": chosen},
        if_match=if_match,
        dry_run=dry_run,
        max_queued=max_queued,
    )
