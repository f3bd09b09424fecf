"""A worker without a model: it owns, claims and settles, and computes nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Self

from sqlalchemy import select, update

from app.services import models, submit, work
from app.services.compact import compact
from app.services.restore import restore
from app.services.retract import retract
from app.services.work import Claimed
from app.store.db import Database, Tx
from app.store.tables import Blob, Edit, Lease, Model, Snapshot

MODEL = "tiny"
FACT = {"subject": "France", "prompt": "The capital of {} is", "target_new": "Lyon"}
REPORT = {"efficacy": {"success": {"value": 1.0, "n": 1, "before": 0.0}}}


class Hands:
    def __init__(self, database: Database, model: str = MODEL) -> None:
        self.database = database
        self.model = model
        self.epoch = 0

    # ---- a worker's life ---------------------------------------------------------------------

    def register(self) -> Self:
        source = {"kind": "hub", "id": f"org/{self.model}"}
        with self.database.tx() as tx:
            models.register(tx, source, model_id=self.model, roots=())
        return self

    def own(self) -> Self:
        """Take the lease: a new epoch, and whoever had the last one is fenced."""
        with self.database.tx() as tx:
            self.epoch = tx.session.scalars(
                update(Lease)
                .where(Lease.model_id == self.model)
                .values(epoch=Lease.epoch + 1, holder="hands")
                .returning(Lease.epoch)
            ).one()
        return self

    def load(self, fingerprint: str = "sha256:base") -> Self:
        with self.database.tx() as tx:
            work.model_loading(tx, self.model)
        with self.database.tx() as tx:
            work.model_ready(tx, self.model, epoch=self.epoch, fingerprint=fingerprint, info={})
        return self

    # ---- orders ------------------------------------------------------------------------------

    def order(self, **fields: Any) -> str:
        order = submit.EditOrder(requests=[FACT], model=self.model, **fields)
        with self.database.tx() as tx:
            return submit.submit(tx, order, limit=1000).id

    def order_retract(self, edit: str, **fields: Any) -> str:
        with self.database.tx() as tx:
            return retract(tx, edit, **fields).id

    def order_compact(self, **fields: Any) -> str:
        with self.database.tx() as tx:
            return compact(tx, self.model, **fields).id

    def order_restore(self, snapshot: str, **fields: Any) -> str:
        with self.database.tx() as tx:
            return restore(tx, snapshot, **fields).id

    def claim(self) -> Claimed | None:
        with self.database.tx() as tx:
            return work.claim(tx, self.model, epoch=self.epoch)

    def take(self) -> Claimed:
        claimed = self.claim()
        assert claimed is not None
        return claimed

    def settle(
        self,
        order: Claimed,
        *,
        checkpoint: bool = False,
        fingerprint: str | None = None,
        notes: dict[str, Any] | None = None,
        drop: bool = False,
        ends: tuple[str, ...] = (),
        holds: tuple[str, ...] = (),
        report: dict[str, Any] | None = None,
    ) -> str:
        """Apply an order, as far as the journal can tell."""
        report = report or ({**REPORT, "editor": notes} if notes else REPORT)
        ours: dict[str, Any] = {"epoch": self.epoch, "timings": {"z": 0.1}, "report": report}
        with self.database.tx() as tx:
            if order.kind == "restore":
                source = str(order.source)
                found = fingerprint or tx.session.get_one(Snapshot, source).fingerprint
                return work.settle_restore(tx, order.id, source=source, fingerprint=found, **ours)
            if order.kind == "statistics":
                work.settle_prepared(tx, order.id, **ours)
                return order.parent
            if order.dry_run:
                work.settle_dry_run(tx, order.id, **ours)
                return order.parent
            held = put(tx, f"weights after {order.id}".encode()) if checkpoint else None
            if drop:
                left = {"gone": [str(order.target)], "fingerprint": f"sha256:less {order.target}"}
                return work.settle_without(tx, order.id, checkpoint=held, **left, **ours)
            blob = put(tx, order.id.encode())
            ours |= {"blob": blob, "fingerprint": f"sha256:{blob}", "checkpoint": held}
            if order.kind == "compact":
                return work.settle_without(tx, order.id, gone=holds, holds=holds, **ours)
            ours |= {"removes": (order.target,) if order.target else (), "ends": ends}
            return work.settle_edit(tx, order.id, **ours)

    def edit(self, editor: str = "memit-history", **fields: Any) -> tuple[str, str]:
        """Order an edit and apply it: its id, and the snapshot."""
        edit = self.order(editor=editor)
        return edit, self.settle(self.take(), **fields)

    def tell(self, preface: str) -> tuple[str, str]:
        """Order an edit that changes no weight, and apply it."""
        edit = self.order(editor="ike")
        return edit, self.settle(self.take(), notes={"preface": preface})

    def restore(self, snapshot: str) -> tuple[str, str]:
        edit = self.order_restore(snapshot)
        return edit, self.settle(self.take())

    # ---- what the journal holds --------------------------------------------------------------

    @property
    def head(self) -> Snapshot:
        with self.database.tx() as tx:
            return tx.session.get_one(Snapshot, tx.session.get_one(Model, self.model).head_id)

    def look(self, edit: str) -> Edit:
        with self.database.tx() as tx:
            return tx.session.get_one(Edit, edit)

    def manifest(self, snapshot: str) -> list[str]:
        with self.database.tx() as tx:
            return [entry.edit for entry in work.manifest(tx, snapshot).entries]

    def live(self) -> list[str]:
        """Newest first."""
        with self.database.tx() as tx:
            live = select(Edit.id).where(Edit.model_id == self.model, Edit.live)
            return list(tx.session.scalars(live.order_by(Edit.ord.desc())))

    @contextmanager
    def working(self) -> Iterator[None]:
        """Apply whatever comes, in a thread, for as long as the block lasts."""
        stop = threading.Event()

        def work_on() -> None:
            while not stop.wait(0.01):
                if (order := self.claim()) is not None:
                    self.settle(order)

        thread = threading.Thread(target=work_on)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def put(tx: Tx, data: bytes) -> str:
    """Keep a small blob; no folder is needed for one."""
    name = sha256(data).hexdigest()
    tx.session.merge(Blob(sha256=name, size=len(data), data=data))
    tx.session.flush()
    return name
