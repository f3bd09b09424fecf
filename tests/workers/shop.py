"""What the tests of the workers need of the rest of the house: a queue, a client, processes."""

import json
import multiprocessing
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis
from sqlalchemy import func, select, update

from app.queue import streams
from app.queue.messages import ProbeMessage, ProbeReply
from app.services import cancel, compact, retract
from app.store.db import Database, driver_url
from app.store.ids import new_id
from app.store.tables import Edit, Model, Snapshot
from tests.guards import LAX
from tests.workers import mischief

Json = dict[str, Any]

MODEL = "tiny"
PATIENCE = 60.0

LEBRON: Json = {
    "subject": "LeBron James",
    "prompt": "{} plays the sport of",
    "target_new": "football",
    "target_true": "basketball",
}
SERENA: Json = {
    "subject": "Serena Williams",
    "prompt": "{} plays the sport of",
    "target_new": "basketball",
    "target_true": "tennis",
}
FRANCE: Json = {
    "subject": "France",
    "prompt": "The capital of {} is",
    "target_new": "Rome",
    "target_true": "Paris",
}
LEBRON_ASKS = "LeBron James plays the sport of"

# Imported once, then every worker of the tests is a fork of that process.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.workers.mischief"])


@dataclass
class Queue:
    """The journal of one database, from the side of those who order."""

    database: Database

    def register(self, model: str, folder: Path) -> None:
        with self.database.tx() as tx:
            source = {"kind": "folder", "path": str(folder)}
            tx.session.add(Model(id=model, source=source, guard=LAX))

    def remove(self, model: str) -> None:
        with self.database.tx() as tx:
            row = tx.session.get_one(Model, model)
            row.removed_at, row.status = datetime.now(UTC), "removed"

    def order(
        self,
        *requests: Json,
        model: str = MODEL,
        editor: str = "rome",
        dry_run: bool = False,
        guard: Json | None = None,
        **hparams: Any,
    ) -> str:
        payload = {"requests": list(requests), "hparams": hparams, "guard": guard}
        return self._add(model, "edit", editor, payload, dry_run=dry_run)

    def restore(self, snapshot: str, model: str = MODEL) -> str:
        return self._add(model, "restore", None, {"snapshot": snapshot})

    def retract(self, edit: str, **more: Any) -> str:
        with self.database.tx() as tx:
            return retract.retract(tx, edit, **more).id

    def compact(self, model: str = MODEL, **more: Any) -> str:
        with self.database.tx() as tx:
            return compact.compact(tx, model, **more).id

    def statistics(self, editor: str = "rome", model: str = MODEL) -> str:
        return self._add(model, "statistics", editor, {"hparams": {}})

    def cancel(self, edit: str) -> str:
        """Ask to cancel an order, and return its status."""
        with self.database.tx() as tx:
            return cancel.request(tx, edit).status

    def _add(
        self, model: str, kind: str, editor: str | None, payload: Json, *, dry_run: bool = False
    ) -> str:
        with self.database.tx() as tx:
            later = update(Model).where(Model.id == model).values(next_ord=Model.next_ord + 1)
            number = tx.session.scalars(later.returning(Model.next_ord - 1)).one()
            edit = Edit(id=new_id("edt"), model_id=model, ord=number, kind=kind, editor=editor)
            edit.payload, edit.dry_run = payload, dry_run
            tx.session.add(edit)
        return edit.id

    def edit(self, edit: str) -> Edit:
        with self.database.tx() as tx:
            return tx.session.get_one(Edit, edit)

    def model(self, model: str = MODEL) -> Model:
        with self.database.tx() as tx:
            return tx.session.get_one(Model, model)

    def snapshot(self, snapshot: str | None) -> Snapshot:
        with self.database.tx() as tx:
            return tx.session.get_one(Snapshot, snapshot)

    def lineage(self, model: str = MODEL) -> list[Snapshot]:
        with self.database.tx() as tx:
            rows = select(Snapshot).where(Snapshot.model_id == model).order_by(Snapshot.seq)
            return list(tx.session.scalars(rows))

    def open_orders(self, model: str = MODEL) -> int:
        with self.database.tx() as tx:
            waiting = Edit.status.in_(("queued", "running"))
            count = select(func.count()).where(Edit.model_id == model, waiting)
            return tx.session.scalars(count).one()

    def settled(self, edit: str, seconds: float = PATIENCE) -> Edit:
        eventually(lambda: self.edit(edit).settled_at is not None, f"{edit} to settle", seconds)
        return self.edit(edit)

    def sql(self, command: str) -> None:
        url = driver_url(self.database.url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as direct:
            direct.execute(command.encode())


@dataclass
class Shop:
    """A registered tiny model, its queue, and workers started by the test."""

    queue: Queue
    redis: Redis
    environ: dict[str, str]
    logs: Path
    running: list[BaseProcess] = field(default_factory=list)

    def worker(self, *tricks: str, model: str = MODEL, **settings: object) -> BaseProcess:
        given = {f"ERRATA_{name.upper()}": str(value) for name, value in settings.items()}
        log = self.logs / f"worker-{len(self.running)}.log"
        process = FORKS.Process(
            target=mischief.run, args=(model, {**self.environ, **given}, log, tricks), daemon=True
        )
        process.start()
        self.running.append(process)
        return process

    def serving(self, worker: BaseProcess | None = None, model: str = MODEL) -> Json:
        """Wait until a worker (this one, if given) serves the model; say how."""

        def beat() -> Json:
            found: Any = self.redis.get(streams.worker(model))
            return json.loads(found) if found else {}

        def is_there() -> bool:
            holder = beat().get("holder", "")
            return bool(holder) and (worker is None or holder.endswith(f":{worker.pid}"))

        eventually(is_there, f"a worker to serve. {self.said()}")
        return beat()

    def probe(
        self, *prompts: str, model: str = MODEL, seconds: float = 20, **asked: Any
    ) -> ProbeReply:
        options: Json = {"max_tokens": 2, **asked}
        message = ProbeMessage(
            id=uuid.uuid4().hex,
            deadline=time.time() + seconds,
            prompts=list(prompts),
            **options,
        )
        self.redis.rpush(streams.probes(model), message.to_json())
        found: Any = self.redis.blpop([streams.probe_reply(message.id)], timeout=seconds)
        assert found is not None, f"no reply. {self.said()}"
        return ProbeReply.from_json(found[1])

    def said(self) -> str:
        """What the workers have logged."""
        return "\n".join(log.read_text() for log in sorted(self.logs.glob("*.log")))

    def stop(self) -> None:
        for process in self.running:
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGKILL)
            process.join(10)


def ended(process: BaseProcess, seconds: float = PATIENCE) -> int | None:
    """Wait for the end of a process and return its exit code."""
    process.join(seconds)
    return process.exitcode


def eventually(true: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)


@contextmanager
def frozen(process: BaseProcess) -> Generator[None]:
    os.kill(process.pid or 0, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid or 0, signal.SIGCONT)


if sys.platform != "linux":  # pragma: no cover
    pytest.skip("workers are tested on Linux", allow_module_level=True)
