"""The supervisor with everything it keeps, serving a tiny model: deaths, ends and beginnings."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from errata.cli.main import app
from errata.client import Client
from errata.errors import ErrataError
from errata.stack.parts import LOADS
from tests.conftest import wait_until
from tests.errata.running import Stack, assert_gone
from tests.guards import LAX
from tests.tiny import save_tiny

pytestmark = pytest.mark.slow

MODEL = "tiny"
FACT = {"subject": "LeBron James", "prompt": "{} plays the sport of", "target_new": "football"}
QUESTION = "LeBron James plays the sport of"


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / MODEL
    folder.mkdir()
    return save_tiny(folder, "llama")


@pytest.fixture(scope="module")
def new_stack(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[Callable[..., Stack]]:
    """A maker of stacks that serve the tiny model."""
    made: list[Stack] = []
    cache = tmp_path_factory.mktemp("cache")

    def make(*flags: str, model: Path = tiny_folder, **environ: str) -> Stack:
        folder = tmp_path_factory.mktemp("stack")
        given = {"ERRATA_CACHE_DIR": str(cache), "ERRATA_THREADS": "1", **environ}
        stack = Stack(folder, "--model", str(model), *flags, **given)
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.end()


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack]) -> Stack:
    """The stack that these tests hurt; each leaves it running."""
    stack = new_stack(ERRATA_LEASE_TTL_S="4")  # so that a frozen worker is soon noticed
    stack.start()
    with Client(stack.url) as client:
        client.set_guard(MODEL, LAX)
    return stack


def answers(stack: Stack) -> bool:
    try:
        with Client(stack.url, timeout=5, patience=0) as client:
            return bool(client.probe(MODEL, QUESTION, max_tokens=1))
    except ErrataError:
        return False


def test_it_says_what_it_does_and_where_it_listens(stack: Stack) -> None:
    for words in ("postgres", "valkey", "migrations", "api", f"listens at {stack.url}", "ready"):
        assert words in stack.output
    with stack.client() as client:
        assert [(model.id, model.status) for model in client.models()] == [(MODEL, "ready")]


def test_an_edit_goes_through_it_and_back(stack: Stack) -> None:
    with stack.client() as client:
        base = client.model(MODEL).head or ""
        before = client.probe(MODEL, QUESTION, max_tokens=2)
        order = client.edit(model=MODEL, editor="memit", **FACT)
        assert order.snapshot
        assert client.model(MODEL).head == order.snapshot
        restored = client.restore(base)
        after = client.probe(MODEL, QUESTION, max_tokens=2)
        assert after[0].completion == before[0].completion
        prints = [client.snapshot(each).fingerprint for each in (base, restored.snapshot or "")]
        assert prints[0] == prints[1]


def test_the_commands_work_on_it(stack: Stack) -> None:
    for argv in (["models"], ["snapshots"], ["editors"], ["edits"], ["probe", QUESTION]):
        for flags in ([], ["--json"]):
            result = CliRunner().invoke(app, [*argv, *flags, "--url", stack.url])
            assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["data"]


def test_a_second_stack_on_the_same_data_is_refused(stack: Stack) -> None:
    argv = [sys.executable, "-m", "errata.stack", "--port", "0", "--data-dir", str(stack.data)]
    told = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 1
    assert told.stderr.startswith("errata up: another `errata up` (pid ")
    assert told.stderr.count("\n") == 1
    assert answers(stack)


@pytest.mark.parametrize(
    "name", ["valkey-server", "errata.stack.api", "workers.main", "bin/postgres"]
)
def test_what_is_killed_comes_back(stack: Stack, name: str) -> None:
    with stack.client() as client:
        snapshots = client.snapshots(MODEL)
    victim = stack.child(name)
    victim.kill()
    wait_until(lambda: not victim.is_running(), seconds=10)
    wait_until(lambda: stack.has_child(name) and answers(stack), stack.logs, seconds=60)
    assert "was killed by signal 9" in stack.output
    with stack.client() as client:
        assert client.snapshots(MODEL) == snapshots


def test_a_frozen_worker_is_replaced_and_what_it_held_can_be_cancelled(stack: Stack) -> None:
    frozen = stack.child("workers.main")
    said = stack.output.count("is frozen")
    with stack.client() as client:
        search = {"search": {"steps": 1000, "lr": 1e-6}}  # it leads nowhere, but takes its time
        fact: Any = {**FACT, "subject": "Tim Duncan"}
        held = client.edit(model=MODEL, editor="rome", hparams=search, wait=False, **fact)
        wait_until(lambda: client.order(held.id).progress is not None, stack.logs)
        frozen.suspend()
        assert client.cancel(held.id, timeout=60).status == "cancelled"
        order = client.edit(model=MODEL, editor="memit", timeout=120, **FACT)
        assert order.applied
    assert stack.output.count("is frozen") == said + 1
    assert stack.child("workers.main").pid != frozen.pid
    assert_gone([frozen])


def test_an_order_given_while_the_queue_is_down_is_applied(stack: Stack) -> None:
    stack.child("valkey-server").kill()
    with stack.client() as client:
        order = client.edit(model=MODEL, editor="memit", timeout=60, **FACT)
        assert order.applied


def test_asked_to_stop_it_leaves_no_process_and_no_ready_file(stack: Stack) -> None:
    family = stack.family()
    with stack.client() as client:
        head = client.model(MODEL).head
    assert stack.stop(signal.SIGINT) == 0
    assert_gone(family, seconds=1)
    assert not stack.ready.exists()
    assert not (stack.data / "postgres" / "postmaster.pid").exists()
    assert "everything is stopped" in stack.output
    stack.start()
    with stack.client() as client:
        assert client.model(MODEL).head == head


def test_killed_it_takes_its_children_along_and_reopens_the_same_data(stack: Stack) -> None:
    with stack.client() as client:
        snapshots = client.snapshots(MODEL)
        said = client.probe(MODEL, QUESTION)
    stack.kill()
    stack.start()
    with stack.client() as client:
        assert client.snapshots(MODEL) == snapshots
        assert client.probe(MODEL, QUESTION) == said


def test_killed_it_may_be_started_at_once(stack: Stack) -> None:
    """The old Postgres may still be dying when the new one is to start."""
    assert stack._process
    family = stack.family()
    stack._process.kill()
    stack._process.wait()
    stack.ready.unlink()
    stack.start()
    assert_gone(family)
    assert answers(stack)


def test_a_second_model_gets_a_worker_while_the_first_works_and_loses_it_again(
    stack: Stack, tiny_folder: Path
) -> None:
    with stack.client() as client:
        worker = stack.child("workers.main")
        assert worker.cmdline()[-1] == MODEL
        long: Any = {"model": MODEL, "editor": "memit", "dry_run": True, "wait": False}
        hparams = {"search": {"steps": 1000, "lr": 1e-6}}  # it leads nowhere, but takes its time
        # Not a fact that another test has written: that would be told at once.
        fact = {"subject": "France", "prompt": "The capital of {} is", "target_new": "Rome"}
        orders = [client.edit(requests=[fact] * 8, hparams=hparams, **long) for _ in range(30)]
        client.register_model(str(tiny_folder), id="second")
        order = client.edit(model="second", editor="memit", dry_run=True, timeout=60, **FACT)
        assert order.model == "second"
        assert client.model("second").serving
        assert client.model(MODEL).waiting > 0
        head = client.model(MODEL).head or ""
        client.restore(head, cancel_queued=True)
        assert {client.order(each.id).status for each in orders} <= {"failed", "cancelled"}
        client.remove_model("second")
        wait_until(lambda: not _works_for(stack, "second"), stack.logs, seconds=30)
    assert _works_for(stack, MODEL)
    assert worker.is_running()


def _works_for(stack: Stack, model: str) -> bool:
    for process in stack.family():
        try:
            line = process.cmdline()
        except psutil.Error:  # it has just gone
            continue
        if "workers.main" in line and line[-1] == model:
            return True
    return False


def test_servers_of_others_are_used_when_they_are_named(
    new_stack: Callable[..., Stack], empty_postgres_url: str, redis_url: str
) -> None:
    stack = new_stack(ERRATA_DATABASE_URL=empty_postgres_url, ERRATA_REDIS_URL=redis_url)
    stack.start()
    try:
        assert not stack.has_child("bin/postgres")
        assert not stack.has_child("valkey-server")
        assert not (stack.data / "postgres").exists()
        assert answers(stack)
    finally:
        code = stack.stop(signal.SIGTERM)
    assert code == 0


def test_a_source_that_is_none_ends_it_with_a_reason(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack("--model", "no such source")
    process = stack.launch()
    family: list[psutil.Process] = []
    wait_until(lambda: bool(family.extend(stack.family())) or bool(family), seconds=10)
    assert process.wait(60) == 1
    assert "errata up: the model 'no such source' cannot be registered" in stack.output
    assert_gone(family)


@pytest.mark.timeout(600)
def test_a_model_that_cannot_be_loaded_is_given_up_and_ends_who_waits_for_it(
    new_stack: Callable[..., Stack], tiny_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    for weights in broken.glob("*.safetensors"):
        weights.write_bytes(b"no weights")
    stack = new_stack(model=broken)
    process = stack.launch()
    assert process.wait(400) == 1
    assert stack.output.count("could not load the model") == LOADS
    assert "`errata models --retry broken`" in stack.output
    assert "errata up: broken cannot be loaded" in stack.output
    assert not stack.ready.exists()


@pytest.mark.timeout(600)
def test_mended_it_is_registered_again_and_serves(stack: Stack, tiny_folder: Path) -> None:
    broken = tiny_folder / "broken"  # where the server may read models
    shutil.copytree(tiny_folder, broken)
    weights = next(broken.glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(b"no weights")
    with stack.client() as client:
        client.register_model(str(broken))
        order = client.edit(model="broken", editor="memit", dry_run=True, wait=False, **FACT)
        gave_up = "given up; mend that, then `errata models --retry broken`"
        wait_until(lambda: gave_up in stack.output, stack.logs, seconds=300)
        assert client.model("broken").status == "failed"
        assert client.order(order.id).blocked
        weights.write_bytes(whole)
        told = CliRunner().invoke(app, ["models", "--retry", "broken", "--url", stack.url])
        assert told.exit_code == 0, told.output
        assert client.wait(order.id, timeout=120).applied
        client.remove_model("broken")


def test_json_lines_for_those_who_read_them(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack("--log-json", "--model", "no such source")
    stack.launch().wait(60)
    lines = [json.loads(line) for line in stack.output.splitlines() if line.startswith("{")]
    assert {"stack.starting", "child.up", "migrations.head"} <= {line["event"] for line in lines}


def test_it_stops_when_the_program_that_started_it_dies(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    script = (
        "import os, subprocess, sys, time;"
        "argv = sys.argv[1:] + ['--parent', str(os.getpid())];"
        "print(subprocess.Popen(argv, stdout=subprocess.DEVNULL).pid, flush=True); time.sleep(60)"
    )
    up = [sys.executable, "-m", "errata.stack", "--port", "0", "--data-dir", str(stack.data)]
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *up], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert parent.stdout
    with parent.stdout as out:
        supervisor = psutil.Process(int(out.readline()))
        wait_until(lambda: len(supervisor.children()) > 0, seconds=20)
        family = [supervisor, *supervisor.children(recursive=True)]
        parent.kill()
        parent.wait()
    assert_gone(family, seconds=30)
