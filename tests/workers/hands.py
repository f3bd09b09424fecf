"""A worker's hands without its process: the same foreman, driven step by step by the test."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app.services import work
from app.store.blobs import Blobs
from app.store.db import Database
from app.store.tables import Lease
from editing.model.view import ModelView
from editing.step import Step
from workers.bench import Bench
from workers.foreman import Foreman
from workers.host import ModelHost
from workers.patience import Pause

IDLE_S = 0.017  # unlike any pause made while Postgres is away


@dataclass
class Hands:
    """One holder of the lease, with the model in memory."""

    bench: Bench
    foreman: Foreman

    @property
    def host(self) -> ModelHost:
        return self.bench.host

    def heed(self, called: Callable[[], bool]) -> None:
        """Look for a cancel when called, and at no other time."""
        self.foreman._wishes = replace(self.foreman._wishes, called=called, poll_s=3600)

    def work(self, seen: Callable[[Step | Pause], None] = lambda _: None) -> None:
        """Work until nothing is in the queue."""
        orders = self.foreman.orders()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            said = next(orders)
            seen(said)
            if isinstance(said, Pause):
                if self.foreman.in_hand is None and said.seconds == IDLE_S:
                    return  # the journal had nothing
                time.sleep(min(said.seconds, 0.05))
        raise TimeoutError


def take_over(
    database: Database, view: ModelView, model: str, folder: Path, *, checkpoint_every: int = 16
) -> Hands:
    """Become the model's next writer: a new epoch, and the head in memory."""
    with database.tx() as tx:
        row = tx.session.get(Lease, model)
        if row is None:
            tx.session.add(row := Lease(model_id=model, epoch=0))
        row.epoch += 1
        epoch = row.epoch
    blobs = Blobs(database, folder)
    host = ModelHost(view, model, database, blobs)
    with database.tx() as tx:
        head = work.model_ready(
            tx, model, epoch=epoch, fingerprint=host.fingerprint, info=view.info
        )
    host.checkout(head)
    bench = Bench(
        host=host,
        database=database,
        blobs=blobs,
        epoch=epoch,
        checkpoint_every=checkpoint_every,
    )
    return Hands(bench, Foreman(bench, poll_s=IDLE_S))
