"""What a job works with: the model, the journal, the blob store, and the right to write."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy import select, update

from app.errors import Json, as_error
from app.services.work import Claimed, Fenced, NotRunning
from app.store.blobs import Blobs
from app.store.db import Database, Tx
from app.store.tables import Edit, Model
from workers.failpoints import FailPoint
from workers.host import LOST, ModelHost
from workers.patience import Work, patiently, undisturbed

T = TypeVar("T")

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One worker's means, for as long as its lease has this epoch."""

    host: ModelHost
    database: Database
    blobs: Blobs
    epoch: int
    checkpoint_every: int
    failpoint: FailPoint = field(default_factory=FailPoint)

    def ask(self, question: Callable[[Tx], T]) -> Work[T]:
        """Run a short transaction that may run twice, once Postgres is there."""
        return patiently(self.database, question)

    def keep(self, data: bytes) -> Work[str]:
        """Put bytes into the blob store, once there is room for them."""
        return self.ask(lambda tx: self.blobs.put(tx, data))

    def checkout(self, snapshot: str) -> Work[None]:
        """Bring the weights to a snapshot."""

        def go() -> Work[None]:
            yield from ()
            self.host.checkout(snapshot)

        return undisturbed(go)

    def serve(self, head: str) -> Work[None]:
        """Bring the weights to the head; where its deltas are lost serve none, and say why.

        Other snapshots are served all the same, and a restore of one of them ends it.
        """
        was = self.host.lost
        try:
            yield from self.checkout(head)
        except LOST as error:
            self.host.lose(head)
            if was != head:
                log.error("head.lost", model=self.host.model, snapshot=head, detail=str(error))  # noqa: TRY400
                yield from self.tell(as_error(error))
        else:
            if was:
                yield from self.tell(None)

    def tell(self, error: Json | None) -> Work[None]:
        """Have the model's row say what is wrong with it, beside its status."""
        said = update(Model).where(Model.id == self.host.model).values(error=error)
        yield from self.ask(lambda tx: tx.session.execute(said))

    def follow(self) -> Work[None]:
        """Bring the weights to the head, wherever the journal says that it is."""
        asked = select(Model.head_id).where(Model.id == self.host.model)
        head = yield from self.ask(lambda tx: tx.session.scalars(asked).one())
        if head is not None:
            yield from self.serve(head)

    def settle(self, order: Claimed, write: Callable[[Tx], str | None]) -> Work[str | None]:
        """Commit the end of an order, exactly once, and return its snapshot.

        When the reply to a COMMIT is lost it is tried again; if then the order is found not to run
        any more, the order itself tells how it has ended.
        """
        tried = False

        def once() -> Work[str | None]:
            nonlocal tried
            yield from ()
            again, tried = tried, True
            try:
                with self.database.tx() as tx:
                    snapshot = write(tx)
                    self.failpoint.passing("before_commit")
            except NotRunning:
                if not again:
                    raise
                return self._fate(order)
            self.failpoint.passing("after_commit")
            return snapshot

        return undisturbed(once)

    def _fate(self, order: Claimed) -> str | None:
        """How an order has ended that may have been settled by us."""
        found = select(Edit.status, Edit.epoch, Edit.snapshot_id).where(Edit.id == order.id)
        with self.database.tx() as tx:
            status, epoch, snapshot = tx.session.execute(found).one()
        if epoch != self.epoch:
            raise Fenced(order.model, self.epoch)
        if status == "running":  # somebody has asked to cancel it since
            raise NotRunning(order.id)
        return snapshot
