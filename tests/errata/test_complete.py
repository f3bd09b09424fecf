"""What a shell is offered: asked as a shell asks, of a server that answers and of none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from errata.cli.main import app
from tests.errata.answers import EDT, SNP, editor, model, order, page, snapshot
from tests.errata.serving import serving

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    answers: dict[str, Any] = {
        "/models": page(model(), model(id="other", status="loading")),
        "/models/m/snapshots": page(snapshot(1, label="before-launch"), snapshot(0)),
        "/editors": {"data": [editor()]},
        "/edits": page(order("queued", 3), order("running", 2), order("applied", 1)),
    }
    with serving(answers) as (url, _):
        yield url


def offered(line: str, url: str) -> list[str]:
    """What bash is told; the last word of the line is the one that is being written."""
    *words, last = line.split(" ")
    environ = {
        "COMP_WORDS": " ".join([*words, last]),
        "COMP_CWORD": str(len(words)),
        "_ERRATA_COMPLETE": "complete_bash",
        "ERRATA_URL": url,
    }
    return CliRunner().invoke(app, [], env=environ, prog_name="errata").stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("errata ca", ["cancel"]),
        ("errata snapshots --model ", ["m", "other"]),
        ("errata stats o", ["other"]),
        ("errata edit --editor r", ["rome"]),
        ("errata restore ", ["before-launch", f"{SNP}2", f"{SNP}1"]),
        ("errata restore -m m b", ["before-launch"]),
        ("errata diff 0 bef", ["before-launch"]),
        ("errata probe Hello --snapshot b", ["before-launch"]),
        ("errata cancel ", [f"{EDT}3", f"{EDT}2"]),
        ("errata watch ", ["m", "other", f"{EDT}3", f"{EDT}2"]),
        ("errata edits --status a", ["applied"]),
    ],
)
def test_what_is_there_is_offered(url: str, line: str, words: list[str]) -> None:
    assert offered(line, url) == words


def test_an_address_on_the_line_is_asked(url: str) -> None:
    assert offered(f"errata stats --url {url} o", NOWHERE) == ["other"]


@pytest.mark.parametrize("line", ["errata restore ", "errata edit --editor ", "errata cancel e"])
@pytest.mark.parametrize("nobody", [NOWHERE, "no address"])
def test_without_a_server_nothing_is_offered_and_nothing_said(line: str, nobody: str) -> None:
    assert offered(line, nobody) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    # A new process: the shell is looked for when the command is built.
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = "from errata.cli.main import app; app(prog_name='errata')"
    argv = [sys.executable, "-c", script, "--show-completion", shell]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, env=environ, timeout=60)
    assert f"_ERRATA_COMPLETE=complete_{shell}" in told.stdout
