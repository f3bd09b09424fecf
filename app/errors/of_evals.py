"""What can go wrong with an eval, besides what is wrong with its records."""

from .base import Conflict, NotFound, WrongInput


class EvalNotFound(NotFound):
    """No eval has this id."""

    code = "eval-not-found"

    def __init__(self, eval_id: str) -> None:
        super().__init__(f"There is no eval {eval_id!r}. GET /evals lists them.", eval=eval_id)


class PlotNotFound(NotFound):
    """This eval has no such picture."""

    code = "plot-not-found"

    def __init__(self, plot: str, *, known: list[str]) -> None:
        has = f"It has {', '.join(known)}" if known else "Its suite has none"
        super().__init__(f"This eval has no picture {plot!r}. {has}.", plot=plot, known=known)


class SnapshotNotMeasured(NotFound):
    """The eval has measured others."""

    code = "snapshot-not-measured"

    def __init__(self, snapshot: str, *, measured: list[str]) -> None:
        super().__init__(
            f"This eval does not measure the snapshot {snapshot!r}, but {', '.join(measured)}.",
            snapshot=snapshot,
            measured=measured,
        )


class TooManyRows(Conflict):
    """What an eval has found is too much for one picture or page."""

    code = "too-many-rows"

    def __init__(self, *, eval_id: str, rows: int, limit: int) -> None:
        super().__init__(
            f"{eval_id} has {rows} rows; pictures and pages are made of at most {limit}. Read the "
            "rows in pages, /rows, or measure in smaller parts.",
            eval=eval_id,
            rows=rows,
            limit=limit,
        )


class NoRecords(WrongInput):
    """An eval that does not say what to measure."""

    code = "no-records"

    def __init__(self, suite: str, datasets: list[str]) -> None:
        super().__init__(
            "Give `records` inline, or `data` with the name of a dataset that the suite "
            f"{suite} reads: {', '.join(datasets)}. Not both.",
            suite=suite,
            datasets=datasets,
        )


class DataNotAllowed(WrongInput):
    """A path that lies below no folder the operator has named."""

    code = "data-not-allowed"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} does not lie below a folder that this server reads data from. The operator "
            "names those in ERRATA_DATA_ROOTS; or send the records themselves.",
            path=path,
        )


class DataNotFound(WrongInput):
    """No file is where the data should be."""

    code = "data-not-found"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"There is no data at {path!r} below the folders that this server reads. `errata data "
            "ls` says what is where; or send the records themselves.",
            path=path,
        )


class BadMatch(WrongInput):
    """A filter of rows that is no JSON object."""

    code = "bad-match"

    def __init__(self, match: str) -> None:
        super().__init__(
            'match is no JSON object. Send fields with their values, such as {"case": 3}.',
            match=match,
        )


class NoEditorNeeded(WrongInput):
    """An editor for a suite that edits nothing."""

    code = "no-editor-needed"

    def __init__(self, suite: str) -> None:
        super().__init__(
            f"The suite {suite} measures a model as it is. Leave `editor` and `hparams` out, or "
            "choose a suite that edits (GET /suites says which).",
            suite=suite,
        )


class EvalSettled(Conflict):
    """The eval has ended, so there is nothing to cancel."""

    code = "eval-settled"

    def __init__(self, *, eval_id: str, status: str) -> None:
        super().__init__(
            f"The eval is {status} already; what it has measured is at /evals/{eval_id}/rows.",
            eval=eval_id,
            eval_status=status,
        )


class NothingMeasured(Conflict):
    """Nothing that could be drawn or told has been measured so far."""

    code = "nothing-measured"

    def __init__(self, *, eval_id: str, status: str) -> None:
        super().__init__(
            f"The eval is {status} and has no rows yet to draw. Follow /evals/{eval_id} and ask "
            "again when some of its cases are done.",
            eval=eval_id,
            eval_status=status,
        )


class CasesChanged(Conflict):
    """This version reads an eval's records as another number of cases than that which took it."""

    code = "cases-changed"

    def __init__(self, *, asked: int, found: int) -> None:
        super().__init__(
            f"The eval was taken with {asked} cases, and its records are read as {found} now. Ask "
            "for it again; what it has measured stays.",
            asked=asked,
            found=found,
        )
