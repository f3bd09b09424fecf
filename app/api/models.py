"""Models: register a base, look at one, take one out of service."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.api import ordering
from app.api.bodies import CompactIn, ModelChangeIn, ModelIn, StatisticsIn
from app.api.deps import (
    After,
    HouseDep,
    IdempotencyKeyDep,
    IfMatchDep,
    IfNoneMatchDep,
    Limit,
    TxDep,
    WaitDep,
)
from app.api.health_schemas import HealthOut
from app.api.problems import problems
from app.api.schemas import Listed, ModelOut, OrderOut, SnapshotOut
from app.errors import (
    BadHeader,
    BadModelId,
    CannotCompact,
    EditNotFound,
    EditOfAnotherModel,
    HeadMoved,
    KeyInFlight,
    KeyReused,
    ModelExists,
    ModelNotFound,
    NothingToCompact,
    QueueFull,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
    SourceNotAllowed,
    SourceNotFound,
)
from app.services import compact, health, models, prepare, snapshots
from app.store.db import Tx
from app.store.tables import Model
from editing.errors import BadSource, InvalidGuard, InvalidHparam, UnknownEditor, UnknownHparam

router = APIRouter(prefix="/models", tags=["models"])


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": ModelOut, "description": "Registered before, from the same source."},
        **problems(
            ModelExists, BadModelId, BadSource, SourceNotAllowed, SourceNotFound, InvalidGuard
        ),
    },
)
def register_model(body: ModelIn, tx: TxDep, house: HouseDep, out: Response) -> ModelOut:
    """Register a model. A worker loads it; until then orders wait in its queue.

    The same source under the same id again changes nothing but a guard that is given; after a
    DELETE it brings the model back with its lineage. Another source needs another id.
    """
    model, new = models.register(
        tx, body.source, model_id=body.id, roots=house.settings.model_roots, guard=body.guard
    )
    tx.session.flush()
    tx.session.refresh(model)
    out.headers["Location"] = f"/models/{model.id}"
    out.status_code = 201 if new else 200
    return _shown(tx, [model])[0]


@router.get("", responses=problems(ModelNotFound))
def list_models(tx: TxDep, after: After = None, limit: Limit = 50) -> Listed[ModelOut]:
    """List the models in service, by id."""
    page = models.page(tx, after=after, limit=limit)
    return Listed(data=_shown(tx, list(page.data)), has_more=page.has_more, next=page.next)


@router.get(
    "/{model_id}",
    response_model=ModelOut,
    responses={
        304: {"description": "The head is still the one named in If-None-Match."},
        **problems(ModelNotFound),
    },
)
def get_model(model_id: str, tx: TxDep, out: Response, seen: IfNoneMatchDep) -> ModelOut | Response:
    """Look at one model. Its ETag is its head: send it as If-Match with an order.

    With If-None-Match, 304 says that the head has not moved; the rest may have changed.
    """
    model = models.get(tx, model_id)
    if model.head_id is not None:
        out.headers["ETag"] = f'"{model.head_id}"'
        if model.head_id in seen or "*" in seen:
            return Response(status_code=304, headers=dict(out.headers))
    return _shown(tx, [model])[0]


@router.patch("/{model_id}", responses=problems(BadHeader, ModelNotFound, HeadMoved, InvalidGuard))
def change_model(model_id: str, body: ModelChangeIn, tx: TxDep, if_match: IfMatchDep) -> ModelOut:
    """Set the guard of a model. It holds for every order that is claimed from here on."""
    return _shown(tx, [models.set_guard(tx, model_id, body.guard, if_match=if_match)])[0]


@router.get(
    "/{model_id}/health", responses=problems(ModelNotFound, EditNotFound, EditOfAnotherModel)
)
def get_health(model_id: str, tx: TxDep, after: After = None, limit: Limit = 50) -> HealthOut:
    """Tell how a model does, from what its promotions have measured; the model is not asked.

    Lists are newest first and of at most `limit`; `after`, an edit's id, shows older edits.
    """
    return HealthOut.of(health.look(tx, model_id, after=after, limit=limit))


@router.delete(
    "/{model_id}", status_code=204, responses=problems(BadHeader, ModelNotFound, HeadMoved)
)
def remove_model(model_id: str, tx: TxDep, if_match: IfMatchDep) -> None:
    """Take a model out of service and cancel what waits in its queue.

    Its edits and snapshots stay readable. Registering the same source under the same id brings it
    back as it was; the id is not given to another source.
    """
    models.remove(tx, model_id, if_match=if_match)


@router.get(
    "/{model_id}/snapshots",
    responses=problems(ModelNotFound, SnapshotNotFound, SnapshotOfAnotherModel),
)
def list_snapshots(
    model_id: str, tx: TxDep, after: After = None, limit: Limit = 50
) -> Listed[SnapshotOut]:
    """List every state the model has been in, newest first; also of a removed model."""
    page = snapshots.page(tx, model_id, after=after, limit=limit)
    content = snapshots.contents(tx, page.data)
    shown = [SnapshotOut.of(snapshot, content[snapshot.id]) for snapshot in page.data]
    return Listed(data=shown, has_more=page.has_more, next=page.next)


@router.post(
    "/{model_id}/statistics",
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
            KeyReused,
            UnknownEditor,
            UnknownHparam,
            InvalidHparam,
        ),
    },
)
async def prepare_statistics(
    *,
    model_id: str,
    request: Request,
    house: HouseDep,
    key: IdempotencyKeyDep,
    if_match: IfMatchDep,
    wait: WaitDep,
    body: StatisticsIn | None = None,
) -> JSONResponse:
    """Order that what an editor needs is collected now, and not at the first edit.

    It waits its turn in the model's queue; the head stays where it is.
    """
    asked = body or StatisticsIn()
    return await ordering.take(
        house,
        request,
        lambda tx: prepare.prepare(
            tx,
            model_id,
            editor=asked.editor,
            hparams=asked.hparams,
            if_match=if_match,
            max_queued=house.settings.max_queued,
        ),
        key=key,
        about=[asked.model_dump(exclude_unset=True), if_match],
        wait=wait,
    )


@router.post(
    "/{model_id}/compact",
    status_code=202,
    response_model=OrderOut,
    responses={
        **ordering.RESPONSES,
        **problems(
            BadHeader,
            ModelNotFound,
            KeyInFlight,
            NothingToCompact,
            HeadMoved,
            QueueFull,
            KeyReused,
            CannotCompact,
            UnknownEditor,
            UnknownHparam,
            InvalidHparam,
        ),
    },
)
async def compact_model(
    *,
    model_id: str,
    request: Request,
    house: HouseDep,
    key: IdempotencyKeyDep,
    if_match: IfMatchDep,
    wait: WaitDep,
    body: CompactIn | None = None,
) -> JSONResponse:
    """Order that all live facts of the ledger are solved anew, from the untouched model.

    What their deltas were becomes one delta, which holds the same edits: they stay live, and each
    can be retracted. Other editors' deltas stay. The report says what that gained, and measures
    a sample of the facts before and after.
    """
    asked = body or CompactIn()
    return await ordering.take(
        house,
        request,
        lambda tx: compact.compact(
            tx,
            model_id,
            editor=asked.editor,
            hparams=asked.hparams,
            if_match=if_match,
            dry_run=asked.dry_run,
            max_queued=house.settings.max_queued,
        ),
        key=key,
        about=[asked.model_dump(), if_match],
        wait=wait,
    )


def _shown(tx: Tx, rows: list[Model]) -> list[ModelOut]:
    heads, served = models.heads(tx, rows), models.served(tx, rows)
    waiting = models.waiting(tx, rows)
    return [
        ModelOut.of(
            model,
            head=heads.get(model.id),
            serving=model.id in served,
            waiting=waiting.get(model.id, 0),
        )
        for model in rows
    ]
