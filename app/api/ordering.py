"""How every order is taken: once per key, committed, then 202, or 200 to those who wait."""

from collections.abc import Callable, Mapping, Sequence

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from app.api.deps import House
from app.api.follow import until_settled
from app.api.schemas import Json, OrderOut
from app.services import edits, idempotency, models
from app.services.idempotency import Answer
from app.store.db import Tx
from app.store.tables import Edit

# What one does next with an order: OpenAPI calls that links.
_NEXT: Json = {
    name: {"operationId": operation, "parameters": {"edit_id": "$response.body#/id"}}
    for name, operation in (
        ("look", "get_edit"),
        ("cancel", "cancel_edit"),
        ("follow", "follow_edit"),
    )
}
RESPONSES: Mapping[int | str, Json] = {
    200: {"model": OrderOut, "description": "Settled while the caller waited."},
    202: {
        "model": OrderOut,
        "description": "In the journal. Follow `Location`.",
        "headers": {"Location": {"schema": {"type": "string"}}},
        "links": _NEXT,
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
            return idempotency.once(tx, key, body_hash, lambda: order(tx), lambda e: _said(tx, e))

    answer = await run_in_threadpool(journal)
    headers = {"Idempotent-Replayed": "true"} if answer.replayed else {}
    return await follow_up(house, request, answer.body, headers, wait)


async def follow_up(
    house: House,
    request: Request,
    order: Json,
    headers: Json,
    wait: float,
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> JSONResponse:
    """Answer 202 with a committed order, or what has become of it while the caller waited.

    The order is kept whatever happens from here on: a database that goes away now is no error of
    this request. `meanwhile` is done once at every look.
    """
    headers = {"Location": f"/edits/{order['id']}", **headers}
    if wait <= 0:
        return JSONResponse(order, status_code=202, headers=headers)
    headers["Preference-Applied"] = f"wait={wait:g}"
    seen = await until_settled(house, request, order["id"], wait, meanwhile)
    if seen is None:
        return JSONResponse(order, status_code=202, headers=headers)
    settled = seen.status in edits.SETTLED
    blocked = order.get("blocked") if not settled else None
    body = OrderOut.of(seen, blocked=blocked).model_dump(mode="json")
    return JSONResponse(body, status_code=200 if settled else 202, headers=headers)


def shown(tx: Tx, rows: Sequence[Edit]) -> list[OrderOut]:
    """Show orders: of those that nobody takes, why; of edits that are gone, by which order."""
    blocked, gone = models.blocked(tx, rows), edits.taken_out_by(tx, rows)
    return [
        OrderOut.of(
            edit,
            blocked=blocked.get(edit.id),
            taken_out_by=gone[edit.id].order if edit.id in gone else None,
        )
        for edit in rows
    ]


def _said(tx: Tx, edit: Edit) -> Json:
    return shown(tx, [edit])[0].model_dump(mode="json")
