"""The host at work: its checks, its numbers, and a log that says what the journal says."""

from collections import Counter
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from app.store.db import Database
from app.store.journal import EVENTS
from app.store.tables import JournalRow
from tests.house.conftest import PROMPT, TARGET
from tests.house.recipes import Json
from tests.house.running import MODEL, PASSWORD, Host
from workers.metrics import WorkerMetrics


def samples(host: Host, service: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(host.told[service])
        for sample in family.samples
    }


def of_model(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"model": MODEL, **labels}.items()))


def journal(host: Host) -> list[JournalRow]:
    database = Database(host.environ("api")["ERRATA_DATABASE_URL"])
    try:
        with database.tx() as tx:
            return list(tx.session.scalars(select(JournalRow).order_by(JournalRow.id)))
    finally:
        database.close()


# ---- numbers -------------------------------------------------------------------------------------


def test_the_worker_tells_what_it_did(host: Host) -> None:
    told = samples(host, "worker")
    assert told["errata_model_ready", of_model()] == 1
    assert told["errata_edits_settled_total", of_model(kind="edit", status="applied")] == 1
    assert told["errata_edits_settled_total", of_model(kind="edit", status="failed")] == 1
    assert told["errata_edits_settled_total", of_model(kind="restore", status="applied")] == 1
    assert told["errata_order_seconds_count", of_model(kind="edit")] == 2
    assert told["errata_order_seconds_count", of_model(kind="restore")] == 1
    assert told["errata_order_seconds_sum", of_model(kind="restore")] > 0
    assert told["errata_probe_seconds_count", of_model()] == 2
    assert 0 < told["errata_probe_seconds_sum", of_model()] < 60
    changes = {c: told["errata_lease_changes_total", of_model(change=c)] for c in ("taken", "lost")}
    assert changes == {"taken": 1, "lost": 0}
    stages = {
        dict(labels)["stage"]: value
        for (name, labels), value in told.items()
        if name == "errata_edit_stage_seconds_sum" and dict(labels)["editor"] == "rome"
    }
    # The same stages, and the same seconds, that the order itself reports.
    timings = host.applied["timings"]["wall_s"]
    assert set(timings) <= set(stages)
    assert stages["z"] == pytest.approx(timings["z"])


def test_the_api_tells_what_it_answered_and_what_the_journal_holds(host: Host) -> None:
    told = samples(host, "api")
    assert told["errata_head_seq", of_model()] == 2
    assert told["errata_snapshots", of_model()] == 3
    assert told["errata_lease_epoch", of_model()] == 1
    assert told["errata_outbox_unsent", ()] == 0
    assert told["errata_edits_settled_total", of_model(kind="edit", status="cancelled")] == 1
    answered = "errata_http_requests_total"
    probe = {"method": "GET", "route": "/models/{model_id}/probe", "status": "200"}
    assert told[answered, tuple(sorted(probe.items()))] == 2
    assert told["process_resident_memory_bytes", ()] > 0


def test_gpu_memory_is_told_once_there_is_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> dict[str, float]:
        families = WorkerMetrics(MODEL, device="cuda:0").registry.collect()
        memory = next(f for f in families if f.name == "errata_gpu_memory_bytes")
        return {sample.labels["state"]: sample.value for sample in memory.samples}

    if not torch.cuda.is_initialized():
        assert found() == {}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70, 100))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 10)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30)
    assert found() == {"allocated": 10, "reserved": 30, "free": 70, "total": 100}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_memory_is_that_of_the_gpu() -> None:
    held = torch.zeros(1 << 20, device="cuda")
    families = WorkerMetrics(MODEL, device="cuda").registry.collect()
    memory = next(f for f in families if f.name == "errata_gpu_memory_bytes")
    told = {sample.labels["state"]: sample.value for sample in memory.samples}
    assert told["allocated"] >= held.nbytes
    assert told["allocated"] <= told["reserved"] <= told["total"]
    assert 0 < told["free"] < told["total"]


# ---- the log -------------------------------------------------------------------------------------


def test_the_log_says_what_the_journal_says_in_its_words(host: Host) -> None:
    rows = journal(host)
    assert {row.event for row in rows} >= {"edit.submitted", "edit.settled", "edit.failed"}
    written = Counter(
        line(row.event, {"model": row.model_id, "edit": row.edit_id, **row.data}) for row in rows
    )
    logged = Counter(line(e["event"], e) for e in host.events() if e["event"] in EVENTS)
    assert logged == written


def line(event: str, fields: Json) -> tuple[Any, ...]:
    beside = {"event", "timestamp", "level"}
    kept = {k: v for k, v in fields.items() if k not in beside and v is not None}
    return event, *sorted((name, repr(value)) for name, value in kept.items())


def test_every_line_is_an_event_with_a_time_and_a_level(host: Host) -> None:
    events = host.events()
    assert all({"event", "timestamp", "level"} <= event.keys() for event in events)
    assert {"worker.loading", "worker.serving", "lease.taken"} <= {e["event"] for e in events}
    # What the worker says beside the journal, it says with the journal's names.
    serving = next(e for e in events if e["event"] == "worker.serving")
    assert (serving["model"], serving["epoch"]) == (MODEL, 1)
    assert serving["snapshot"].startswith("snp_")


def test_answers_are_logged_by_route_and_by_the_names_of_the_journal(host: Host) -> None:
    answers = [e for e in host.events() if e["event"] == "http.answered"]
    restored = next(e for e in answers if e["route"] == "/snapshots/{snapshot_id}/restore")
    assert restored["snapshot"].startswith("snp_")
    assert (restored["method"], restored["status"]) == ("POST", 200)
    assert restored["ms"] > 0
    probed = [e for e in answers if e["route"] == "/models/{model_id}/probe"]
    assert [e["model"] for e in probed] == [MODEL, MODEL]
    known = {"event", "level", "timestamp", "method", "route", "status", "ms"}
    assert all(e.keys() <= known | {"model", "edit", "snapshot", "editor"} for e in answers)
    assert not any(e["route"] in {"/readyz", "/metrics", "/healthz"} for e in answers)


def test_no_log_holds_a_password_a_prompt_or_an_answer(host: Host) -> None:
    said = host.said("api") + host.said("worker")
    for secret in (PASSWORD, PROMPT, PROMPT.replace(" ", "%20"), TARGET, "LeBron"):
        assert secret not in said


# ---- checks, last, since they stop what runs -----------------------------------------------------


def test_checks_pass_while_it_serves_and_fail_when_it_does_not(host: Host) -> None:
    for service in ("api", "worker"):
        done = host.check(service)
        assert done.returncode == 0, done.stderr
    assert host.stop("worker") == 0
    worker = host.check("worker")
    assert worker.returncode == 1
    assert "does not answer" in worker.stderr
    host.stop("api")
    assert host.check("api").returncode != 0
