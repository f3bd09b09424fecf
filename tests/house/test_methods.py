"""What is said of the methods in the catalogue, in the READMEs and in the log of measurements."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from editing.catalogue import METHODS
from editing.measured import MODELS
from editing.source import NAMED

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "methods"
LOG = (ROOT / "benchmarks" / "LOG.md").read_text("utf-8")
USUAL = "smollm2-135m"  # what a benchmark loads when no model is named
SECTION = re.compile(r"^## ", re.MULTILINE)
NAMING = re.compile(r"(?:--model|^ *model) ([a-z0-9.-]+)", re.MULTILINE)
PRINTED = re.compile(r"^ +([a-z0-9-]+) +(?:single|sequence|batch) +\d", re.MULTILINE)


def rows(text: str, first: str) -> Iterator[dict[str, str]]:
    """The rows of the Markdown tables that have a column of this name."""
    heads: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = cells
        elif first in heads and not set(line) <= set("|-: "):
            yield dict(zip(heads, cells, strict=True))


def logged() -> dict[str, set[str]]:
    """The models that the log has rows of, by method."""
    found: dict[str, set[str]] = {}
    for section in SECTION.split(LOG):
        named = NAMING.findall(section)
        usual = named[0] if len(set(named)) == 1 else USUAL
        for row in rows(section, "method"):
            method = row["method"].split(",")[0]
            found.setdefault(method, set()).add(row.get("model", usual))
        for method in PRINTED.findall(section):
            found.setdefault(method, set()).add(usual)
    return {method: models for method, models in found.items() if method in METHODS}


def test_a_method_was_run_on_the_models_that_the_log_has_rows_of() -> None:
    assert {method: set(models) for method, models in MODELS.items()} == logged()
    assert all(list(models) == sorted(models) for models in MODELS.values())
    assert {name for models in MODELS.values() for name in models} <= set(NAMED)


def test_the_table_of_methods_is_that_of_the_catalogue() -> None:
    table = {row["method"]: row for row in rows((PAGES / "README.md").read_text("utf-8"), "method")}
    assert list(table) == [f"[`{name}`]({name}.md)" for name in METHODS]
    for name, one in METHODS.items():
        row = table[f"[`{name}`]({name}.md)"]
        assert row["family"] == one.family
        assert one.paper in row["paper"]
        assert row["writes"] == (", ".join(one.writes) or "nothing"), name
        assert row["remembers"] == one.memory
        assert row["taken back"] == one.retract
        assert row["when to use it"]


def test_the_first_page_names_every_method() -> None:
    table = list(rows((ROOT / "README.md").read_text("utf-8"), "editor"))
    assert [row["editor"] for row in table] == [
        f"[`{name}`](docs/methods/{name}.md)" for name in METHODS
    ]
    for row, one in zip(table, METHODS.values(), strict=True):
        assert one.paper in row["paper"]


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_remembers_is_said_where_it_remembers(name: str) -> None:
    assert METHODS[name].remembers == (METHODS[name].memory != "nothing")


@pytest.mark.parametrize("name", METHODS)
def test_a_page_says_what_the_log_says(name: str) -> None:
    section = next(each for each in SECTION.split(LOG) if each.startswith("editors, "))
    alone, in_a_row = (row for row in rows(section, "method") if row["method"] == name)
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text("utf-8")
    told = page.partition("**Measured.**")[2]
    for row in (alone, in_a_row):
        after = {part: row[part].rpartition("-> ")[2] for part in ("ES", "PS", "NS")}
        scores = ", ".join(f"{part} {value}" for part, value in after.items())
        assert f"S {row['S [95 %]']}, {scores}" in told
