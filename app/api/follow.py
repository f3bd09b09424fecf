"""Following one order to its end: what `Prefer: wait` and the event stream have in common.

The channels say when to look, the journal says what there is. Without Redis one looks once a
second all the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import structlog
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.api.deps import House
from app.queue import streams
from app.queue.notices import Ear, Notice
from app.services import edits
from app.store.tables import Edit, JournalRow

LOOK_S = 1.0

log = structlog.stdlib.get_logger()


async def until_settled(
    house: House,
    request: Request,
    edit_id: str,
    seconds: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> Edit | None:
    """Return the order once it is settled, or as it was last seen when the time is over.

    While the database is away nothing is seen; it may be back in time. `meanwhile` is done before
    every look.
    """
    deadline = time.monotonic() + seconds
    edit: Edit | None = None
    with house.notices.listen(edit_id) as ear:
        while True:
            with suppress(SQLAlchemyError):
                await run_in_threadpool(meanwhile)
                edit = await run_in_threadpool(_edit, house, edit_id)
            left = deadline - time.monotonic()
            settled = edit is not None and edit.status in edits.SETTLED
            if settled or left <= 0 or await request.is_disconnected():
                return edit
            look_at = time.monotonic() + min(left, LOOK_S)
            while (pause := look_at - time.monotonic()) > 0:
                notice = await _heard(ear, pause)
                if notice is not None and notice.kind == streams.SETTLED:
                    break


async def happenings(house: House, edit_id: str, after: int) -> AsyncIterator[JournalRow | Notice]:
    """Give the journal's lines of an order as they are written, and its progress in between.

    Ends after the last line of a settled order. While the database is away it only waits.
    """
    with house.notices.listen(edit_id) as ear:
        while True:
            lines, settled = await run_in_threadpool(_news, house, edit_id, after)
            for line in lines:
                after = line.id
                yield line
            if settled:
                return
            look_at = time.monotonic() + LOOK_S
            while (pause := look_at - time.monotonic()) > 0:
                notice = await _heard(ear, pause)
                if notice is None or notice.kind == streams.SETTLED:
                    break
                yield notice


async def _heard(ear: Ear, seconds: float) -> Notice | None:
    with suppress(TimeoutError):
        return await asyncio.wait_for(ear.get(), seconds)
    return None


def _edit(house: House, edit_id: str) -> Edit:
    with house.database.tx() as tx:
        return edits.get(tx, edit_id)


def _news(house: House, edit_id: str, after: int) -> tuple[list[JournalRow], bool]:
    """Read the new lines of an order, and whether there will be more."""
    try:
        with house.database.tx() as tx:
            # In this order: what was settled before the lines are read has all its lines.
            settled = edits.get(tx, edit_id).status in edits.SETTLED
            return list(edits.events(tx, edit_id, after=after)), settled
    except SQLAlchemyError as error:
        log.warning("database.away", edit=edit_id, error=str(error).splitlines()[0])
        return [], False
