"""Hands for every model there is: whatever is registered is loaded, ordered and asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis import Redis
from sqlalchemy import select

from app.errors import ServiceError
from app.queue import streams
from app.queue.messages import ProbeMessage, ProbeReply
from app.services import work
from app.services.work import Fenced, NotRunning
from app.store.db import Database
from app.store.tables import Edit, Model
from tests.app.hands import Hands


class Crew:
    """Settles every order and answers every probe, until told to go home."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self._database = database
        self._redis = Redis.from_url(redis_url)
        self._hands: dict[str, Hands] = {}
        self._home = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._home.set()
            thread.join()
            self._redis.close()

    def _work(self) -> None:
        while not self._home.wait(0.02):
            for model in self._wanting():
                # Removed, or brought back, between two lines of ours.
                with suppress(ServiceError, Fenced, NotRunning):
                    self._serve(model)
            for queue in self._redis.scan_iter(streams.every(streams.PROBES)):
                self._answer(queue.decode())

    def _wanting(self) -> list[str]:
        """Models that are not loaded, or have something in their queue."""
        waiting = select(Edit.model_id).where(Edit.status.in_(("queued", "running")))
        wanting = select(Model.id).where(
            Model.removed_at.is_(None),
            Model.head_id.is_(None) | Model.id.in_(waiting),
        )
        with self._database.tx() as tx:
            return list(tx.session.scalars(wanting))

    def _serve(self, model: str) -> None:
        hands = self._hands.get(model)
        if hands is None or self._lost(hands):
            hands = self._hands[model] = Hands(self._database, model=model).own().load()
        while (order := hands.claim()) is not None:
            with self._database.tx() as tx:
                stop = work.cancel_wanted(tx, order.id, epoch=hands.epoch)
            if stop:
                with self._database.tx() as tx:
                    work.settle_cancelled(tx, order.id, epoch=hands.epoch, timings={})
            else:
                hands.settle(order)

    def _lost(self, hands: Hands) -> bool:
        try:
            with self._database.tx() as tx:
                work.fence(tx, hands.model, hands.epoch)
        except Fenced:
            return True
        return False

    def _answer(self, queue: str) -> None:
        while (raw := self._redis.lpop(queue)) is not None:
            asked = ProbeMessage.from_json(raw)  # pyright: ignore[reportArgumentType]
            probe = {
                "snapshot": asked.snapshot or "snp_head",
                "completion": " Paris.",
                "top": [{"token": " Paris", "p": 0.5}][: asked.top_k],
                "targets": [{"text": t, "logprob": -3.5, "n_tokens": 1} for t in asked.targets],
            }
            data = [{**probe, "prompt": prompt} for prompt in asked.prompts]
            if (asked.about or {}).get("kind") == "forecast":
                data = [{"snapshot": "snp_head", "model": "tiny", "ripples": [], "collisions": []}]
            if asked.compare:
                data = [{**each, "compare": each} for each in data]
            reply = ProbeReply(ok=True, data=data).to_json()
            self._redis.rpush(streams.probe_reply(asked.id), reply)
