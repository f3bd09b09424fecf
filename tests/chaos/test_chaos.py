"""The storm, short: a few of everything. `python -m tests.chaos` is the long one."""

from pathlib import Path

from tests.chaos.__main__ import EDITORS
from tests.chaos.oracle import Verdict, judge
from tests.chaos.storm import Forecast, Storm
from tests.chaos.world import World, world

FORECAST = Forecast(orders=30, kills=4, freezes=1, outages=2, seed=5, editors=EDITORS)


def test_a_short_storm_loses_nothing(servers_folder: Path) -> None:
    folder = servers_folder / "storm"
    folder.mkdir()
    with world(folder) as made:
        storm = Storm(made, FORECAST)
        storm.rage()
        verdict = judged(made, storm)
        assert [*storm.wrong, *storm.books.refused, *verdict.wrong] == []
        assert len(storm.books.orders) == FORECAST.orders
        # On a fast machine the orders may be over before the last blow's turn comes.
        assert storm.counts.total() == sum((4, 1, 2, 2)), storm.counts
        assert storm.counts["missed"] <= 2
        assert verdict.counts["answers"] > 0
        assert verdict.counts["applied"] > FORECAST.orders / 2
        the_judge_is_not_blind(made, storm)


def the_judge_is_not_blind(made: World, storm: Storm) -> None:
    """What has not happened is made up, and must be found."""
    key, order = storm.books.orders.popitem()
    assert set(judged(made, storm).counts) & {"lost", "twice"} == {"twice"}
    storm.books.orders[key] = order
    storm.books.orders["another"] = "edt_never"
    storm.books.answers[0]["top"][0]["p"] += 0.01
    made.queue.sql(
        "UPDATE snapshots SET fingerprint = 'sha256:other' WHERE seq = (SELECT max(seq) / 2 FROM "
        "snapshots)"
    )
    made.queue.sql(
        "UPDATE edits SET settled_at = now() WHERE ord = (SELECT min(ord) FROM edits WHERE "
        "status = 'applied')"
    )
    found = judged(made, storm).counts
    assert {"lost", "half", "different", "out of order"} <= set(found)


def judged(made: World, storm: Storm) -> Verdict:
    return judge(made.database, storm.books, made.tiny, made.cache)
