"""Every suite is whole: it can be imported, drawn, read about, and fed."""

from dataclasses import is_dataclass
from pathlib import Path

import pytest

from editing.datasets.catalogue import DATASETS
from editing.entry import loaded
from editing.evals.catalogue import SUITES
from editing.knobs import filled
from editing.pictures import PICTURES

MEASURES = Path("docs/measures")
GUIDE = Path("docs/evals.md")
# What the project promises to measure.
PROMISED = {
    "efficacy", "counterfact", "zsre", "ripple", "gradsim", "correlation", "failures",
    "perturbation", "relation", "tracing", "keys", "drift",
}  # fmt: skip


def test_everything_that_was_promised_is_measured() -> None:
    assert set(SUITES) == PROMISED


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
class TestEverySuite:
    def test_its_code_is_where_the_table_says(self, suite) -> None:  # noqa: ANN001
        for entry in (suite.cases, suite.measure, suite.summarise):
            assert callable(loaded(entry))

    def test_its_options_have_defaults_that_are_allowed(self, suite) -> None:  # noqa: ANN001
        assert is_dataclass(suite.options)
        assert filled(suite.options, {}, of=suite.name) == suite.options()
        assert suite.schema["type"] == "object"

    def test_it_has_a_page_and_a_line_in_the_guide(self, suite) -> None:  # noqa: ANN001
        page = MEASURES / f"{suite.name}.md"
        assert len(page.read_text("utf-8").splitlines()) <= 60
        assert f"[`{suite.name}`](measures/{suite.name}.md)" in GUIDE.read_text("utf-8")

    def test_what_it_reads_and_draws_is_known(self, suite) -> None:  # noqa: ANN001
        assert set(suite.datasets) <= set(DATASETS)
        assert set(suite.plots) <= set(PICTURES)
        assert suite.datasets or not suite.needs_records

    def test_nothing_measured_is_summed_up_too(self, suite) -> None:  # noqa: ANN001
        told = loaded(suite.summarise)([], suite.options())
        assert all(value["value"] is None for value in told["values"].values() if value["n"] == 0)


def test_no_page_speaks_of_a_suite_that_is_not_there() -> None:
    assert {page.stem for page in MEASURES.glob("*.md")} == set(SUITES)


def test_every_picture_belongs_to_a_suite() -> None:
    assert {name for suite in SUITES.values() for name in suite.plots} == set(PICTURES)
    for entry in PICTURES.values():
        assert callable(loaded(entry))
