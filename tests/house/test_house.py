"""What the house promises of itself: sizes, pages, and one table for each kind of thing."""

import ast
import re
from pathlib import Path

import pytest

from editing.catalogue import METHODS
from editing.knobs import schema
from editing.tuned import TUNED

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "workers", "editing", "errata", "migrations", "benchmarks")


def python_files() -> list[Path]:
    return [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def test_no_file_is_two_files() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in python_files()
        if (lines := len(file.read_text("utf-8").splitlines())) > 400
    }
    assert long == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in python_files()
        if (text := file.read_text("utf-8")) and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_page_its_paper_and_its_rows(name: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text("utf-8")
    assert METHODS[name].paper in page
    assert name in TUNED
    assert schema(name)["properties"]


def test_no_page_describes_a_method_that_is_not_there() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")}
    assert pages - {"README"} == set(METHODS)


def test_decisions_are_numbered_and_short() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert {p.name: n for p in pages if (n := len(p.read_text("utf-8").splitlines())) > 60} == {}


def test_redis_keys_are_named_in_one_file() -> None:
    pattern = re.compile(r"""["']f?(edits|probes|probe-reply|progress|settled|worker):""")
    strays = [
        str(file.relative_to(ROOT))
        for file in python_files()
        if file.name != "streams.py" and pattern.search(file.read_text("utf-8"))
    ]
    assert strays == []
