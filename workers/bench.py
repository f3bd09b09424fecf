"""What a job works with: the model, the journal, the blob store, and the right to write."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy import select, update

from app.errors import Json, as_error
from app.store.blobs import Blobs
from app.store.db import Database, Tx
from app.store.tables import Model
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

    def settle(self, write: Callable[[Tx], T]) -> Work[T]:
        """Commit the end of an order, exactly once.

        When the reply to a COMMIT is lost it is tried again. Had it been committed after all, the
        order does not run any more: NotRunning, and the journal knows where the head is.
        """

        def once(tx: Tx) -> T:
            ended = write(tx)
            self.failpoint.passing("before_commit")
            return ended

        ended = yield from self.ask(once)
        self.failpoint.passing("after_commit")
        return ended
