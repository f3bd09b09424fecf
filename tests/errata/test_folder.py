"""The data folder and the door: one stack at a time, and plain words for what is in the way."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from errata.places import Holder, default_data_folder, holder
from errata.stack.door import base_url, open_door
from errata.stack.errors import DataFolderBusy, DataFolderUnusable, PortTaken, StackError
from errata.stack.folder import LARGEST_LOG, DataFolder
from errata.stack.options import parse


def test_a_folder_belongs_to_one_at_a_time(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path / "data"), DataFolder(tmp_path / "data")
    first.take()
    with pytest.raises(DataFolderBusy, match=f"pid {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_whoever_holds_a_folder_tells_others_where_to_find_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert holder(tmp_path) is None
    folder.take()
    assert holder(tmp_path) == Holder(os.getpid(), None)
    folder.sign("http://127.0.0.1:1")
    assert holder(tmp_path) == Holder(os.getpid(), "http://127.0.0.1:1")
    folder.release()
    folder.take()
    assert holder(tmp_path) == Holder(os.getpid(), None)
    folder.release()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataFolderUnusable, match="--data-dir"):
        DataFolder(file).take()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_one_may_not_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataFolderUnusable, match="Permission denied"):
        DataFolder(tmp_path / "data").take()


def test_a_large_log_is_put_aside(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.log("api").parent.mkdir()
    with folder.log("api").open("wb") as log:
        log.truncate(LARGEST_LOG + 1)
    folder.take()
    folder.release()
    assert not folder.log("api").exists()
    assert folder.log("api").with_suffix(".log.1").exists()


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} of 127.0.0.1 is in use"):
            open_door("127.0.0.1", port)
        argv = [sys.executable, "-m", "errata.stack", "--port", str(port)]
        told = subprocess.run(
            [*argv, "--data-dir", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert told.returncode == 1
    assert told.stderr == (
        f"errata up: port {port} of 127.0.0.1 is in use; give another with --port\n"
    )


def test_a_host_that_is_not_ours_is_told() -> None:
    with pytest.raises(StackError, match="--host"):
        open_door("no-such-host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", None)],  # noqa: S104
)
def test_this_machine_reaches_the_door(host: str, name: str | None) -> None:
    with open_door(host, 0) as door:
        url = base_url(door)
        assert url.startswith("http://")
        assert name is None or name in url
        assert url.endswith(f":{door.getsockname()[1]}")


def test_flags_have_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    options = parse([])
    assert options.models == ("smollm2-135m",)
    assert (options.host, options.port) == ("127.0.0.1", 8642)
    assert options.data_dir == default_data_folder() == Path("/data/errata")
    assert parse(["--model", "a", "--model", "b", "--model", "a"]).models == ("a", "b")


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--port", port])
    assert "is no port" in capsys.readouterr().err


def test_a_missing_package_is_told_with_what_to_install() -> None:
    script = (
        "import sys, runpy; sys.modules['psycopg'] = None; sys.argv = ['errata up'];"
        "runpy.run_module('errata.stack', run_name='__main__')"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 1
    assert told.stderr == (
        'errata up: psycopg is not installed. The stack needs: pip install "errata[embedded]"\n'
    )
