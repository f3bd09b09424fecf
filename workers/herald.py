"""What goes out: replies to probes, progress, and the sign that this worker serves.

A thread of its own, so that the model thread never waits for a network. What cannot be said now is
dropped: replies have a deadline, progress and heartbeats are overtaken by the next.
"""

import json
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError

from app.queue import streams
from app.queue.messages import ProbeReply, Progress
from app.services import work
from app.store.db import Database
from editing.step import Step

_PROGRESS_EVERY_S = 1.0
_BEAT_EVERY_S = 2.0
_BEAT_TTL_S = 10

Json = dict[str, Any]

log = structlog.stdlib.get_logger()


class Herald:
    """Says things to Redis, and notes progress in the journal's row, in the order they came."""

    def __init__(self, url: str, model: str, database: Database) -> None:
        self._model = model
        self._database = database
        self._redis: Redis = Redis.from_url(
            url, socket_timeout=2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._serving: Callable[[], Json | None] = lambda: None
        self._told = "", 0.0  # the order whose progress was told last, and when
        self._away = False
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)

    def start(self, serving: Callable[[], Json | None]) -> None:
        """Begin; `serving` describes the worker for its heartbeat, or is None when it is stuck."""
        self._serving = serving
        self._thread.start()

    def stop(self) -> None:
        """Say what waits, and end."""
        self._waiting.put(self._farewell)
        self._waiting.put(None)
        self._thread.join(timeout=5)
        self._redis.close()

    def reply(self, probe: str, reply: ProbeReply) -> None:
        """Answer a probe."""
        self._waiting.put(lambda: self._send_reply(probe, reply))

    def progress(self, edit: str, epoch: int, step: Step) -> None:
        """Tell how far an order has come, at most once a second."""
        told, at = self._told
        now = time.monotonic()
        if edit != told or now - at >= _PROGRESS_EVERY_S:
            self._told = edit, now
            loss = step.loss if step.loss is not None and math.isfinite(step.loss) else None
            said = Progress(
                edit=edit, stage=step.stage, done=step.done, total=step.total, loss=loss
            ).to_dict()
            self._waiting.put(lambda: self._tell_progress(epoch, said))

    def waiting(self, edit: str, epoch: int, why: str) -> None:
        """Tell that an order stands still, and what for."""
        self._told = edit, 0.0  # its next step is told at once
        said = Progress(edit=edit, stage="waiting", done=0, total=1).to_dict()
        self._waiting.put(lambda: self._tell_progress(epoch, {**said, "detail": why}))

    def _send_reply(self, probe: str, reply: ProbeReply) -> None:
        try:
            text = reply.to_json()
        except ValueError:  # JSON knows no NaN
            detail = "The model's answer holds numbers that are not finite."
            text = ProbeReply(ok=False, error={"code": "non-finite-value", "detail": detail})
            text = text.to_json()
        name = streams.probe_reply(probe)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(name, text)
            pipe.expire(name, streams.REPLY_TTL_S)
            pipe.execute()

    def _tell_progress(self, epoch: int, said: Json) -> None:
        note = {name: value for name, value in said.items() if name != "edit"}
        with self._database.tx() as tx:
            work.progress(tx, said["edit"], epoch=epoch, progress=note)
        self._redis.publish(streams.progress(said["edit"]), json.dumps(said))

    def _heartbeat(self) -> None:
        serving = self._serving()
        if serving is not None:
            text = json.dumps({**serving, "at": time.time()})
            self._redis.set(streams.worker(self._model), text, ex=_BEAT_TTL_S)

    def _farewell(self) -> None:
        # A worker that has lost its model must not take away its successor's sign of life.
        if self._serving() is not None:
            self._redis.delete(streams.worker(self._model))

    def _run(self) -> None:
        next_beat = 0.0
        while True:
            if time.monotonic() >= next_beat:
                self._try(self._heartbeat)
                next_beat = time.monotonic() + _BEAT_EVERY_S
            try:
                said = self._waiting.get(timeout=max(0.0, next_beat - time.monotonic()))
            except queue.Empty:
                continue
            if said is None:
                return
            self._try(said)

    def _try(self, say: Callable[[], None]) -> None:
        try:
            say()
        except (RedisError, SQLAlchemyError) as error:
            if not self._away:  # said once, not with every message
                log.warning("herald.unheard", error=str(error).splitlines()[0])
            self._away = True
        except Exception:
            log.exception("herald.crashed")  # the next message may do better; the thread lives on
        else:
            self._away = False
