"""Evals: have a model measured, follow that, read what was found."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.api.bodies import EvalIn
from app.api.body import storable
from app.api.deps import After, House, HouseDep, IdempotencyKeyDep, Limit, TxDep, WaitDep
from app.api.eval_schemas import EvalOut, EvalRowsOut, EvalStatus, SuiteOut
from app.api.problems import problems
from app.api.schemas import EventOut, Json, Listed
from app.errors import (
    BadHeader,
    BadMatch,
    DataNotAllowed,
    DataNotFound,
    EvalNotFound,
    EvalSettled,
    KeyInFlight,
    KeyReused,
    ModelNotFound,
    ModelRequired,
    NoEditorNeeded,
    NoRecords,
    NothingMeasured,
    PlotNotFound,
    QueueFull,
    SnapshotNotFound,
    SnapshotNotMeasured,
    SnapshotOfAnotherModel,
    TooManyRows,
)
from app.services import data, evals, idempotency, models, pictures
from app.services.data import Named
from app.services.idempotency import Answer
from app.store.db import Tx
from app.store.tables import Eval
from editing.errors import (
    BadRecord,
    BadRequest,
    EmptyField,
    InvalidHparam,
    NonFiniteValue,
    TooManyRequests,
    UnknownDataset,
    UnknownEditor,
    UnknownHparam,
    UnknownSuite,
)
from editing.evals.catalogue import SUITES, suite

PROGRESS = "eval.progress"
LOOK_S = 0.5
MEDIA = {"png": "image/png", "svg": "image/svg+xml"}

router = APIRouter(tags=["evals"])


@router.get("/suites")
def list_suites() -> Listed[SuiteOut]:
    """List every kind of measurement, with a JSON schema of its options."""
    return Listed(data=[SuiteOut.of(each) for each in SUITES.values()])


@router.post(
    "/evals",
    status_code=202,
    response_model=EvalOut,
    responses={
        200: {"model": EvalOut, "description": "Settled while the caller waited."},
        202: {
            "model": EvalOut,
            "description": "In the journal. Follow `Location`.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problems(
            BadHeader,
            ModelNotFound,
            SnapshotNotFound,
            KeyInFlight,
            QueueFull,
            ModelRequired,
            SnapshotOfAnotherModel,
            KeyReused,
            NoRecords,
            NoEditorNeeded,
            DataNotAllowed,
            DataNotFound,
            UnknownSuite,
            UnknownDataset,
            BadRecord,
            BadRequest,
            EmptyField,
            NonFiniteValue,
            TooManyRequests,
            UnknownEditor,
            UnknownHparam,
            InvalidHparam,
        ),
    },
)
async def submit_eval(
    *,
    body: Annotated[EvalIn, Body()],
    request: Request,
    house: HouseDep,
    key: IdempotencyKeyDep,
    wait: WaitDep,
) -> JSONResponse:
    """Have a snapshot of a model measured; the head when none is named.

    Measuring changes nothing: what a suite edits are states on the side. It is done in the time
    that orders leave, case after case, and every case is kept as it is done.
    """
    about = [body.model_dump(exclude_unset=True)]
    body_hash = idempotency.request_hash(request.method, request.url.path, about)

    def journal() -> Answer:
        with house.database.tx() as tx:
            return idempotency.once(
                tx,
                key,
                body_hash,
                # Read inside: a file that has gone since changes no answer that was given.
                lambda: evals.submit(
                    tx, house.blobs, _checked(house, body), max_waiting=house.settings.max_evals
                ),
                lambda made: _shown(tx, [made])[0].model_dump(mode="json"),
            )

    answer = await run_in_threadpool(journal)
    headers = {"Location": f"/evals/{answer.made}"}
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    if wait <= 0:
        return JSONResponse(answer.body, status_code=202, headers=headers)
    headers["Preference-Applied"] = f"wait={wait:g}"
    seen = await _until_settled(house, request, answer.made, wait)
    settled = seen is not None and seen["status"] in evals.SETTLED
    return JSONResponse(seen or answer.body, status_code=200 if settled else 202, headers=headers)


@router.get("/evals", responses=problems(EvalNotFound, ModelNotFound))
def list_evals(
    *,
    tx: TxDep,
    after: After = None,
    limit: Limit = 50,
    model: Annotated[str | None, Query()] = None,
    suite: Annotated[str | None, Query()] = None,
    status: Annotated[EvalStatus | None, Query()] = None,
) -> Listed[EvalOut]:
    """List evals, newest first."""
    page = evals.page(tx, after=after, limit=limit, model=model, suite=suite, status=status)
    return Listed(data=_shown(tx, page.data), has_more=page.has_more, next=page.next)


@router.get("/evals/{eval_id}", responses=problems(EvalNotFound))
def get_eval(eval_id: str, tx: TxDep) -> EvalOut:
    """Look at one eval: how far it is, and, once it has ended, what all its rows say together."""
    return _shown(tx, [evals.get(tx, eval_id)])[0]


@router.get("/evals/{eval_id}/rows", responses=problems(EvalNotFound, BadMatch))
def list_rows(
    eval_id: str,
    tx: TxDep,
    after: Annotated[
        int, Query(ge=-1, le=2**62, description="The `next` of the page before.")
    ] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    match: Annotated[
        str | None,
        Query(
            max_length=2_000,
            description='A JSON object: only rows that hold all these fields, `{"case": 3}`.',
        ),
    ] = None,
) -> EvalRowsOut:
    """Read what was found, row by row, also while it is being measured."""
    found, more = evals.rows(tx, eval_id, after=after, limit=limit, match=_match(match))
    last = str(found[-1].number) if more else None
    return EvalRowsOut(data=[row.data for row in found], has_more=more, next=last)


@router.post(
    "/evals/{eval_id}/cancel",
    responses=problems(EvalNotFound, EvalSettled),
)
def cancel_eval(eval_id: str, tx: TxDep) -> EvalOut:
    """Stop an eval between two of its steps. What it has measured stays, and is summed up."""
    return _shown(tx, [evals.cancel(tx, eval_id)])[0]


@router.get(
    "/evals/{eval_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": f"`{PROGRESS}` as cases are done, then `eval.settled`.",
            "content": {"text/event-stream": {"schema": EventOut.model_json_schema()}},
        },
        **problems(EvalNotFound),
    },
)
async def follow_eval(eval_id: str, house: HouseDep) -> EventSourceResponse:
    """Follow an eval until it is settled."""
    await run_in_threadpool(_look, house, eval_id)
    return EventSourceResponse(_events(house, eval_id), ping=15)


@router.get(
    "/evals/{eval_id}/plot/{name}",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "content": {kind: {} for kind in MEDIA.values()}},
        **problems(EvalNotFound, PlotNotFound, SnapshotNotMeasured, NothingMeasured, TooManyRows),
    },
)
def plot_eval(
    eval_id: str,
    name: str,
    house: HouseDep,
    format: Annotated[Literal["png", "svg"], Query()] = "png",  # noqa: A002 - the API's word
    snapshot: Annotated[
        str | None, Query(description="Which of several that were measured; else the first.")
    ] = None,
) -> Response:
    """Draw what was measured; also while the eval goes on."""
    with house.database.tx() as tx:
        found = evals.get(tx, eval_id)
        pictures.require_plot(found, name, snapshot)
        shown = pictures.material(tx, found)
    drawn = pictures.draw(found, shown, name, format, snapshot)
    return Response(drawn, media_type=MEDIA[format])


@router.get(
    "/evals/{eval_id}/report",
    response_class=Response,
    responses={
        200: {"description": "One page, with its pictures in it.", "content": {"text/html": {}}},
        **problems(EvalNotFound, NothingMeasured, TooManyRows),
    },
)
def report_eval(eval_id: str, house: HouseDep) -> Response:
    """Tell all of an eval on one self-contained page."""
    with house.database.tx() as tx:
        found = evals.get(tx, eval_id)
        shown = pictures.material(tx, found)
    return Response(pictures.report(found, shown), media_type="text/html; charset=utf-8")


# ---- small parts ---------------------------------------------------------------------------------


def _checked(house: House, body: EvalIn) -> evals.EvalOrder:
    """Everything that can be wrong with an eval, found before anything is written."""
    kind = suite(body.suite)
    limit = house.settings.max_records
    records, named = body.records, None
    if (records is None) == (body.data is None) and kind.needs_records:
        raise NoRecords(kind.name, list(kind.datasets))
    if body.data is not None:
        named = Named(**body.data.model_dump())
        records = data.read(named, house.settings.data_roots, at_most=limit)
        for number, record in enumerate(records):
            _require_storable(number, record, named.name)
    if records is not None and len(records) > limit:
        raise TooManyRequests(count=len(records), limit=limit)
    return evals.checked(
        kind.name,
        records or [],
        options=body.options,
        editor=body.editor,
        hparams=body.hparams,
        data=named.to_dict() if named else {"records": len(records or [])},
        model=body.model,
        snapshots=body.snapshots or ([body.snapshot] if body.snapshot else []),
    )


def _require_storable(number: int, record: Json, dataset: str) -> None:
    """What a body cannot hold, a file cannot either. Raises BadRecord."""
    try:
        storable(record)
    except ValueError as error:
        raise BadRecord(number, why=f"{error}.", dataset=dataset) from error


def _match(text: str | None) -> Json | None:
    if text is None:
        return None
    try:
        found: Any = storable(json.loads(text))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadMatch(text)
    return found


def _shown(tx: Tx, rows: Sequence[Eval]) -> list[EvalOut]:
    """Show evals, and of those that nobody takes, why."""
    blocked = models.blocked(tx, rows)
    return [EvalOut.of(each, blocked=blocked.get(each.id)) for each in rows]


def _look(house: House, eval_id: str) -> EvalOut:
    with house.database.tx() as tx:
        return _shown(tx, [evals.get(tx, eval_id)])[0]


async def _until_settled(
    house: House, request: Request, eval_id: str, seconds: float
) -> Json | None:
    deadline, seen = time.monotonic() + seconds, None
    while True:
        with suppress(SQLAlchemyError):  # it may be back in time
            seen = await run_in_threadpool(_look, house, eval_id)
        left = deadline - time.monotonic()
        if left <= 0 or (seen and seen.status in evals.SETTLED) or await request.is_disconnected():
            return None if seen is None else seen.model_dump(mode="json")
        await asyncio.sleep(min(left, LOOK_S))


async def _events(house: House, eval_id: str) -> AsyncIterator[ServerSentEvent]:
    told: tuple[Any, ...] | None = None
    while True:
        try:
            seen = await run_in_threadpool(_look, house, eval_id)
        except SQLAlchemyError:
            await asyncio.sleep(LOOK_S)
            continue
        settled = seen.status in evals.SETTLED
        if (now := (seen.status, seen.progress.done)) != told:
            told = now
            said = {"eval": eval_id, "status": seen.status, **seen.progress.model_dump()}
            name = "eval.settled" if settled else PROGRESS
            yield ServerSentEvent(json.dumps(said), event=name, id=str(seen.progress.done))
        if settled:
            return
        await asyncio.sleep(LOOK_S)
