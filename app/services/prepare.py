"""Have what an editor needs made ready ahead of the first edit: statistics, prefixes."""

from collections.abc import Mapping
from typing import Any

from app.services import models
from app.services.submit import enqueue
from app.store.db import Tx
from app.store.tables import Edit
from editing import knobs


def prepare(
    tx: Tx,
    model_id: str,
    *,
    editor: str,
    hparams: Mapping[str, Any],
    if_match: str | None = None,
    max_queued: int | None = None,
) -> Edit:
    """Journal an order of kind `statistics`. It moves no head and writes no weights."""
    knobs.check(editor, hparams)
    return enqueue(
        tx,
        models.get(tx, model_id).id,
        kind="statistics",
        editor=editor,
        payload={"hparams": dict(hparams)},
        if_match=if_match,
        max_queued=max_queued,
    )
