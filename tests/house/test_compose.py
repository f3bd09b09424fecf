"""The compose file starts programs that exist, with settings that are read."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from app.store import migrate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]


def test_every_setting_is_one_that_is_read(services: dict[str, Any]) -> None:
    known = {f"ERRATA_{name.upper()}" for name in Settings.model_fields}
    for name in ("migrate", "api", "worker"):
        assert set(services[name]["environment"]) <= known


def test_every_module_it_runs_is_there(services: dict[str, Any]) -> None:
    files = [
        (ROOT / "docker" / f"{part}.Dockerfile").read_text("utf-8") for part in ("api", "worker")
    ]
    assert "app.main:create_app" in files[0]
    assert "workers.main" in files[1]
    modules = [services["migrate"]["command"][2], "app.main", "workers.main"]
    assert all(find_spec(module) for module in modules)


def test_what_the_images_copy_is_there() -> None:
    for file in (ROOT / "docker").glob("*.Dockerfile"):
        copies = [
            line.split()[1:-1]
            for line in file.read_text("utf-8").splitlines()
            if line[:4] == "COPY"
        ]
        assert all((ROOT / source).exists() for sources in copies for source in sources)


def test_its_migration_job_brings_an_empty_database_to_head(
    services: dict[str, Any], empty_postgres_url: str
) -> None:
    command = [sys.executable, *services["migrate"]["command"][1:]]
    environ = {**os.environ, "ERRATA_DATABASE_URL": empty_postgres_url}
    subprocess.run(command, check=True, cwd=ROOT, env=environ)
    assert migrate.at_head(empty_postgres_url)
