"""What Prometheus is told: requests as they are answered, queues as the journal has them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.store.db import Database
from app.store.tables import Edit, Model, OutboxRow

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

    def answered(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self.registry)


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
        unsent = GaugeMetricFamily("errata_outbox_unsent", "Messages waiting for Redis.")
        orders = (
            select(Edit.model_id, Edit.status, func.count())
            .where(Edit.status.in_(UNSETTLED))
            .group_by(Edit.model_id, Edit.status)
        )
        served = select(Model.id, Model.head_seq).where(
            Model.removed_at.is_(None), Model.head_seq.is_not(None)
        )
        outbox = select(func.count()).select_from(OutboxRow).where(OutboxRow.sent_at.is_(None))
        try:
            with self._database.tx() as tx:
                for model, status, count in tx.session.execute(orders):
                    waiting.add_metric([model, status], count)
                for model, seq in tx.session.execute(served):
                    heads.add_metric([model], float(seq or 0))
                unsent.add_metric([], float(tx.session.scalar(outbox) or 0))
        except SQLAlchemyError:
            return []
        return [waiting, heads, unsent]
