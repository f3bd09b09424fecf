"""Models: register a base, look at one, take one out of service."""

from fastapi import APIRouter, Response

from app.api.bodies import ModelIn
from app.api.deps import After, HouseDep, Limit, TxDep
from app.api.problems import problems
from app.api.schemas import Listed, ModelOut, SnapshotOut
from app.errors import (
    BadModelId,
    ModelExists,
    ModelNotFound,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
    SourceNotAllowed,
    SourceNotFound,
)
from app.services import lineage, models, snapshots
from app.store.db import Tx
from app.store.tables import Model
from editing.errors import BadSource

router = APIRouter(prefix="/models", tags=["models"])


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": ModelOut, "description": "Registered before, from the same source."},
        **problems(ModelExists, BadModelId, BadSource, SourceNotAllowed, SourceNotFound),
    },
)
def register_model(body: ModelIn, tx: TxDep, house: HouseDep, out: Response) -> ModelOut:
    """Register a model. A worker loads it; until then orders wait in its queue.

    The same source under the same id again changes nothing; after a DELETE it brings the model
    back with its lineage. Another source needs another id.
    """
    model, new = models.register(
        tx, body.source, model_id=body.id, roots=house.settings.model_roots
    )
    tx.session.flush()
    tx.session.refresh(model)
    out.headers["Location"] = f"/models/{model.id}"
    out.status_code = 201 if new else 200
    return _shown(tx, [model])[0]


@router.get("")
def list_models(tx: TxDep, after: After = None, limit: Limit = 50) -> Listed[ModelOut]:
    """List the models in service, by id."""
    page = models.page(tx, after=after, limit=limit)
    return Listed(data=_shown(tx, list(page.data)), has_more=page.has_more, next=page.next)


@router.get("/{model_id}", responses=problems(ModelNotFound))
def get_model(model_id: str, tx: TxDep, out: Response) -> ModelOut:
    """Look at one model. Its ETag is its head: send it as If-Match with an order."""
    model = models.get(tx, model_id)
    if model.head_id is not None:
        out.headers["ETag"] = f'"{model.head_id}"'
    return _shown(tx, [model])[0]


@router.delete("/{model_id}", status_code=204, responses=problems(ModelNotFound))
def remove_model(model_id: str, tx: TxDep) -> None:
    """Take a model out of service and cancel what waits in its queue.

    Its edits and snapshots stay readable. Registering the same source under the same id brings it
    back as it was; the id is not given to another source.
    """
    models.remove(tx, model_id)


@router.get(
    "/{model_id}/snapshots",
    responses=problems(ModelNotFound, SnapshotNotFound, SnapshotOfAnotherModel),
)
def list_snapshots(
    model_id: str, tx: TxDep, after: After = None, limit: Limit = 50
) -> Listed[SnapshotOut]:
    """List every state the model has been in, newest first; also of a removed model."""
    page = snapshots.page(tx, model_id, after=after, limit=limit)
    content = lineage.edits_of(tx, [snapshot.id for snapshot in page.data])
    shown = [SnapshotOut.of(snapshot, content[snapshot.id]) for snapshot in page.data]
    return Listed(data=shown, has_more=page.has_more, next=page.next)


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
