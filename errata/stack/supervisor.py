"""The supervisor: brings everything up in order, keeps it up, and takes it down again."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from errata.stack import parts
from errata.stack.bell import Bell
from errata.stack.door import base_url, open_door
from errata.stack.errors import StackError
from errata.stack.folder import DataFolder
from errata.stack.kept import Kept, Program
from errata.stack.options import Options
from errata.stack.postgres import Postgres
from errata.stack.say import Say
from errata.stack.valkey import Valkey
from errata.stack.workforce import Workforce

TICK = 0.1
IN_A_HURRY = 2  # so many signals mean: now


class Stopped(Exception):
    """Somebody asked us to stop."""


class Supervisor:
    """One run of the stack."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._say = Say(as_json=options.log_json)
        self._bell = Bell()
        self._folder = DataFolder(options.data_dir)
        self._kept: list[Kept] = []
        self._workforce: Workforce | None = None
        self._ready_file = options.ready_file and options.ready_file.absolute()

    def run(self) -> None:
        """Run until somebody asks us to stop, or the stack cannot be started."""
        with ExitStack() as stack, self._bell.hung():
            self._folder.take()
            stack.callback(self._folder.release)
            door = stack.enter_context(open_door(self._options.host, self._options.port))
            url = base_url(door)
            stack.callback(self._stop)
            self._forget_ready()
            self._say("stack.starting", "errata", f"data in {self._folder.path}")
            try:
                urls = self._start_servers()
                environ = parts.environment(self._options, self._folder, url, urls)
                models = self._prepare_database(urls[0], environ)
                worker = partial(parts.worker, self._folder, environ=environ)
                frozen = self._watch(urls[0], stack)
                self._workforce = Workforce(url, worker, self._say, frozen)
                self._workforce.engage(models)
                self._bring_up(parts.api(self._folder, door, environ))
                self._folder.sign(url)
                self._say("stack.listening", "errata", f"listens at {url}", url=url)
                self._serve(url, models, self._workforce)
            except Stopped:
                self._say("stack.stopping", "errata", "stopping; once more to hurry")

    def _start_servers(self) -> tuple[str, str]:
        """Give the URLs of the database and of the queue; start what was not given."""
        database_url = os.environ.get("ERRATA_DATABASE_URL")
        redis_url = os.environ.get("ERRATA_REDIS_URL")
        if not database_url:
            server = Postgres(self._folder.postgres, self._folder.log("postgres"))
            self._bring_up(parts.postgres(server))
            server.ensure_database()
            database_url = server.url()
        if not redis_url:
            queue = Valkey(self._folder.valkey, self._folder.log("valkey"))
            self._bring_up(parts.valkey(queue))
            redis_url = queue.url()
        return database_url, redis_url

    def _prepare_database(self, database_url: str, environ: Mapping[str, str]) -> list[str]:
        """Bring the schema to its head and register our models; give their ids."""
        from app.store.migrate import upgrade  # noqa: PLC0415 - heavy, and not needed to refuse
        from errata.stack.registry import register  # noqa: PLC0415 - likewise

        try:
            upgrade(database_url)
        except Exception as error:
            cause = str(error).strip().partition("\n")[0]
            message = f"the database cannot be brought to the newest schema: {cause}"
            raise StackError(message) from error
        self._say("migrations.head", "migrations", "the database has the newest schema")
        roots = filter(None, environ["ERRATA_MODEL_ROOTS"].split(os.pathsep))
        return register(database_url, self._options.models, list(map(Path, roots)))

    def _watch(self, database_url: str, stack: ExitStack) -> Callable[[str, int], bool]:
        """Have the leases looked at, until the end; give what tells a frozen worker."""
        from app.settings import Settings  # noqa: PLC0415 - heavy, and not needed to refuse
        from errata.stack.watchman import Watchman  # noqa: PLC0415 - likewise

        watchman = Watchman(database_url, Settings().lease_ttl_s)
        stack.callback(watchman.stop)
        watchman.start()
        return watchman.frozen

    def _serve(self, url: str, models: Sequence[str], workforce: Workforce) -> None:
        self._until(lambda: workforce.answering(models))
        lost = workforce.given_up(models)
        if self._ready_file:
            if lost:  # whoever waits for the file would wait for ever
                message = f"{', '.join(lost)} cannot be loaded; see {self._folder.path / 'logs'}"
                raise StackError(message)
            write_whole(self._ready_file, f"{url}\n")
        but = f", but without {', '.join(lost)}" if lost else ""
        text = f"ready at {url}{but} - Ctrl-C stops everything"
        self._say("stack.ready", "errata", text, url=url, lost=lost)
        self._until(lambda: False)

    def _bring_up(self, program: Program) -> None:
        kept = Kept(program, self._say)
        self._kept.append(kept)
        self._until(lambda: kept.up)

    def _until(self, true: Callable[[], bool]) -> None:
        """Look after everything until something is true."""
        while True:
            now = time.monotonic()
            for kept in self._kept:
                kept.tend(now)
            if self._workforce:
                self._workforce.tend(now)
            if self._bell.rings:
                raise Stopped
            if true():
                return
            self._bell.sleep(TICK)

    def _stop(self) -> None:
        """Workers first, all at once, so that they put back what they hold; databases last."""
        self._forget_ready()
        if self._workforce:
            workers = list(self._workforce)
            for kept in workers:
                kept.ask_to_stop()
            self._wait_for(workers)
            self._workforce.close()
        for kept in reversed(self._kept):
            kept.stop()
        if self._kept:
            self._say("stack.stopped", "errata", "everything is stopped")

    def _wait_for(self, workers: Sequence[Kept]) -> None:
        deadline = time.monotonic() + parts.DRAIN
        while any(kept.child and kept.child.alive() for kept in workers):
            if time.monotonic() > deadline or self._bell.rings >= IN_A_HURRY:
                break
            self._bell.sleep(TICK)
        for kept in workers:
            kept.stop(patience=0)

    def _forget_ready(self) -> None:
        if self._ready_file:
            try:
                self._ready_file.unlink(missing_ok=True)
            except OSError as error:
                message = f"the ready file {self._ready_file} cannot be used: {error.strerror}"
                raise StackError(message) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)
