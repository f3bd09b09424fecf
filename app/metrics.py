"""What the API tells Prometheus: requests as they are answered, queues as the journal has them.

The workers have numbers of their own (workers/metrics.py). docs/operations.md lists both.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.store.db import Database
from app.store.tables import Edit, Lease, Model, OutboxRow

UNSETTLED = ("queued", "running")


class Metrics:
    """The numbers of one app; nothing is registered globally, so two apps do not mix."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "errata_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "errata_http_request_seconds",
            "How long an answer took.",
            ["method", "route"],
            registry=self.registry,
        )
        self.registry.register(_Journal(database))
        database.on_event(Settled(self.registry).committed)
        ProcessCollector(registry=self.registry)

    def answered(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self.registry)


class Settled:
    """Orders counted as they end: by the process that ends them, be it the API or a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._orders = Counter(
            "errata_edits_settled",
            "Orders that this process has ended.",
            ["model", "kind", "status"],
            registry=registry,
        )

    def committed(self, event: str, data: Mapping[str, Any]) -> None:
        """Look at a line of the journal once its transaction is committed."""
        if event in {"edit.settled", "edit.failed"}:
            self._orders.labels(data["model"], data["kind"], data["status"]).inc()


class _Journal(Collector):
    """Gauges read from Postgres when asked for; left out while it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read from the database at registration

    def collect(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily(
            "errata_orders_waiting", "Orders not settled yet.", labels=["model", "status"]
        )
        heads = GaugeMetricFamily(
            "errata_head_seq", "Number of the snapshot that is served.", labels=["model"]
        )
        snapshots = GaugeMetricFamily(
            "errata_snapshots", "Snapshots made, the base among them.", labels=["model"]
        )
        epochs = GaugeMetricFamily(
            "errata_lease_epoch", "How often a worker has taken the model.", labels=["model"]
        )
        unsent = GaugeMetricFamily("errata_outbox_unsent", "Messages waiting for Redis.")
        orders = (
            select(Edit.model_id, Edit.status, func.count())
            .where(Edit.status.in_(UNSETTLED))
            .group_by(Edit.model_id, Edit.status)
        )
        models = select(Model.id, Model.head_seq).where(Model.removed_at.is_(None))
        leases = select(Lease.model_id, Lease.epoch).join(Model).where(Model.removed_at.is_(None))
        outbox = select(func.count()).select_from(OutboxRow).where(OutboxRow.sent_at.is_(None))
        try:
            with self._database.tx() as tx:
                counts = {(model, status): n for model, status, n in tx.session.execute(orders)}
                for model, seq in tx.session.execute(models):
                    for status in UNSETTLED:  # an empty queue is a 0, not a gap
                        waiting.add_metric([model, status], counts.get((model, status), 0))
                    if seq is not None:
                        heads.add_metric([model], seq)
                        # Numbered from 0 without a gap, so nothing has to be counted.
                        snapshots.add_metric([model], seq + 1)
                for model, epoch in tx.session.execute(leases):
                    epochs.add_metric([model], epoch)
                unsent.add_metric([], float(tx.session.scalar(outbox) or 0))
        except SQLAlchemyError:
            return []
        return [waiting, heads, snapshots, epochs, unsent]
