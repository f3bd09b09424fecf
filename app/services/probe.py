"""Ask a model something: the question goes to its worker over Redis, the answer comes back so."""

import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import Json, ModelFailed, ModelNotReady, ProbeTimedOut, QueueUnavailable, Refused
from app.queue import streams
from app.queue.messages import ProbeMessage, ProbeReply
from app.services import models, snapshots
from app.store.db import Tx

BLOCK_S = 2.0  # one blocking read: a dead connection is noticed after it
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
