"""Orders: hand one in, look at them, follow one."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.api import follow, ordering
from app.api.bodies import EditOrderIn, RetractIn
from app.api.deps import (
    After,
    House,
    HouseDep,
    IdempotencyKeyDep,
    IfMatchDep,
    Limit,
    TxDep,
    WaitDep,
)
from app.api.problems import problems
from app.api.schemas import EventOut, Listed, OrderOut, Status
from app.errors import (
    BadHeader,
    EditNotFound,
    EditNotLive,
    HeadMoved,
    KeyInFlight,
    KeyReused,
    ModelNotFound,
    ModelRequired,
    NoRequests,
    OrderSettled,
    QueueFull,
)
from app.queue.notices import Notice
from app.services import cancel, edits, retract, submit
from app.services.submit import EditOrder
from app.store.tables import JournalRow
from editing.errors import (
    EmptyField,
    InvalidGuard,
    InvalidHparam,
    NonFiniteValue,
    SubjectSlotMissing,
    TargetTooLong,
    TooManyRequests,
    UnknownEditor,
    UnknownHparam,
)

PROGRESS = "edit.progress"
LINE = "[0-9]{0,18}"

router = APIRouter(prefix="/edits", tags=["edits"])


@router.post(
    "",
    status_code=202,
    response_model=OrderOut,
    responses={
        **ordering.RESPONSES,
        **problems(
            BadHeader,
            ModelNotFound,
            KeyInFlight,
            HeadMoved,
            QueueFull,
            ModelRequired,
            NoRequests,
            KeyReused,
            SubjectSlotMissing,
            EmptyField,
            TargetTooLong,
            TooManyRequests,
            NonFiniteValue,
            UnknownEditor,
            UnknownHparam,
            InvalidHparam,
            InvalidGuard,
        ),
    },
)
async def submit_edit(
    *,
    body: Annotated[EditOrderIn, Body()],
    request: Request,
    house: HouseDep,
    key: IdempotencyKeyDep,
    if_match: IfMatchDep,
    wait: WaitDep,
) -> JSONResponse:
    """Write the order into the journal. The model changes later; follow `Location`.

    With `dry_run` it takes its place in the queue all the same, is computed and measured on the
    head it meets, and changes nothing: its `report` is what one wanted to know, also what the guard
    would do. An order that the guard does not let pass ends as `rejected`, with its report. One for
    a model that could not be loaded is taken and waits; `blocked` says why.
    """
    order = EditOrder(
        requests=body.facts(),
        model=body.model,
        editor=body.editor,
        hparams=body.hparams,
        if_match=if_match,
        dry_run=body.dry_run,
        guard=body.guard,
    )
    limits = house.settings
    return await ordering.take(
        house,
        request,
        lambda tx: submit.submit(
            tx, order, limit=limits.max_requests, max_queued=limits.max_queued
        ),
        key=key,
        about=[body.model_dump(exclude_unset=True), if_match],
        wait=wait,
    )


@router.get("", responses=problems(EditNotFound, ModelNotFound))
def list_edits(
    *,
    tx: TxDep,
    after: After = None,
    limit: Limit = 50,
    model: Annotated[str | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    subject: Annotated[str | None, Query(description="A subject, exactly.")] = None,
) -> Listed[OrderOut]:
    """List orders, newest first."""
    page = edits.page(tx, after=after, limit=limit, model=model, status=status, subject=subject)
    return Listed(data=ordering.shown(tx, page.data), has_more=page.has_more, next=page.next)


@router.get("/{edit_id}", responses=problems(EditNotFound))
def get_edit(edit_id: str, tx: TxDep) -> OrderOut:
    """Look at one order."""
    return ordering.shown(tx, [edits.get(tx, edit_id)])[0]


@router.post(
    "/{edit_id}/cancel",
    response_model=OrderOut,
    responses={
        200: {"model": OrderOut, "description": "Cancelled."},
        202: {
            **ordering.RESPONSES[202],
            "description": "It runs; its worker stops between two steps. Follow `Location`.",
        },
        **problems(BadHeader, EditNotFound, HeadMoved, OrderSettled),
    },
)
async def cancel_edit(
    edit_id: str, request: Request, house: HouseDep, if_match: IfMatchDep, wait: WaitDep
) -> JSONResponse:
    """Cancel an order of any kind, unless it is settled. The head stays where it is.

    Asking again while a living worker has it changes nothing; once that worker's lease has run
    out, the order is cancelled by whoever asks, or still waits here.
    """

    def again() -> None:
        with suppress(OrderSettled):
            _cancel(house, edit_id, None)

    order = await run_in_threadpool(_cancel, house, edit_id, if_match)
    said = order.model_dump(mode="json")
    if order.status in edits.SETTLED:
        return JSONResponse(said)
    return await ordering.follow_up(house, request, said, {}, wait, meanwhile=again)


@router.post(
    "/{edit_id}/retract",
    status_code=202,
    response_model=OrderOut,
    responses={
        **ordering.RESPONSES,
        **problems(
            BadHeader,
            EditNotFound,
            ModelNotFound,
            KeyInFlight,
            EditNotLive,
            HeadMoved,
            QueueFull,
            KeyReused,
        ),
    },
)
async def retract_edit(
    *,
    edit_id: str,
    request: Request,
    house: HouseDep,
    key: IdempotencyKeyDep,
    if_match: IfMatchDep,
    wait: WaitDep,
    body: RetractIn | None = None,
) -> JSONResponse:
    """Order that one edit, with all its requests, is taken out and the later ones are kept.

    Its report says how: `exact`, what there would be without it, or `dropped`, its delta left out
    while later edits were computed on weights that had it.
    """
    asked = body or RetractIn()
    return await ordering.take(
        house,
        request,
        lambda tx: retract.retract(
            tx,
            edit_id,
            if_match=if_match,
            dry_run=asked.dry_run,
            max_queued=house.settings.max_queued,
        ),
        key=key,
        about=[asked.model_dump(), if_match],
        wait=wait,
    )


@router.get(
    "/{edit_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events named as in the journal, with the ids of its lines, and "
            f"`{PROGRESS}` without an id. Ends when the order is settled.",
            "content": {"text/event-stream": {"schema": EventOut.model_json_schema()}},
        },
        **problems(EditNotFound, BadHeader),
    },
)
async def follow_edit(
    edit_id: str,
    house: HouseDep,
    last_event_id: Annotated[
        str | None,
        Header(
            description="Go on after this line of the journal.",
            json_schema_extra={"pattern": f"^{LINE}$"},
        ),
    ] = None,
) -> EventSourceResponse:
    """Follow an order as it happens, until it is settled."""
    await run_in_threadpool(_must_exist, house, edit_id)
    after = _line(last_event_id)
    return EventSourceResponse(_events(house, edit_id, after), ping=15)


async def _events(house: House, edit_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    async for happened in follow.happenings(house, edit_id, after):
        match happened:
            case JournalRow():
                said = {
                    "edit": edit_id,
                    "model": happened.model_id,
                    **happened.data,
                    "at": happened.at.isoformat(),
                }
                yield ServerSentEvent(json.dumps(said), event=happened.event, id=str(happened.id))
            case Notice():
                yield ServerSentEvent(json.dumps(happened.data), event=PROGRESS)


def _cancel(house: House, edit_id: str, if_match: str | None) -> OrderOut:
    with house.database.tx() as tx:
        return ordering.shown(tx, [cancel.request(tx, edit_id, if_match=if_match)])[0]


def _must_exist(house: House, edit_id: str) -> None:
    with house.database.tx() as tx:
        edits.get(tx, edit_id)


def _line(last_event_id: str | None) -> int:
    if not last_event_id:
        return 0
    if not re.fullmatch(LINE, last_event_id):
        raise BadHeader("Last-Event-ID", "Send the id of an event of this stream.")
    return int(last_event_id)
