"""The supervisor is killed with orders in its workers' hands; the next one goes on where it was."""

from pathlib import Path

import httpx
import pytest

from tests.chaos.customers import HPARAMS, PROMPT, SPORTS, SUBJECTS
from tests.conftest import wait_until
from tests.errata.running import Stack
from tests.guards import LAX
from tests.tiny import save_tiny

pytestmark = pytest.mark.slow


def test_killed_with_orders_in_hand_it_loses_none(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    tiny = save_tiny(tmp_path / "tiny")
    stack = Stack(tmp_path, "--model", str(tiny), ERRATA_THREADS="1")
    stack.start()
    httpx.patch(f"{stack.url}/models/tiny", json={"guard": LAX}).raise_for_status()
    bodies = [
        {"subject": subject, "prompt": PROMPT, "target_new": sport, "editor": "memit"}
        for sport in SPORTS
        for subject in SUBJECTS
    ]
    with httpx.Client(base_url=stack.url) as client:
        edits = [client.post("/edits", json={**b, "hparams": HPARAMS}).json()["id"] for b in bodies]
        wait_until(lambda: client.get(f"/edits/{edits[0]}").json()["status"] == "applied")
    stack.kill()
    stack.start()
    try:
        with httpx.Client(base_url=stack.url) as client:

            def shown() -> list[dict[str, object]]:
                return [client.get(f"/edits/{edit}").json() for edit in edits]

            wait_until(lambda: all(one["settled_at"] for one in shown()), stack.logs, seconds=60)
            assert [one["status"] for one in shown()] == ["applied"] * len(edits)
            assert [one["ord"] for one in shown()] == list(range(1, len(edits) + 1))
            listed = client.get("/models/tiny/snapshots", params={"limit": 100}).json()["data"]
            made = [snapshot["edit"] for snapshot in sorted(listed, key=lambda s: s["seq"])]
            assert made == [None, *(one["id"] for one in shown() if not one["noop"])]
    finally:
        stack.end()
