"""One host, run by the commands of its images and compose files: migrations, API, one worker."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx

from tests.conftest import wait_until
from tests.house.recipes import CPU, ROOT, Image, Json, compose

PASSWORD = "pa55-never-to-be-said"  # noqa: S105 - of a server that asks for none
MODEL = "tiny"
# What the files say of other machines and folders, and of the ports that the tests choose.
_OF_THE_TESTS = {"ERRATA_THREADS": "1", "ERRATA_POLL_S": "0.3", "OMP_NUM_THREADS": "1"}


class Host:
    """The parts of the CPU variant as processes, with the environment that the files give them."""

    def __init__(self, folder: Path, *, database_url: str, redis_url: str, models: Path) -> None:
        self.folder = folder
        self.ports = {"api": _free_port(), "worker": _free_port()}
        given = {"ERRATA_DATABASE_PASSWORD": PASSWORD, "ERRATA_MODEL": MODEL}
        self.services = compose(CPU, given)["services"]
        self._elsewhere = {
            "ERRATA_DATABASE_URL": database_url,
            "ERRATA_REDIS_URL": redis_url,
            "ERRATA_DATA_DIR": str(folder / "data"),
            "ERRATA_MODEL_ROOTS": str(models),
            "ERRATA_WORKER_METRICS_PORT": str(self.ports["worker"]),
            "HF_HOME": str(folder / "huggingface"),
        }
        self.applied: Json = {}  # the edit of the walk
        self.told: dict[str, str] = {}  # scraped once the walk was done
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    def environ(self, service: str) -> dict[str, str]:
        """What a container of this service sees, but for where things lie."""
        image: Mapping[str, str] = Image("worker" if service == "worker" else "api").environ
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ERRATA_")}
        said = {**image, **self.services[service]["environment"]}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        where = {k: v for k, v in self._elsewhere.items() if k in said}
        # With a proxy around, as on many hosts: nobody may ask it for what is here.
        proxy = {"http_proxy": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT), "PATH": path}
        return {**clean, **said, **where, **proxy, **_OF_THE_TESTS}

    def run(self, service: str, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """Run one command as in a container of this service, and wait for its end."""
        port = str(self.ports["api"])
        argv = [part.replace("8642", port) for part in argv]
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environ(service),
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, service: str) -> None:
        """Start a service with the command that its container runs."""
        argv = Image(service).argv + self.services[service].get("command", [])
        with (self.folder / f"{service}.log").open("ab") as log:
            self._running[service] = subprocess.Popen(
                [part.replace("8642", str(self.ports["api"])) for part in argv],
                cwd=self.folder,
                env=self.environ(service),
                stdout=log,
                stderr=log,
            )

    def check(self, service: str) -> subprocess.CompletedProcess[str]:
        """Run the health check of a service."""
        kind, *argv = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run(service, argv)

    def wait(self, service: str) -> None:
        """Wait until a service answers as it does when it is well."""

        def well() -> bool:
            assert self._running[service].poll() is None, self.said(service)
            with suppress(httpx.HTTPError):
                if service == "api":
                    return httpx.get(f"{self.url}/readyz", trust_env=False).is_success
                return "errata_model_ready{" in (text := self.metrics(service)) and (
                    f'errata_model_ready{{model="{MODEL}"}} 1.0' in text
                )
            return False

        wait_until(well, lambda: self.said(service), seconds=90)

    def stop(self, service: str) -> int:
        """End a service as Docker does, and give its exit code."""
        process = self._running.pop(service)
        process.terminate()
        return process.wait(60)

    def end(self) -> None:
        """Leave nothing behind."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def metrics(self, service: str) -> str:
        """Scrape a service as Prometheus does."""
        url = f"http://127.0.0.1:{self.ports[service]}/metrics"
        return httpx.get(url, trust_env=False).raise_for_status().text

    def said(self, service: str) -> str:
        """What a service has logged."""
        return (self.folder / f"{service}.log").read_text("utf-8")

    def events(self) -> list[Json]:
        """Every line that API and worker have logged. Raises ValueError where one is no JSON."""
        lines = "".join(self.said(service) for service in ("api", "worker")).splitlines()
        return [json.loads(line) for line in lines]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
