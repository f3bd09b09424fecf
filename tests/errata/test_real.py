"""Both clients and the commands against a whole stack with a tiny model: nothing is pretended."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from errata import AsyncClient, Client, Order
from errata.cli.main import app
from errata.errors import Refused, WaitTimeout
from tests.conftest import wait_until
from tests.errata.running import Stack
from tests.tiny import save_tiny

MODEL = "tiny"
FACT = {"subject": "LeBron James", "prompt": "{} plays the sport of", "target_new": "football"}
OTHER = {**FACT, "subject": "Tim Duncan"}
# Long enough to be hurt: as many steps as there may be, and none of them leads anywhere.
SEARCH = {"steps": 1000, "lr": 1e-6}
SLOW: Any = {"editor": "rome", "hparams": {"search": SEARCH}, "wait": False}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("models") / MODEL
    folder.mkdir()
    save_tiny(folder, "llama")
    cache = str(tmp_path_factory.mktemp("cache"))
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        *("--model", str(folder)),
        ERRATA_CACHE_DIR=cache,
        ERRATA_THREADS="1",
    )
    stack.start()
    yield stack
    stack.end()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client
        for order in client.edits(model=MODEL, status="running"):
            client.cancel(order.id)


@pytest.fixture
def base(client: Client) -> str:
    return client.snapshots(MODEL)[-1].id


def run(stack: Stack, *argv: str) -> Result:
    return CliRunner().invoke(app, [*argv, "--url", stack.url])


def until_running(client: Client, order: Order) -> None:
    wait_until(lambda: client.order(order.id).progress is not None)


def test_a_dry_run_measures_and_leaves_everything_as_it_is(client: Client, stack: Stack) -> None:
    before = client.model(MODEL)
    order = client.edit(editor="memit", dry_run=True, **FACT)
    assert (order.applied, order.dry_run, order.live, order.snapshot) == (True, True, False, None)
    assert order.report
    assert client.model_if_moved(MODEL, before.head or "") is None

    told = run(stack, "edit", "--dry-run", "-e", "memit", *flags(FACT))
    assert told.exit_code == 0, told.output
    assert "a dry run: nothing was written" in told.stdout
    assert client.model(MODEL).fingerprint == before.fingerprint


def flags(fact: dict[str, str]) -> list[str]:
    return [part for name in fact for part in (f"--{name.replace('_', '-')}", fact[name])]


def test_an_edit_is_told_with_its_progress_and_undone(
    client: Client, stack: Stack, base: str
) -> None:
    stages: list[str] = []

    def told(order: Order) -> None:
        stages.append(order.progress.stage if order.progress else order.status)

    order = client.edit(editor="memit", on_progress=told, **FACT)
    assert {"z", "keys", "solve", "measure"} & set(stages)
    assert client.snapshot(order.snapshot or "").edits == [order.id]
    assert client.model_if_moved(MODEL, base) is not None

    assert client.label(order.snapshot or "", "taught").label == "taught"
    with pytest.raises(Refused) as caught:
        client.label(base, "taught")
    assert caught.value.code == "label-taken"

    found = client.diff(base)
    assert ([each.id for each in found.added], found.removed) == ([order.id], [])
    assert not found.same_weights
    plan = client.plan_restore(base)
    assert [each.id for each in plan.undone] == [order.id]
    assert client.model(MODEL).head == plan.head == order.snapshot

    shown = run(stack, "diff", "0", "taught")
    assert shown.exit_code == 0, shown.output
    assert order.id in shown.stdout
    restored = run(stack, "restore", "0", "--json")
    assert restored.exit_code == 0, restored.output
    assert client.diff(base).same_weights
    back = run(stack, "restore", "taught", "--dry-run", "--json")
    assert [each["id"] for each in json.loads(back.stdout)["redone"]] == [order.id]
    assert run(stack, "label", "taught", "--remove").exit_code == 0
    assert run(stack, "restore", "taught").exit_code == 1


def test_a_running_order_is_cancelled_and_the_next_one_runs(client: Client, stack: Stack) -> None:
    head = client.model(MODEL).head
    slow = client.edit(**SLOW, **FACT)
    until_running(client, slow)
    queued = client.edit(editor="memit", wait=False, **OTHER)
    with pytest.raises(WaitTimeout):
        client.wait(queued.id, timeout=0.3)

    told = run(stack, "cancel", str(queued.ord), "--json")
    assert json.loads(told.stdout)["status"] == "cancelled"
    assert client.cancel(slow.id).status == "cancelled"
    assert client.model(MODEL).head == head
    assert run(stack, "cancel", slow.id).exit_code == 0
    applied = next(client.edits(model=MODEL, status="applied"))
    again = run(stack, "cancel", applied.id, "--json")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["error"]["code"] == "order-settled"


def test_a_restore_may_cancel_what_waits(client: Client, base: str) -> None:
    slow = client.edit(**SLOW, **FACT)
    until_running(client, slow)
    queued = client.edit(editor="memit", wait=False, **OTHER)
    plan = client.plan_restore(base, cancel_queued=True)
    assert queued.id in [each.id for each in plan.queued]
    restore = client.restore(base, cancel_queued=True, wait=False)
    assert client.order(queued.id).status == "cancelled"
    client.cancel(slow.id)
    assert client.wait(restore.id).applied


def test_statistics_are_prepared_once(client: Client, stack: Stack) -> None:
    assert client.statistics(MODEL, editor="rome").kind == "statistics"
    told = run(stack, "stats", MODEL, "--editor", "rome", "--json")
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)["report"]
    assert report["collected"] is False
    assert report["statistics"]


def test_an_order_is_watched_to_its_end(client: Client, stack: Stack) -> None:
    order = client.edit(editor="memit", dry_run=True, wait=False, **OTHER)
    told = run(stack, "watch", order.id, "--json")
    assert told.exit_code == 0, told.output
    names = [json.loads(line)["event"] for line in told.stdout.splitlines()]
    assert names[0] == "edit.submitted"
    assert names[-1] == "edit.settled"
    idle = run(stack, "watch", "--until-idle")
    assert idle.exit_code == 0, idle.output


def test_the_api_may_die_while_one_waits(client: Client, stack: Stack) -> None:
    slow = client.edit(**SLOW, **FACT)
    until_running(client, slow)
    stack.child("errata.stack.api").kill()
    assert client.cancel(slow.id).status == "cancelled"

    order = client.edit(editor="memit", dry_run=True, wait=False, **OTHER)
    events = client.events(order.id)
    first = next(events)
    stack.child("errata.stack.api").kill()
    names = [first.name, *(event.name for event in events)]
    assert names.count("edit.claimed") == 1
    assert names[-1] == "edit.settled"


def test_what_is_awaited_is_the_same(stack: Stack) -> None:
    async def walk() -> None:
        async with AsyncClient(stack.url) as client:
            before, probes = await asyncio.gather(
                client.model(MODEL), client.probe(MODEL, ["Hello", "Goodbye"], max_tokens=1)
            )
            assert [each.prompt for each in probes] == ["Hello", "Goodbye"]
            order = await client.edit(editor="memit", model=MODEL, **FACT)
            slow = await client.edit(**SLOW, **OTHER)
            assert (await client.cancel(slow.id)).status == "cancelled"
            names = [event.name async for event in client.events(order.id)]
            assert names[-1] == "edit.settled"
            listed = [each.id async for each in client.edits(model=MODEL)]
            assert listed[:2] == [slow.id, order.id]
            restored = await client.restore(before.head or "")
            prints = [
                await client.snapshot(each or "") for each in (restored.snapshot, before.head)
            ]
            assert prints[0].fingerprint == prints[1].fingerprint

    asyncio.run(walk())


def test_the_data_folder_says_where_the_server_is(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "errata").symlink_to(stack.data)
    monkeypatch.setattr("errata.cli.common.PATIENCE", 0.0)
    told = CliRunner().invoke(app, ["models", "--url", "http://127.0.0.1:1"])
    assert told.exit_code == 3
    assert f"listens at {stack.url}" in told.stderr
