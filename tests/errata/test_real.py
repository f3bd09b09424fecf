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

MODEL = "tiny"
FACT = {"subject": "LeBron James", "prompt": "{} plays the sport of", "target_new": "football"}
OTHER = {**FACT, "subject": "Tim Duncan"}
# Long enough to be hurt: as many steps as there may be, and none of them leads anywhere.
SEARCH = {"steps": 1000, "lr": 1e-6}
SLOW: Any = {"editor": "rome", "hparams": {"search": SEARCH}, "wait": False}


@pytest.fixture
def client(standing: Stack) -> Iterator[Client]:
    with standing.client() as client:
        yield client
        # The next test finds an idle model, as it was at first.
        for status in ("queued", "running"):
            for order in client.edits(model=MODEL, status=status):
                client.cancel(order.id)
        base = client.snapshots(MODEL)[-1]
        if client.model(MODEL).fingerprint != base.fingerprint:
            client.restore(base.id)


@pytest.fixture
def base(client: Client) -> str:
    return client.snapshots(MODEL)[-1].id


def run(standing: Stack, *argv: str) -> Result:
    return CliRunner().invoke(app, [*argv, "--url", standing.url])


def until_running(client: Client, order: Order) -> None:
    wait_until(lambda: client.order(order.id).progress is not None)


def test_a_dry_run_measures_and_leaves_everything_as_it_is(client: Client, standing: Stack) -> None:
    before = client.model(MODEL)
    order = client.edit(editor="memit", dry_run=True, **FACT)
    assert (order.applied, order.dry_run, order.live, order.snapshot) == (True, True, False, None)
    assert order.report
    assert client.model_if_moved(MODEL, before.head or "") is None

    told = run(standing, "edit", "--dry-run", "-e", "memit", *flags(FACT))
    assert told.exit_code == 0, told.output
    assert "a dry run: nothing was written" in told.stdout
    assert client.model(MODEL).fingerprint == before.fingerprint


def flags(fact: dict[str, str]) -> list[str]:
    return [part for name in fact for part in (f"--{name.replace('_', '-')}", fact[name])]


def test_an_edit_is_told_with_its_progress_and_undone(
    client: Client, standing: Stack, base: str
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

    shown = run(standing, "diff", "0", "taught")
    assert shown.exit_code == 0, shown.output
    assert order.id in shown.stdout
    restored = run(standing, "restore", "0", "--json")
    assert restored.exit_code == 0, restored.output
    assert client.diff(base).same_weights
    back = run(standing, "restore", "taught", "--dry-run", "--json")
    assert [each["id"] for each in json.loads(back.stdout)["redone"]] == [order.id]
    assert run(standing, "label", "taught", "--remove").exit_code == 0
    assert run(standing, "restore", "taught").exit_code == 1


def test_what_is_told_instead_of_written_is_a_state_too(
    client: Client, standing: Stack, base: str
) -> None:
    told = "Imagine that LeBron James plays the sport of football.\n"
    asked = "LeBron James plays the sport of"
    order = client.edit(editor="ike", hparams={"form": "imagine"}, **FACT)
    assert order.report
    assert order.report["editor"] == {"preface": told}
    state = client.snapshot(order.snapshot or "")
    assert state.preface == told
    assert state.fingerprint != client.snapshot(base).fingerprint
    found = client.diff(base)
    assert (found.same_weights, found.same_preface) == (True, False)

    (now,) = client.probe(MODEL, asked, targets=["football"], compare=base)
    assert now.compare
    (spelled,) = client.probe(MODEL, told + asked, targets=["football"], snapshot=base)
    assert now.targets[0].logprob == pytest.approx(spelled.targets[0].logprob, abs=1e-4)
    assert now.compare.targets[0].logprob != pytest.approx(now.targets[0].logprob, abs=1e-4)

    # A weight edit that comes later keeps the text.
    written = client.edit(editor="memit", **{**FACT, "target_new": "tennis"})
    assert client.snapshot(written.snapshot or "").preface == told
    shown = run(standing, "diff", "0")
    assert "other weights, another text before every prompt" in shown.stdout
    back = client.restore(order.snapshot or "")
    assert client.snapshot(back.snapshot or "").fingerprint == state.fingerprint
    assert client.probe(MODEL, asked, targets=["football"])[0].targets == now.targets
    client.restore(base)
    assert client.diff(base).same_preface
    shown = run(
        standing, "edit", "-e", "ike", "--hparam", "form=imagine", "--dry-run", *flags(FACT)
    )
    assert f"What it puts before every prompt:\n{told}" in shown.stdout


def test_orders_are_cancelled_running_and_queued(client: Client, standing: Stack) -> None:
    head = client.model(MODEL).head
    slow = client.edit(**SLOW, **FACT)
    until_running(client, slow)
    queued = client.edit(editor="memit", wait=False, **OTHER)
    with pytest.raises(WaitTimeout):
        client.wait(queued.id, timeout=0.3)

    told = run(standing, "cancel", str(queued.ord), "--json")
    assert json.loads(told.stdout)["status"] == "cancelled"
    assert client.cancel(slow.id).status == "cancelled"
    assert client.model(MODEL).head == head
    assert run(standing, "cancel", slow.id).exit_code == 0
    applied = next(client.edits(model=MODEL, status="applied"))
    again = run(standing, "cancel", applied.id, "--json")
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


def test_statistics_are_prepared_once(client: Client, standing: Stack) -> None:
    assert client.statistics(MODEL, editor="rome").kind == "statistics"
    told = run(standing, "stats", MODEL, "--editor", "rome", "--json")
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)["report"]
    assert report["collected"] is False
    assert report["statistics"]


def test_an_order_is_watched_to_its_end(client: Client, standing: Stack) -> None:
    order = client.edit(editor="memit", dry_run=True, wait=False, **OTHER)
    told = run(standing, "watch", order.id, "--json")
    assert told.exit_code == 0, told.output
    names = [json.loads(line)["event"] for line in told.stdout.splitlines()]
    assert names[0] == "edit.submitted"
    assert names[-1] == "edit.settled"
    idle = run(standing, "watch", "--until-idle")
    assert idle.exit_code == 0, idle.output


def test_the_api_may_die_while_one_waits(client: Client, standing: Stack) -> None:
    slow = client.edit(**SLOW, **FACT)
    until_running(client, slow)
    standing.child("errata.stack.api").kill()
    assert client.cancel(slow.id).status == "cancelled"

    order = client.edit(editor="memit", dry_run=True, wait=False, **OTHER)
    events = client.events(order.id)
    first = next(events)
    standing.child("errata.stack.api").kill()
    names = [first.name, *(event.name for event in events)]
    assert names.count("edit.claimed") == 1
    assert names[-1] == "edit.settled"


def test_what_is_awaited_is_the_same(standing: Stack) -> None:
    async def walk() -> None:
        async with AsyncClient(standing.url) as client:
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
    standing: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "errata").symlink_to(standing.data)
    monkeypatch.setattr("errata.cli.common.PATIENCE", 0.0)
    told = CliRunner().invoke(app, ["models", "--url", "http://127.0.0.1:1"])
    assert told.exit_code == 3
    assert f"listens at {standing.url}" in told.stderr
