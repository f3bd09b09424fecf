"""Rates, S with its interval, the picture, and the line that says how far it is."""

import io
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.figure import draw
from benchmarks.measuring import fact_from, harmonic, intervals, rates
from benchmarks.progress import Progress, clock
from editing.metrics.counterfact import Compared, FactScores
from editing.model.scoring import Score


def compared(*, won: bool, greedy: bool = True) -> Compared:
    return Compared(Score(-1.0 if won else -3.0, 1, int(greedy)), Score(-2.0, 1, 0))


def fact(*, prompt: bool, paraphrases: int, neighbors: int) -> FactScores:
    """So many of two paraphrases and of four neighbors are won."""
    return FactScores(
        compared(won=prompt, greedy=False),
        [compared(won=number < paraphrases) for number in range(2)],
        [compared(won=number < neighbors) for number in range(4)],
    )


FACTS = [
    fact(prompt=True, paraphrases=2, neighbors=1),
    fact(prompt=True, paraphrases=1, neighbors=3),
    fact(prompt=False, paraphrases=0, neighbors=4),
    fact(prompt=True, paraphrases=1, neighbors=4),
]


def test_s_is_the_harmonic_mean_of_the_means() -> None:
    found = rates(FACTS)
    assert found == {"ES": 75.0, "PS": 50.0, "NS": 75.0, "EA": 0.0}
    assert harmonic(found) == pytest.approx(3 / (1 / 75 + 1 / 50 + 1 / 75))
    assert harmonic({**found, "PS": 0.0}) == 0


def test_intervals_hold_the_value_and_are_the_same_for_the_same_seed() -> None:
    found = intervals(FACTS, seed=1)
    values = {**rates(FACTS), "S": harmonic(rates(FACTS))}
    for name, (low, high) in found.items():
        assert 0 <= low < values[name] < high <= 100
    assert found == intervals(FACTS, seed=1)
    assert set(found) == {"S", "ES", "PS", "NS"}


def test_edits_are_drawn_not_prompts() -> None:
    """All prompts of an edit fare alike here, so the interval is that of two edits."""
    pair = [fact(prompt=True, paraphrases=count, neighbors=4) for count in (0, 2)]
    assert intervals(pair, seed=0)["PS"] == (0, 100)


def test_scores_come_back_from_json() -> None:
    assert [fact_from(asdict(one)) for one in FACTS] == FACTS


def test_a_picture_has_every_mode_and_copes_with_rows_that_failed(tmp_path: Path) -> None:
    done = {"n": 32, "S": 80.0, "S_low": 70.0, "S_high": 85.0, "PS": 90.0, "NS": 75.0}
    rows = [
        {"method": "unedited", "mode": "single", "family": "none", **done},
        {"method": "rome", "mode": "single", "family": "one layer", **done},
        {"method": "kn", "mode": "single", "family": "neurons", **done, "n": 8},
        {"method": "memit", "mode": "sequence", "family": "a band", **done},
        {"method": "mend", "mode": "single", "family": "learned", "error": "not trained"},
    ]
    assert draw(rows, "tiny", tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000
    assert not draw(rows[:1] + rows[-1:], "tiny", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_counts_what_was_done_now_and_speaks_every_ten_seconds() -> None:
    told, time = io.StringIO(), Clock()
    progress = Progress([10, 20], told, time)
    progress.begin("rome single")
    progress.tell(4)  # of an earlier run
    time.now = 5.0
    progress.tell(5)
    assert told.getvalue() == ""
    time.now = 10.0
    progress.tell(6, "z 3/25")
    line = told.getvalue()
    assert line.startswith("[1/2] rome single: 6/10")
    assert "0.20/s, 20s left, about 2m00s in all" in line
    assert "z 3/25" in line
    progress.begin("memit single")
    time.now = 20.0
    progress.tell(0)
    assert "[2/2] memit single: 0/20  no rate yet, about 3m20s in all" in told.getvalue()


def test_progress_rewrites_its_line_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    told = Terminal()
    progress = Progress([3], told, Clock())
    progress.begin("rome single")
    progress.tell(1)
    progress.tell(2)
    assert "\n" not in told.getvalue()
    assert told.getvalue().count("\r") == 2
    progress.say("something that stays")
    assert told.getvalue().endswith("\r\x1b[Ksomething that stays\n")


@pytest.mark.parametrize(("seconds", "text"), [(7.2, "7s"), (65, "1m05s"), (3725, "1h02m")])
def test_a_time_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert clock(seconds) == text
