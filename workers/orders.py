"""Which job an order of which kind is."""

from collections.abc import Callable, Mapping

from app.services.work import Claimed
from editing.run import Stopwatch
from workers.bench import Bench
from workers.compacting import run_compact
from workers.jobs import run_edit, run_restore, run_statistics
from workers.patience import Work
from workers.retracting import run_retract

RUN: Mapping[str, Callable[[Bench, Claimed, Stopwatch], Work[None]]] = {
    "edit": run_edit,
    "restore": run_restore,
    "retract": run_retract,
    "compact": run_compact,
    "statistics": run_statistics,
}
