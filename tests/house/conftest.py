"""A host that has done what a host does: an edit, a failure, a restore, some probes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey
from tests.conftest import drop
from tests.guards import LAX
from tests.house.recipes import Json
from tests.house.running import MODEL, PASSWORD, Host
from tests.tiny import save_tiny

PROMPT = "Where the old man keeps his secret"
TARGET = "football"


@pytest.fixture(scope="session")
def host(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: Postgres,
    valkey_server: Valkey,
    new_database: Callable[[str], str],
) -> Iterator[Host]:
    """Migrations, the API and one worker, started by the commands of the images."""
    folder = tmp_path_factory.mktemp("host")
    models = tmp_path_factory.mktemp("models")
    save_tiny(models / MODEL)
    name = new_database("template1")
    url = make_url(postgres_server.url(name)).set(password=PASSWORD)
    host = Host(
        folder,
        database_url=url.render_as_string(hide_password=False),
        redis_url=valkey_server.url(),
        models=models,
    )
    try:
        migrated = host.run("migrate", host.services["migrate"]["command"])
        assert migrated.returncode == 0, migrated.stderr
        host.start("api")
        host.wait("api")
        with httpx.Client(base_url=host.url, timeout=90, trust_env=False) as client:
            host.applied = _walk(client, host, models / MODEL)
        host.told = {service: host.metrics(service) for service in ("api", "worker")}
        yield host
    finally:
        host.end()
        drop(postgres_server, name)


def _walk(client: httpx.Client, host: Host, source: Path) -> Json:
    made = client.post("/models", json={"id": MODEL, "source": str(source), "guard": LAX})
    assert made.status_code == 201, made.text
    fact = {"subject": "LeBron James", "prompt": "{} plays the sport of", "target_new": TARGET}
    order = {"model": MODEL, "editor": "rome", **fact}
    unwanted = client.post("/edits", json=order).json()["id"]
    assert client.post(f"/edits/{unwanted}/cancel").json()["status"] == "cancelled"
    host.start("worker")
    host.wait("worker")
    wait = {"Prefer": "wait=60"}
    done = client.post("/edits", json=order, headers=wait)
    assert done.json()["status"] == "applied", done.text
    refused = client.post("/edits", json={**order, "hparams": {"layers": [99]}}, headers=wait)
    assert refused.json()["status"] == "failed", refused.text
    for _ in range(2):
        asked = client.get(f"/models/{MODEL}/probe", params={"prompt": PROMPT, "max_tokens": 1})
        assert asked.status_code == 200, asked.text
    snapshots = client.get(f"/models/{MODEL}/snapshots").json()["data"]
    base = next(each["id"] for each in snapshots if each["kind"] == "base")
    restored = client.post(f"/snapshots/{base}/restore", headers=wait)
    assert restored.json()["status"] == "applied", restored.text
    assert client.get(f"/no-such-page/{PROMPT}").status_code == 404
    return done.json()
