"""docs/client.md: every snippet runs, one after another, on a whole stack with a tiny model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from errata.cli import common
from tests.errata.running import Stack

GUIDE = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```(python|bash)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("language", "snippet"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs(standing: Stack, language: str, snippet: str) -> None:
    for word in ('"Kyoto"', '"Fe"', '"Lyon"'):  # random weights cannot be taught every word
        snippet = snippet.replace(word, '"football"')
    environ = {**os.environ, "ERRATA_URL": standing.url}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    argv = [sys.executable, "-"] if language == "python" else ["bash", "-euo", "pipefail", "-s"]
    told = subprocess.run(
        argv, input=snippet, capture_output=True, text=True, check=False, env=environ, timeout=240
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_there_are_snippets_of_both_kinds() -> None:
    assert {language for language, _ in SNIPPETS} == {"python", "bash"}


def test_the_exit_codes_are_those_of_the_commands() -> None:
    table = GUIDE.partition("| exit code | meaning |")[2].partition("\n\n")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert codes == {0, common.FAILED, 2, common.NO_SERVER, common.NOT_YET, common.INTERRUPTED}
