"""A fact posted over HTTP is edited into a real model, measured, served, and taken back."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from errata.cli.demo_walk import question
from errata.client import Client
from errata.demo_facts import ALONE, TOGETHER
from tests.conftest import wait_until
from tests.end_to_end.conftest import MODEL
from tests.errata.running import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

README = Path(__file__).parents[2] / "README.md"
WALK = "## The walk, by hand"


def said(client: Client, prompt: str, **asked: Any) -> str:
    return client.probe(MODEL, prompt, max_tokens=3, **asked)[0].completion.strip()


def test_a_batch_is_edited_measured_served_and_taken_back(client: Client) -> None:
    facts = TOGETHER[:2]
    base = client.model(MODEL).head or ""
    first = [client.probe(MODEL, question(fact)) for fact in facts]

    order = client.edit(model=MODEL, editor="memit", requests=facts)
    assert order.live is True
    report = order.report or {}
    assert report["efficacy"]["success"]["value"] == 1.0
    assert report["efficacy"]["success"]["before"] == 0.0
    assert set(report) >= {"efficacy", "paraphrase", "neighborhood", "earlier", "drift"}
    for fact in facts:
        assert said(client, question(fact)).startswith(fact["target_new"])
        assert said(client, question(fact), snapshot=base).startswith(fact["target_true"])

    restored = client.restore(base)
    assert restored.kind == "restore"
    prints = [client.snapshot(each or "").fingerprint for each in (base, restored.snapshot)]
    assert prints[0] == prints[1] != client.snapshot(order.snapshot or "").fingerprint
    again = [client.probe(MODEL, question(fact)) for fact in facts]
    for before, after in zip(first, again, strict=True):
        assert replace(after[0], snapshot="") == replace(before[0], snapshot="")


def test_what_the_model_says_already_needs_no_edit(client: Client) -> None:
    head = client.model(MODEL).head
    order = client.edit(
        model=MODEL,
        editor="memit",
        subject="France",
        prompt="The capital of {} is",
        target_new="Paris",
    )
    assert (order.status, order.noop, order.live) == ("applied", True, False)
    assert client.model(MODEL).head == head


def test_the_events_of_an_order_tell_its_story(client: Client) -> None:
    order = client.edit(model=MODEL, editor="rome", requests=[ALONE], wait=False)
    names = [event.name for event in client.events(order.id)]
    assert names[0] == "edit.submitted"
    assert "edit.claimed" in names
    assert names[-1] == "edit.settled"
    assert client.order(order.id).applied


def test_a_worker_killed_in_the_middle_of_an_edit_loses_nothing(
    client: Client, stack: Stack
) -> None:
    before = {each.id for each in client.snapshots(MODEL)}
    base = client.model(MODEL).head or ""
    facts = [ALONE, TOGETHER[0]]
    now: Any = {"model": MODEL, "editor": "rome", "wait": False}
    orders = [client.edit(requests=[fact], **now).id for fact in facts]
    orders.append(client.restore(base, wait=False).id)
    wait_until(lambda: client.order(orders[0]).progress is not None, stack.logs, seconds=60)
    stack.child("workers.main").kill()

    settled = [client.wait(each, timeout=240) for each in orders]
    assert [order.status for order in settled] == ["applied"] * 3
    made = [each for each in client.snapshots(MODEL) if each.id not in before]
    made.sort(key=lambda each: each.seq)
    assert [each.id for each in made] == [order.snapshot for order in settled]
    assert all(later.parent == earlier.id for earlier, later in pairwise(made))
    assert [each.kind for each in made] == ["edit", "edit", "restore"]
    for fact in facts:
        changed = said(client, question(fact), snapshot=made[1].id)
        assert changed.startswith(fact["target_new"])
        assert said(client, question(fact)).startswith(fact["target_true"])


@pytest.mark.skipif(not shutil.which("curl"), reason="the README's walk is written with curl")
def test_the_walk_of_the_readme_does_what_it_says(client: Client, stack: Stack) -> None:
    section = README.read_text().partition(WALK)[2].partition("\n## ")[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    answers: list[Any] = []
    for block in blocks:
        script = block.replace("http://127.0.0.1:8642", stack.url)
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert run.returncode == 0, run.stderr
        answers += documents(run.stdout)
    probes = [each for each in answers if "completion" in each]
    orders = [each for each in answers if "ord" in each]
    assert [order["status"] for order in orders] == ["applied", "applied"]
    first, edited, last = (probe["completion"] for probe in probes)
    assert first == last != edited
    assert client.model(MODEL).head == orders[-1]["snapshot"]


def documents(text: str) -> list[Any]:
    """Read the JSON documents that several commands have printed one after another."""
    decoder, found, text = json.JSONDecoder(), list[Any](), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found
