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

COMPACTED = "ledger"  # the one editor that keeps, beside keys and values, the facts themselves


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

    Its hparams are those of the latest live edit of the ledger unless given. Raises HeadMoved, and
    NothingToCompact where the head of this moment holds no such edit.
    """
    name = editor or COMPACTED
    knobs.check(name, hparams or {})
    if name != COMPACTED:
        raise CannotCompact(editor=name, known=[COMPACTED])
    models.get(tx, model_id)
    require_head(locked_model(tx, model_id).head_id, if_match)
    ours = Edit.model_id == model_id, Edit.live, Edit.editor == name
    latest = select(Edit.payload).where(*ours).order_by(Edit.ord.desc()).limit(1)
    payload = tx.session.scalar(latest)
    if payload is None:
        raise NothingToCompact(model=model_id, editor=name)
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
