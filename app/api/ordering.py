"""How every order is taken: once per key, committed, then 202, or 200 to those who wait."""

from collections.abc import Callable, Mapping

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from app.api.deps import House
from app.api.follow import until_settled
from app.api.schemas import Json, OrderOut
from app.services import edits, idempotency
from app.services.idempotency import Answer
from app.store.db import Tx
from app.store.tables import Edit

RESPONSES: Mapping[int | str, Json] = {
    200: {"model": OrderOut, "description": "Settled while the caller waited."},
    202: {
        "model": OrderOut,
        "description": "In the journal. Follow `Location`.",
        "headers": {"Location": {"schema": {"type": "string"}}},
    },
}


async def take(
    house: House,
    request: Request,
    order: Callable[[Tx], Edit],
    *,
    key: str | None,
    about: object,
    wait: float,
) -> JSONResponse:
    """Journal an order and answer it. `about` is what makes two requests the same."""
    body_hash = idempotency.request_hash(request.method, request.url.path, about)

    def journal() -> Answer:
        with house.database.tx() as tx:
            return idempotency.once(tx, key, body_hash, lambda: order(tx), _shown)

    answer = await run_in_threadpool(journal)
    headers = {"Location": f"/edits/{answer.edit}"}
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    if wait <= 0:
        return JSONResponse(answer.body, status_code=202, headers=headers)
    edit = await until_settled(house, request, answer.edit, wait)
    settled = edit.status in edits.SETTLED
    headers["Preference-Applied"] = f"wait={wait:g}"
    return JSONResponse(_shown(edit), status_code=200 if settled else 202, headers=headers)


def _shown(edit: Edit) -> Json:
    return OrderOut.of(edit).model_dump(mode="json")
