"""One worker process: `python -m workers.main --model ID`. Settings come from ERRATA_*.

Exit codes
    0  asked to stop (SIGTERM; the order in hand is back in the queue), or the model was removed
    1  a mistake in the worker itself; the log has its traceback
    2  a setting that means nothing
    3  fenced: another worker has the model
    4  the model could not be loaded, or its weights are not those of its lineage
    5  a step hung beyond its budget
"""

import argparse
import os
import sys
from collections.abc import Sequence

import structlog
import torch

from app import logs
from app.settings import Settings
from workers.failpoints import UnknownFailPoint
from workers.worker import CRASHED, MISSET, Worker

log = structlog.stdlib.get_logger()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one worker."""
    parser = argparse.ArgumentParser(prog="python -m workers.main", description=__doc__)
    parser.add_argument("--model", required=True, help="id of a registered model")
    model: str = parser.parse_args(argv).model
    settings = Settings()
    logs.configure(settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        return Worker(settings, model).run()
    except UnknownFailPoint as error:
        log.error("worker.misset", model=model, detail=str(error))  # noqa: TRY400 - no mistake of ours
        return MISSET
    except Exception:
        log.exception("worker.crashed", model=model)
        return CRASHED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is put away by now; the interpreter would take torch apart for seconds.
    os._exit(code)
