"""The document and the service say the same: schemathesis asks everything that can be asked.

Against the real app on real servers, over a socket. `ERRATA_SCHEMATHESIS=500` makes the run a long
one, of that many examples for each endpoint.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from errata.stack.door import base_url, open_door
from tests.app.crew import Crew
from tests.app.hands import Hands
from tests.conftest import wait_until

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = os.environ.get("ERRATA_SCHEMATHESIS", "5")


@pytest.fixture
def settled(hands: Hands) -> str:
    """An order that has come to its end: its events have one, too."""
    hands.edit()
    return hands.edit()[0]


@pytest.fixture
def ended(hands: Hands, client: TestClient) -> str:
    """An eval that has come to its end."""
    fact = {"subject": "France", "prompt": "The capital of {} is", "attribute": "Paris"}
    body = {"suite": "tracing", "model": hands.model, "records": [fact]}
    asked = client.post("/evals", json=body).json()["id"]
    client.post(f"/evals/{asked}/cancel")
    return str(asked)


@pytest.fixture
def served(hands: Hands, settings: Settings, settled: str) -> Iterator[str]:
    """The URL of a service that listens, with hands for whatever is ordered."""
    assert settled
    hasty = settings.model_copy(update={"max_wait_s": 0.5, "probe_deadline_s": 2.0})
    with open_door("127.0.0.1", 0) as door:
        server = uvicorn.Server(
            uvicorn.Config(create_app(hasty), log_level="warning", timeout_graceful_shutdown=2)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        wait_until(lambda: server.started)
        with Crew(hands.database, settings.redis_url).at_work():
            yield base_url(door)
        server.should_exit = True
        thread.join()


@pytest.mark.timeout(3600)  # as long as one has asked for
def test_no_answer_surprises_schemathesis(
    served: str, settled: str, ended: str, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    # Ids cannot be guessed.
    known = '[[operations]]\ninclude-path = "/edits/{edit_id}/events"\n'
    known += f'parameters = {{ edit_id = "{settled}" }}\n'
    known += '[[operations]]\ninclude-path = "/evals/{eval_id}/events"\n'
    known += f'parameters = {{ eval_id = "{ended}" }}\n'
    config.write_text(f"{CONFIG.read_text('utf-8')}\n{known}", "utf-8")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{served}/openapi.json", "--max-examples", EXAMPLES),
            *("--generation-deterministic", "--seed", "1"),
            *("--continue-on-failure", "--no-color", "--request-timeout", "10"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    print(ran.stdout[ran.stdout.find("SUMMARY") :])  # noqa: T201  (shown by pytest -s)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Tested: 35" in ran.stdout


def test_every_refusal_is_in_the_document(standing: TestClient) -> None:
    """Those that belong to no endpoint alone, too."""
    paths = standing.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            responses = operation["responses"]
            expected = {"405", "422"}
            if "requestBody" in operation:
                expected |= {"400", "413", "415"}
            if "{" in path:
                expected |= {"404"}
            if path not in {"/healthz", "/metrics", "/editors", "/suites"}:
                expected |= {"503"}
            assert expected <= set(responses), (method, path)
            for status, header in (
                ("429", "Retry-After"),
                ("503", "Retry-After"),
                ("405", "Allow"),
            ):
                assert status not in responses or header in responses[status]["headers"]
    orders = [
        paths["/edits"]["post"],
        paths["/models/{model_id}/statistics"]["post"],
        paths["/models/{model_id}/compact"]["post"],
        paths["/edits/{edit_id}/retract"]["post"],
        paths["/snapshots/{snapshot_id}/restore"]["post"],
    ]
    for operation in orders:
        assert {"200", "202", "409", "429"} <= set(operation["responses"])
