"""The programs of the stack, as the supervisor keeps them, and the environment they share."""

import itertools
import os
import signal
import socket
import sys
from pathlib import Path

import httpx

from errata.places import benchmark_folder, default_cache_folder
from errata.stack.child import Child, Command
from errata.stack.door import base_url
from errata.stack.folder import DataFolder
from errata.stack.kept import Program, growing
from errata.stack.options import Options
from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey

LOOK = 2.0  # seconds that one look at the API may take
DRAIN = 60.0  # seconds a worker has to end its step and put its order back
# Exit codes of workers; see workers/main.py.
FENCED, CANNOT_LOAD, HUNG = 3, 4, 5
ENDS = {
    FENCED: "lost the model to another worker",
    CANNOT_LOAD: "could not load the model",
    HUNG: "hung in a step of an order",
}
LOADS = 4  # a model that could not be loaded so often in a row is given up


def environment(
    options: Options, folder: DataFolder, url: str, urls: tuple[str, str]
) -> dict[str, str]:
    """Give the ERRATA_* settings of the API and the workers; what the caller set stays."""
    database_url, redis_url = urls
    roots = [os.environ.get("ERRATA_MODEL_ROOTS", "")]
    roots += [str(path) for path in map(local_path, options.models) if path]
    data = os.environ.get("ERRATA_DATA_ROOTS") or str(benchmark_folder().absolute())
    given = {
        "ERRATA_DATA_ROOTS": data,
        "ERRATA_DATABASE_URL": database_url,
        "ERRATA_REDIS_URL": redis_url,
        "ERRATA_DATA_DIR": str(folder.path),
        "ERRATA_CACHE_DIR": os.environ.get("ERRATA_CACHE_DIR") or str(default_cache_folder()),
        "ERRATA_HOST": options.host,
        "ERRATA_PORT": url.rpartition(":")[2],
        "ERRATA_MODEL_ROOTS": os.pathsep.join(filter(None, roots)),
    }
    if options.device:
        given["ERRATA_DEVICE"] = options.device
    if options.dtype:
        given["ERRATA_DTYPE"] = options.dtype
    if options.log_json:
        given["ERRATA_LOG_JSON"] = "true"
    return given


def local_path(source: str) -> Path | None:
    """Give the path that a source names on this machine; a bare word is never one."""
    path = Path(source).expanduser()
    looks_so = "/" in source or source.endswith(".gguf")
    return path.absolute() if looks_so and path.exists() else None


def postgres(server: Postgres) -> Program:
    """Postgres, prepared before its first start."""

    def start() -> Child:
        server.prepare()
        return server.start()

    return Program(name=server.name, start=start, answers=server.answers, leave=server.leave)


def valkey(server: Valkey) -> Program:
    """Valkey, prepared before its first start."""

    def start() -> Child:
        server.prepare()
        return server.start()

    return Program(name=server.name, start=start, answers=server.answers, leave=server.leave)


def api(folder: DataFolder, door: socket.socket, environ: dict[str, str]) -> Program:
    """Describe the API; it answers when it, the database and the queue do."""
    url = base_url(door)

    def start() -> Child:
        return Child(
            Command(
                argv=[sys.executable, "-m", "errata.stack.api", "--fd", str(door.fileno())],
                cwd=folder.path,
                log=folder.log("api"),
                environ=environ,
                fds=(door.fileno(),),
            )
        )

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=LOOK).is_success
        except httpx.HTTPError:
            return False

    return Program(name="api", start=start, answers=answers)


def worker(folder: DataFolder, model: str, environ: dict[str, str]) -> Program:
    """Describe the worker of one model."""

    def start() -> Child:
        return Child(
            Command(
                argv=[sys.executable, "-m", "workers.main", "--model", model],
                cwd=folder.path,
                log=folder.log(f"worker-{model}"),
                environ=environ,
                stop_signal=signal.SIGTERM,
                patience=DRAIN,
            )
        )

    failures = itertools.count(
        1
    )  # counted here: loading may take longer than a death is remembered

    def pause(deaths: int, code: int) -> float | None:
        nonlocal failures
        if code != CANNOT_LOAD:
            failures = itertools.count(1)
            return growing(deaths, first=0.5, longest=60.0)
        # What could not be loaded will hardly load a second later.
        failed = next(failures)
        return None if failed >= LOADS else growing(failed, first=5.0)

    return Program(
        name=model,
        start=start,
        required=False,
        pause=pause,
        ends=ENDS,
        farewell=f"given up; mend that, then `errata models --retry {model}`",
    )
