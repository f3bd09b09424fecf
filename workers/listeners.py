"""What comes in over Redis: probes, and the news that an order was journaled.

Each listener is a thread with a connection of its own. While Redis is away it tries again with
growing pauses; meanwhile the journal is polled, so only latency is lost.
"""

import threading
from abc import ABC, abstractmethod
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from app.queue import streams
from app.queue.messages import CancelEdit, CancelEval, ProbeMessage, on_stream
from workers.bell import Bell
from workers.probes import Inbox

_BLOCK_S = 1.0  # short, so that a frozen worker takes few probes with it
_MARGIN_S = 5.0  # redis-py gives up after 5 s by default, also on a read that is meant to wait
_LONGEST_PAUSE_S = 2.0
_FULL = 256  # probes held here; the rest waits in Redis, where another worker can have it

log = structlog.stdlib.get_logger()


class Listener(ABC):
    """A thread that waits for Redis again and again."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._redis: Redis = Redis.from_url(
            url, socket_timeout=_BLOCK_S + _MARGIN_S, socket_connect_timeout=2
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def hush(self) -> None:
        """Listen no more once the read that is going on has ended."""
        self._stopped.set()

    def stop(self) -> None:
        """Listen no more. What was heard before is kept."""
        self.hush()
        self._thread.join(timeout=_BLOCK_S + _MARGIN_S)
        self._redis.close()

    @abstractmethod
    def listen(self) -> None:
        """Wait once, for about `_BLOCK_S`."""

    def _run(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            try:
                self.listen()
            except RedisError as error:
                if not pause:  # said once, not with every try
                    log.warning("redis.away", listener=self._name, error=str(error))
                pause = min(max(pause * 2, 0.1), _LONGEST_PAUSE_S)
            except Exception:
                # What somebody put into Redis must not end the thread: the worker would look well
                # and hear nothing any more.
                log.exception("redis.unreadable", listener=self._name)
                pause = _LONGEST_PAUSE_S
            else:
                pause = 0.0


class OrderListener(Listener):
    """Rings when the stream of a model says that something is in its queue, or is to leave it."""

    def __init__(self, url: str, model: str, bell: Bell) -> None:
        super().__init__("orders", url)
        self._stream = streams.edits(model)
        self._bell = bell
        self._last: bytes | None = None

    def listen(self) -> None:
        """Wait for the next entry of the stream."""
        # From the end, but as an id: with "$" what comes between two reads would not be seen.
        last = self._last
        if last is None:
            newest: Any = self._redis.xrevrange(self._stream, count=1)
            last = newest[0][0] if newest else b"0-0"
            self._bell.ring_cancel()  # what came before is for the journal to say
        heard: Any = self._redis.xread({self._stream: last}, block=int(_BLOCK_S * 1000))
        if heard:
            # One stream, one batch: RESP3 answers with a mapping, RESP2 with pairs.
            batch = next(iter(heard.values()))[0] if isinstance(heard, dict) else heard[0][1]
            last = batch[-1][0]
            self._bell.ring_order()
            if any(isinstance(on_stream(fields), CancelEdit | CancelEval) for _, fields in batch):
                self._bell.ring_cancel()
        self._last = last


class ProbeListener(Listener):
    """Takes probes out of a model's list."""

    def __init__(
        self,
        url: str,
        model: str,
        inbox: Inbox,
        bell: Bell,
    ) -> None:
        super().__init__("probes", url)
        self._list = streams.probes(model)
        self._inbox = inbox
        self._bell = bell

    def listen(self) -> None:
        """Wait for the next probe."""
        if len(self._inbox) >= _FULL:
            self._stopped.wait(_BLOCK_S / 10)
            return
        found: Any = self._redis.blpop([self._list], timeout=_BLOCK_S)
        if found is None:
            return
        try:
            message = ProbeMessage.from_json(found[1])
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("probe.unreadable", error=str(error))
            return
        self._inbox.put(message)
        self._bell.ring()

    def give_back(self, waiting: list[ProbeMessage]) -> None:
        """Put probes that nobody answered at the front of the list again, for the next worker."""
        if not waiting:
            return
        try:
            self._redis.lpush(self._list, *[message.to_json() for message in reversed(waiting)])
        except RedisError as error:
            log.warning("redis.away", listener=self._name, error=str(error))
