"""What a worker tells Prometheus, over HTTP, from a thread of its own.

Numbers are noted where they arise and read by whoever scrapes. Nothing here touches the model, so a
scrape waits for no step and no step for a scrape. The names are listed in docs/operations.md.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from threading import Thread
from typing import Any

import structlog
import torch
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.metrics import Settled

LEASE_CHANGES = ("taken", "retaken", "evicted", "lost")

# From one optimiser step of a tiny model to the statistics of a large one, in seconds.
_WORK = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)
_PROBE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

log = structlog.stdlib.get_logger()


class WorkerMetrics:
    """The numbers of one worker. Any thread may call any method."""

    def __init__(self, model: str, *, device: str = "cpu") -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._server: tuple[Any, Thread] | None = None
        of_model: Any = {"registry": self.registry}
        self._stages = Histogram(
            "errata_edit_stage_seconds",
            "Wall time of each stage of an order.",
            ["model", "editor", "stage"],
            buckets=_WORK,
            **of_model,
        )
        self._orders = Histogram(
            "errata_order_seconds",
            "From the claim of an order to its end; of kind restore: how long a restore took.",
            ["model", "kind"],
            buckets=_WORK,
            **of_model,
        )
        self.committed = Settled(self.registry).committed
        self._probes = Histogram(
            "errata_probe_seconds",
            "From the question at the API to its answer leaving the worker.",
            ["model"],
            buckets=_PROBE,
            **of_model,
        ).labels(model)
        lease = Counter(
            "errata_lease_changes",
            "What became of the right to write to the model.",
            ["model", "change"],
            **of_model,
        )
        # Shown from the start: a series that begins at 1 has no increase.
        self._lease = {change: lease.labels(model, change) for change in LEASE_CHANGES}
        self._ready = Gauge(
            "errata_model_ready", "Whether this worker serves the model.", ["model"], **of_model
        ).labels(model)
        if device.startswith("cuda"):
            self.registry.register(_GpuMemory(model, torch.device(device)))
        ProcessCollector(registry=self.registry)

    # ---- what is told ----------------------------------------------------------------------------

    def worked(
        self, *, kind: str, editor: str | None, seconds: float, stages: Mapping[str, float]
    ) -> None:
        """Note how long an order took, in all and by stage."""
        self._orders.labels(self._model, kind).observe(seconds)
        for stage, spent in stages.items():
            self._stages.labels(self._model, editor or kind, stage).observe(spent)

    def answered(self, asked_at: float | None) -> None:
        """Note that a probe put at this time (unix seconds) has its answer now."""
        if asked_at is not None:
            self._probes.observe(max(0.0, time.time() - asked_at))

    def lease_changed(self, change: str) -> None:
        """Count one of LEASE_CHANGES."""
        self._lease[change].inc()

    def ready_when(self, serving: Callable[[], bool]) -> None:
        """Ask `serving` at each scrape whether the model is served."""
        self._ready.set_function(lambda: float(serving()))

    # ---- where it is read ------------------------------------------------------------------------

    def serve(self, host: str, port: int) -> None:
        """Answer GET /metrics on this address; port 0 is none. A taken port ends no worker."""
        if port == 0:
            return
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            log.warning("metrics.unserved", model=self._model, port=port, error=str(error))
            return
        self._server = server, thread
        log.info("metrics.serving", model=self._model, host=host, port=port)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join(timeout=5)
            self._server = None


class _GpuMemory(Collector):
    """The memory of one GPU, asked for at each scrape."""

    def __init__(self, model: str, device: torch.device) -> None:
        self._model = model
        self._device = device

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is asked at registration: the GPU may not be there yet

    def collect(self) -> Iterable[Metric]:
        memory = GaugeMetricFamily(
            "errata_gpu_memory_bytes",
            "Memory of the GPU: held by tensors, reserved by torch, free, and in all.",
            labels=["model", "state"],
        )
        # Before the model is loaded there is no context; a scrape must not make one.
        if torch.cuda.is_initialized():
            free, total = torch.cuda.mem_get_info(self._device)
            found = {
                "allocated": torch.cuda.memory_allocated(self._device),
                "reserved": torch.cuda.memory_reserved(self._device),
                "free": free,
                "total": total,
            }
            for state, size in found.items():
                memory.add_metric([self._model, state], float(size))
        return [memory]
