"""Ask a model something: the question goes to its worker over Redis, the answer comes back so."""

import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import (
    EditNotFound,
    Json,
    ModelFailed,
    ModelNotReady,
    ProbeTimedOut,
    QueueUnavailable,
    Refused,
)
from app.queue import streams
from app.queue.messages import ProbeMessage, ProbeReply
from app.services import edits, lineage, models, snapshots
from app.store.db import Tx
from app.store.tables import Edit
from editing.request import EditRequest

BLOCK_S = 2.0  # one blocking read: a dead connection is noticed after it
LAST_EDITS = 8  # live edits that a question is compared with where it names none
MOST_FACTS = 64  # of those edits together; a single edit is compared whole
MARGIN_S = 3.0  # what the socket waits beyond the block


def check(tx: Tx, model_id: str, *shown: str | None) -> None:
    """Refuse a question that no worker could answer: before it is put, not after a minute."""
    model = models.get(tx, model_id)
    for snapshot in shown:
        if snapshot is not None:
            snapshots.get(tx, snapshot, of=model_id)
    if model.status == "failed":
        raise ModelFailed(model=model_id, error=model.error)
    # A model that has a head was loaded once: its worker is on its way back, and worth waiting for.
    if model.head_id is None:
        raise ModelNotReady(model=model_id, status=model.status)


def about(tx: Tx, model_id: str, answer: str, edit: str | None, snapshot: str | None) -> Json:
    """What a worker must know to say how an answer hangs together with an edit, or with the last.

    The facts of the edit, and the snapshots before and after it; without one, those of the latest
    live edits, and the snapshot before the earliest of them. Raises EditNotFound.
    """
    if edit is not None:
        order = edits.get(tx, edit)
        if order.model_id != model_id or order.kind != "edit":
            raise EditNotFound(edit)
        wanted, after = [order], order.snapshot_id
    else:
        # Those that are live in the asked snapshot: not all that are at the head are in it.
        after = snapshot or models.head_of(tx, model_id)
        # In the order of their ordering: a compaction holds them in another one.
        wanted = edits.latest(tx, lineage.manifest(tx, after).live, LAST_EDITS)
    facts, used = list[Json](), list[Edit]()
    for order in wanted:
        told = _facts(order)
        if used and len(facts) + len(told) > MOST_FACTS:
            break  # an older edit is left out whole, and `before` lies behind it
        facts += told
        used.append(order)
    before = used[-1].parent_id if used and after else None
    return {
        "kind": "gradsim",
        "answer": answer,
        "facts": facts,
        "before": before,
        "after": after if before else None,
    }


def _facts(order: Edit) -> list[Json]:
    requests = [EditRequest.from_dict(each) for each in order.payload.get("requests", [])]
    return [
        {"edit": order.id, "prompt": each.question, "target_new": each.target_new}
        for each in requests
    ]


async def ask(redis: Redis, model_id: str, message: ProbeMessage) -> list[Json]:
    """Put the question and wait for its reply, no longer than its deadline."""
    asked_at = time.time()
    try:
        queue = streams.probes(model_id)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.rpush(queue, message.to_json())
            # Questions to a worker that never comes do not stay for ever.
            pipe.expire(queue, streams.REPLY_TTL_S + int(message.deadline - asked_at))
            await pipe.execute()
        reply = await _reply(redis, message)
    except (RedisError, OSError):
        raise QueueUnavailable from None
    if reply is None:
        raise ProbeTimedOut(model=model_id, seconds=round(message.deadline - asked_at))
    if not reply.ok:
        raise Refused(reply.error or {})
    return reply.data


async def _reply(redis: Redis, message: ProbeMessage) -> ProbeReply | None:
    key = streams.probe_reply(message.id)
    while (left := message.deadline - time.time()) > 0:
        answer: Any = await redis.blpop([key], timeout=max(0.05, min(BLOCK_S, left)))  # pyright: ignore[reportGeneralTypeIssues]
        if answer is not None:
            return ProbeReply.from_json(answer[1])
    return None
