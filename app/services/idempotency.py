"""Idempotency-Key: a request repeated with its key is answered as it was the first time."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError

from app.errors import Json, KeyInFlight, KeyReused
from app.store.db import Tx
from app.store.tables import Edit, Eval, IdempotencyKey

T = TypeVar("T", Edit, Eval)

# How long a repeated request waits for the first one's transaction. Those are short.
_PATIENCE = text("SET LOCAL lock_timeout = '3s'")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a request: what it made, and the body as it was said the first time."""

    made: str
    body: Json
    replayed: bool


def request_hash(*parts: Any) -> str:  # noqa: ANN401  (anything JSON)
    """Name a request: two are the same when they order the same thing, spaces aside."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def once(
    tx: Tx,
    key: str | None,
    body_hash: str,
    order: Callable[[], T],
    say: Callable[[T], Json],
) -> Answer:
    """Run `order` unless this key has been answered; then give that answer again.

    The key is written in the order's own transaction: there is never one without the other, and a
    refused request leaves its key free. A repetition that overtakes the first request's commit
    waits for it on the key's row.
    """
    if key is None:
        made = order()
        return Answer(made.id, say(made), replayed=False)
    while not _take(tx, key, body_hash):
        known = tx.session.get(IdempotencyKey, key, with_for_update={"read": True})
        if known is None:
            continue  # it has grown old, and was cleaned up just now
        if known.body_hash != body_hash:
            raise KeyReused(key)
        return Answer(str(known.edit_id or known.eval_id), known.response or {}, replayed=True)
    made = order()
    known = tx.session.get_one(IdempotencyKey, key)
    said = say(made)
    known.response, known.status_code = said, 202
    if isinstance(made, Edit):
        known.edit_id = made.id
    else:
        known.eval_id = made.id
    return Answer(made.id, said, replayed=False)


def _take(tx: Tx, key: str, body_hash: str) -> bool:
    tx.session.execute(_PATIENCE)
    mine = insert(IdempotencyKey).values(key=key, body_hash=body_hash).on_conflict_do_nothing()
    try:
        taken = tx.session.scalar(mine.returning(IdempotencyKey.key)) is not None
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", "") == "55P03":  # lock_not_available
            raise KeyInFlight(key) from None
        raise
    tx.session.execute(text("SET LOCAL lock_timeout = DEFAULT"))
    return taken
