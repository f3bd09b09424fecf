"""The numbers of a worker where no host is needed: the lease, the port, the check of its health."""

import socket
import threading
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from app.store.db import Database
from tests.conftest import wait_until
from tests.workers.shop import MODEL, Queue
from workers import alive
from workers.lease import Lease, Terms
from workers.metrics import LEASE_CHANGES, WorkerMetrics
from workers.pulse import Pulse


def changes(metrics: WorkerMetrics) -> dict[str, float]:
    found = {c: {"model": MODEL, "change": c} for c in LEASE_CHANGES}
    value = metrics.registry.get_sample_value
    counted = {c: value("errata_lease_changes_total", labels) for c, labels in found.items()}
    return {change: number for change, number in counted.items() if number}


def test_each_side_tells_its_part_when_a_silent_holder_is_replaced(
    postgres_url: str, tmp_path: Path
) -> None:
    database = Database(postgres_url)
    Queue(database).register(MODEL, tmp_path)
    database.close()
    told = WorkerMetrics(MODEL), WorkerMetrics(MODEL)
    silent, thief = (
        Lease(
            Terms(url=postgres_url, model=MODEL, holder=name, ttl=0.3),
            Pulse(),
            wake=lambda: None,
            changed=metrics.lease_changed,
        )
        for name, metrics in zip(("silent", "thief"), told, strict=True)
    )
    silent.acquire()  # and renews nothing
    try:
        thief.acquire()
        assert changes(told[0]) == {"taken": 1}
        assert changes(told[1]) == {"evicted": 1, "taken": 1}
        silent.watch(lambda: None)  # now it looks, and finds another's epoch
        assert silent.lost.wait(10)
        wait_until(lambda: changes(told[0]) == {"taken": 1, "lost": 1})
    finally:
        silent.release()
        thief.release()


def test_a_port_that_is_taken_does_not_end_the_worker() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        metrics = WorkerMetrics(MODEL)
        metrics.serve("127.0.0.1", held.getsockname()[1])
        metrics.lease_changed("taken")
        metrics.close()
    assert changes(metrics) == {"taken": 1}


def test_port_0_is_no_server() -> None:
    before = threading.active_count()
    metrics = WorkerMetrics(MODEL)
    metrics.serve("127.0.0.1", 0)
    assert threading.active_count() == before
    metrics.close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> WorkerMetrics:
    """A worker's numbers behind the port that its health check asks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("ERRATA_WORKER_METRICS_HOST", "0.0.0.0")  # noqa: S104 - as in a container
    monkeypatch.setenv("ERRATA_WORKER_METRICS_PORT", str(port))
    metrics = WorkerMetrics(MODEL)
    metrics.serve("0.0.0.0", port)  # noqa: S104
    return metrics


def test_alive_means_that_the_model_is_served_now(
    served: WorkerMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = [False]
    assert alive.main() == 1  # loading, or waiting for the lease
    served.ready_when(lambda: serving[0])
    assert alive.main() == 1
    assert "does not serve its model" in capsys.readouterr().err
    serving[0] = True
    assert alive.main() == 0
    serving[0] = False  # the lease is lost, or a step hangs
    assert alive.main() == 1
    served.close()
    assert alive.main() == 1
    assert "does not answer" in capsys.readouterr().err


def test_alive_cannot_ask_without_a_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERRATA_WORKER_METRICS_PORT", "0")
    assert alive.main() == 1
    assert "ERRATA_WORKER_METRICS_PORT" in capsys.readouterr().err


def test_series_are_there_before_anything_happens() -> None:
    """A counter that begins at 1 has no increase, and an alarm on it would not ring."""
    text = generate_latest(WorkerMetrics(MODEL).registry).decode()
    for change in LEASE_CHANGES:
        assert f'errata_lease_changes_total{{change="{change}",model="{MODEL}"}} 0.0' in text
    assert f'errata_model_ready{{model="{MODEL}"}} 0.0' in text


def test_a_probe_from_a_clock_ahead_took_no_negative_time() -> None:
    metrics = WorkerMetrics(MODEL)
    metrics.answered(2**40)
    metrics.answered(None)  # an older API does not say when it asked
    value = metrics.registry.get_sample_value
    assert value("errata_probe_seconds_sum", {"model": MODEL}) == 0
    assert value("errata_probe_seconds_count", {"model": MODEL}) == 1
