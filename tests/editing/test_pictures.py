"""Pictures: drawn from rows, also from none, the same bytes each time, and what they show."""

import re
from typing import Any

import pytest

from editing.errors import BadRequest
from editing.pictures import FORMATS, PICTURES, drawn
from editing.pictures.page import page

Json = dict[str, Any]
VALUE = {
    "value": 0.5,
    "n": 4,
    "n_testable": 3,
    "clusters": 2,
    "low": 0.2,
    "high": 0.8,
    "before": 0.1,
}


def gram_row(fact: int, cosines: list[float]) -> Json:
    return {"fact": fact, "from": 0, "cosines": cosines, "question": "q", "subject": f"s{fact}"}


def pair(gradsim: float, gain: float, group: str) -> Json:
    return {"kind": "pair", "gradsim": gradsim, "gain": gain, "group": group, "case": 0}


TRACED = {
    "case": 0, "kind": "state", "window": None, "tokens": ["The", " Louvre", " is"],
    "span": [1, 2], "layers": [0, 2], "ie": [[0.0, 0.4, 0.1], [0.0, 0.2, 0.5]],
}  # fmt: skip
# One small example for each picture: its rows, and its summary.
EXAMPLES: dict[str, tuple[list[Json], Json]] = {
    "ripple": ([], {"values": {"logical_generalization": VALUE, "ripple_score": VALUE}}),
    "tracing": ([TRACED], {}),
    "tracing-roles": ([], {"tables": {"aie": {"rows": [["state", "last", 0, 0.3, 0.1, 0.5, 9]]}}}),
    "gain": (
        [pair(0.1, 1.0, "ripple"), pair(0.7, 5.0, "preserve")],
        {"fit": {"slope": 6.0, "intercept": 0.4}, "values": {"gradsim.gain.pearson": VALUE}},
    ),
    "gram": ([gram_row(0, [1.0, 0.3]), gram_row(1, [0.3, 1.0])], {}),
    "keys": (
        [
            {
                "row": "live",
                "weight": "w",
                "edits": ["edt_1", "edt_2"],
                "cosine": [[1, 0.3], [0.3, 1]],
            }
        ],
        {},
    ),
    "drift": ([], {"snapshots": [{"snapshot": f"snp_{n}", "values": {"kl": VALUE}} for n in "12"]}),
    "retention": ([], {"tables": {"retention": {"rows": [["same", 0, 1.0, 0.9, 1.0, 4, 2]]}}}),
    "sd": ([], {"tables": {"by_k": {"rows": [[2, "first", 0.5, 0.7, -20.0, -30.0, -9.0, 7]]}}}),
}


def test_every_picture_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_is_the_same_bytes_each_time(name: str, format: str) -> None:  # noqa: A002
    rows, summary = EXAMPLES[name]
    first, again = (drawn(name, rows, summary, title=name, format=format) for _ in range(2))
    assert first == again
    assert first.startswith(b"\x89PNG" if format == "png" else b"<?xml")


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_measured_yet_is_said_and_not_drawn(name: str) -> None:
    assert drawn(name, [], {}, title="", format="svg").startswith(b"<?xml")


def words(svg: bytes) -> str:
    """What a picture writes: matplotlib leaves it in comments beside the shapes of the letters."""
    return " ".join(re.findall(r"<!-- (.*?) -->", svg.decode()))


def test_corrupted_tokens_are_marked_in_a_trace() -> None:
    told = words(drawn("tracing", *EXAMPLES["tracing"], title="", format="svg"))
    assert "Louvre*" in told
    assert "The*" not in told


def test_the_line_says_its_slope_and_correlation() -> None:
    told = words(drawn("gain", *EXAMPLES["gain"], title="", format="svg"))
    assert "6.0 x + 0.40, Pearson 0.50" in told


def test_bars_say_how_many_tests_count() -> None:
    assert "(n = 3)" in words(drawn("ripple", *EXAMPLES["ripple"], title="", format="svg"))


@pytest.mark.parametrize(("name", "format"), [("tea", "png"), ("gain", "gif")])
def test_what_cannot_be_drawn_is_refused(name: str, format: str) -> None:  # noqa: A002
    with pytest.raises(BadRequest):
        drawn(name, [], {}, title="", format=format)


def test_a_page_holds_all_of_it_and_asks_for_nothing() -> None:
    rows, summary = EXAMPLES["gain"]
    told = {
        **summary,
        "failed": {"search-diverged": 2},
        "tables": {"t": {"columns": ["a"], "rows": [[None]]}},
    }
    picture = drawn("gain", rows, told, title="", format="svg").decode()
    text = page("<b>", {"model": "m"}, told, {"gain": picture}, [{"prompt": "<script>"}])
    assert text.count("<svg") == 1
    assert "search-diverged" in text
    assert "<script>" not in text
    assert "&lt;b&gt;" in text
    # Names of namespaces are no requests: nothing is loaded from anywhere.
    assert not re.findall(r'(?:src|href)="(?!#)', text)
