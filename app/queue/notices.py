"""What is said on the channels, brought to whoever waits for one order.

One subscription for the whole process, however many requests wait. While Redis is away nothing
arrives here; those who wait look into the journal themselves once in a while.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.queue import streams

RETRY_S = 1.0
BACKLOG = 100  # notices kept for one who is slow; the journal has what is dropped

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing said of an order: its kind is PROGRESS or SETTLED."""

    kind: str
    data: dict[str, Any]


Ear = asyncio.Queue[Notice]


class Notices:
    """The subscription, and those who listen. Lives on one event loop."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._ears: defaultdict[str, set[Ear]] = defaultdict(set)

    @contextmanager
    def listen(self, edit_id: str) -> Generator[Ear]:
        """Hear of one order for as long as the block lasts."""
        ear: Ear = asyncio.Queue(maxsize=BACKLOG)
        self._ears[edit_id].add(ear)
        try:
            yield ear
        finally:
            self._ears[edit_id].discard(ear)
            if not self._ears[edit_id]:
                del self._ears[edit_id]

    async def run(self) -> None:
        """Listen until cancelled, through every loss of the connection."""
        away = False
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.psubscribe(
                        *(streams.every(kind) for kind in sorted(streams.CHANNELS))
                    )
                    away = False
                    while True:
                        said = await pubsub.get_message(ignore_subscribe_messages=True, timeout=2)
                        if said is not None:
                            self._pass_on(said["channel"], said["data"])
            except (RedisError, OSError) as error:
                if not away:
                    log.warning("notices.away", error=str(error))
                away = True
                await asyncio.sleep(RETRY_S)

    def _pass_on(self, channel: Any, data: Any) -> None:  # noqa: ANN401  (redis has no types)
        try:
            kind, said = streams.kind(channel.decode()), json.loads(data)
            ears = self._ears.get(said["edit"], ())
        except (ValueError, KeyError, TypeError):
            return  # not one of ours
        for ear in ears:
            if not ear.full():
                ear.put_nowait(Notice(kind, said))
