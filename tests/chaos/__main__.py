"""The long run: `python -m tests.chaos --orders 1000 --kills 100 --freezes 10 --outages 5`.

Prints its counts, and ends with code 1 when an order was lost, applied twice or out of order, when
the lineage is not that of a clean replay, or when a probe was answered from a half-edited model.
"""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

# Before anybody imports torch: tiny models are slower, not faster, on many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.chaos.oracle import judge
from tests.chaos.storm import Forecast, Storm
from tests.chaos.world import world

EDITORS = ("rome", "r-rome", "memit", "memit-history")
VIOLATIONS = ("lost", "twice", "out of order", "different", "half", "failed without cause")


def main() -> int:
    """Make a world, let the storm go over it, and judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--freezes", type=int, default=10)
    parser.add_argument("--outages", type=int, default=5, help="of Postgres or Redis; the API too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--editors", default=",".join(EDITORS))
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    given = vars(parser.parse_args())
    keep, editors = given.pop("keep"), tuple(given.pop("editors").split(","))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="errata-chaos-", dir="/tmp"))  # short
    code = 1
    try:
        code = run(Forecast(**given, editors=editors), folder)
    finally:
        if keep or code:
            say(f"the logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


def run(forecast: Forecast, folder: Path) -> int:
    """Return 0 when nothing is wrong."""
    began = time.monotonic()
    with world(folder) as made:
        storm = Storm(made, forecast)
        storm.rage()
        raged = time.monotonic() - began
        verdict = judge(made.database, storm.books, made.tiny, made.cache)
    counts = {
        "orders": len(storm.books.orders),
        **{status: verdict.counts[status] for status in ("applied", "failed", "cancelled")},
        **{what: storm.counts[what] for what in ("kills", "freezes", "outages", "api", "missed")},
        "answers": verdict.counts["answers"],
        **{kind: verdict.counts[kind] for kind in VIOLATIONS},
        "seconds": round(raged),
        "judged in": round(time.monotonic() - began - raged),
    }
    for name, count in counts.items():
        say(f"{name:>22} {count}")
    wrong = [*storm.wrong, *storm.books.refused, *verdict.wrong]
    for what in wrong:
        say(f"WRONG {what}")
    return 1 if wrong else 0


def say(line: str) -> None:
    """Tell it now: a run takes long."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
