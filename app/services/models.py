"""Models: register one, look at one, take one out of service."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.errors import (
    BadModelId,
    Json,
    ModelExists,
    ModelNotFound,
    ModelRequired,
    SourceNotAllowed,
    SourceNotFound,
)
from app.services.eval_ends import cancel_all
from app.services.pages import Page, cut
from app.services.settle import cancel, locked_model, require_head
from app.store import journal
from app.store.db import Tx
from app.store.tables import Edit, Eval, Lease, Model, Snapshot
from editing import guard as guards
from editing.errors import BadSource
from editing.source import NAMED, parse_source, source_name

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# What a source may say, by kind: the fields it must have, and those it may have.
SOURCE_FIELDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "named": (frozenset({"name"}), frozenset()),
    "hub": (frozenset({"id"}), frozenset({"revision"})),
    "folder": (frozenset({"path"}), frozenset()),
    "gguf": (frozenset({"path"}), frozenset()),
}


def register(
    tx: Tx,
    source: str | Mapping[str, Any],
    *,
    model_id: str | None,
    roots: tuple[Path, ...],
    guard: Json | None = None,
) -> tuple[Model, bool]:
    """Register a model and say whether it is new.

    The same source under the same id is the same model: a second call changes nothing, but that a
    removed one comes back with its lineage as it was, and that one which could not be loaded may
    be tried again. Under an id that another source has ever had, ModelExists: its edits and
    snapshots would be mistaken for those of the new one. A guard that is given holds from here on.
    """
    guards.check(guard)
    known = read_source(source, roots)
    name = derived_id(known) if model_id is None else model_id
    if not _ID.fullmatch(name):
        raise BadModelId(name)
    row = {"id": name, "source": known}
    tx.session.execute(insert(Model).values(row).on_conflict_do_nothing())
    model = tx.session.scalars(
        select(Model).where(Model.id == name).with_for_update(key_share=True)
    ).one()
    if model.source != known:
        raise ModelExists(model=name, source=model.source)
    # A model without a lease row is one that the insert above has just made.
    fresh = tx.session.get(Lease, name) is None
    if fresh:
        tx.session.add(Lease(model_id=name))
    if model.removed_at is not None:
        # Its worker may not have noticed the removal: fenced, it comes back and loads anew.
        tx.session.execute(
            update(Lease).where(Lease.model_id == name).values(epoch=Lease.epoch + 1)
        )
    if guard is not None:
        model.guard = guard
    again = fresh or model.removed_at is not None
    if again or model.status == "failed":
        model.status, model.error, model.removed_at = "registered", None, None
        journal.append(tx, "model.registered", model=name, source=known)
    return model, again


def get(tx: Tx, model_id: str) -> Model:
    """Return a model in service."""
    found = tx.session.get(Model, model_id) if _ID.fullmatch(model_id) else None
    if found is None or found.removed_at is not None:
        raise ModelNotFound(model_id)
    return found


def set_guard(tx: Tx, model_id: str, guard: Json | None, *, if_match: str | None = None) -> Model:
    """Say what differs from the default guard from here on, also for what is queued already."""
    guards.check(guard)
    get(tx, model_id)
    model = locked_model(tx, model_id)
    if model.removed_at is not None:  # somebody was faster
        raise ModelNotFound(model_id)
    require_head(model.head_id, if_match)
    model.guard = guard
    tx.session.flush()
    return model


def require_known(tx: Tx, model_id: str) -> None:
    """Raise ModelNotFound unless there is, or was, such a model."""
    if "\0" in model_id or tx.session.get(Model, model_id) is None:
        raise ModelNotFound(model_id)


def head_of(tx: Tx, model_id: str) -> str:
    """Return the head of a model that has snapshots; also of one that was removed."""
    return str(tx.session.scalar(select(Model.head_id).where(Model.id == model_id)))


def blocked(tx: Tx, rows: Sequence[Edit | Eval]) -> dict[str, Json]:
    """Return, by id, why nobody takes orders or evals: their models could not be loaded."""
    waiting = [row for row in rows if row.settled_at is None]
    if not waiting:
        return {}
    of_these = Model.id.in_({row.model_id for row in waiting})
    failed = select(Model.id, Model.error).where(of_these, Model.status == "failed")
    errors = {model: error or {} for model, error in tx.session.execute(failed)}
    return {row.id: errors[row.model_id] for row in waiting if row.model_id in errors}


def only(tx: Tx) -> Model:
    """Return the one registered model. With none or several, somebody has to name one."""
    found = tx.session.scalars(_present().order_by(Model.id).limit(20)).all()
    if len(found) != 1:
        raise ModelRequired([model.id for model in found])
    return found[0]


def page(tx: Tx, *, after: str | None, limit: int) -> Page[Model]:
    """List the models in service, by id."""
    query = _present().order_by(Model.id).limit(limit + 1)
    if after is not None:
        if not _ID.fullmatch(after):
            raise ModelNotFound(after)
        query = query.where(Model.id > after)
    return cut(tx.session.scalars(query).all(), limit)


def remove(tx: Tx, model_id: str, *, if_match: str | None = None) -> None:
    """Take a model out of service and cancel what waits in its queue.

    Nothing is lost: edits and snapshots stay readable, and registering the same source under the
    same id brings the model back. A worker in the middle of an order finds at its settling that
    the order is not running any more.
    """
    get(tx, model_id)
    model = locked_model(tx, model_id)
    if model.removed_at is not None:  # somebody was faster
        raise ModelNotFound(model_id)
    require_head(model.head_id, if_match)
    model.status, model.removed_at = "removed", datetime.now(UTC)
    unsettled = select(Edit).where(
        Edit.model_id == model_id, Edit.status.in_(("queued", "running"))
    )
    for edit in tx.session.scalars(unsettled.order_by(Edit.ord).with_for_update(key_share=True)):
        cancel(tx, edit)
    cancel_all(tx, model_id)
    journal.append(tx, "model.removed", model=model_id)


def heads(tx: Tx, models: list[Model]) -> dict[str, Snapshot]:
    """Return the head of each model that has one, by the model's id."""
    ids = [model.head_id for model in models if model.head_id is not None]
    found = tx.session.scalars(select(Snapshot).where(Snapshot.id.in_(ids)))
    return {snapshot.model_id: snapshot for snapshot in found}


def served(tx: Tx, models: list[Model]) -> set[str]:
    """Return the ids of those models whose worker is alive."""
    alive: ColumnElement[bool] = Lease.expires_at > func.clock_timestamp()
    ids = [model.id for model in models if model.status == "ready"]
    return set(tx.session.scalars(select(Lease.model_id).where(Lease.model_id.in_(ids), alive)))


def waiting(tx: Tx, models: list[Model]) -> dict[str, int]:
    """Count the orders that each model has before it."""
    rows = tx.session.execute(
        select(Edit.model_id, func.count())
        .where(
            Edit.model_id.in_([model.id for model in models]),
            Edit.status.in_(("queued", "running")),
        )
        .group_by(Edit.model_id)
    )
    return dict(rows.all())


def read_source(source: str | Mapping[str, Any], roots: tuple[Path, ...]) -> Json:
    """Return a source as data, with any path it names made absolute and found allowed."""
    known = dict(parse_source(source)) if isinstance(source, str) else _checked(source)
    if "path" in known:
        known["path"] = _allowed(known["path"], roots)
        _require_readable(Path(known["path"]), known["kind"])
    return known


def derived_id(source: Mapping[str, str]) -> str:
    """Name a model after its source: lower case, and only what an id may hold."""
    return re.sub(r"[^a-z0-9._-]+", "-", source_name(source).lower()).lstrip("._-")[:64]


def _present() -> Any:  # noqa: ANN401  (Select[tuple[Model]], which pyright infers)
    return select(Model).where(Model.removed_at.is_(None))


def _checked(source: Mapping[str, Any]) -> dict[str, str]:
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in SOURCE_FIELDS:
        raise BadSource(str(source), why=f"`kind` must be one of {', '.join(SOURCE_FIELDS)}.")
    must, may = SOURCE_FIELDS[kind]
    given = frozenset(source) - {"kind"}
    if not must <= given <= must | may:
        raise BadSource(
            str(source), why=f"a source of kind {kind} has the fields {', '.join(must | may)}."
        )
    if not all(isinstance(value, str) and value for value in source.values()):
        raise BadSource(str(source), why="each of its fields must be a text.")
    if kind == "named" and source["name"] not in NAMED:
        raise BadSource(source["name"], why=f"the named sources are {', '.join(NAMED)}.")
    if kind == "hub":
        revision = source.get("revision")
        return parse_source(f"hub:{source['id']}" + (f"@{revision}" if revision else ""))
    return dict(source)


def _allowed(text: str, roots: tuple[Path, ...]) -> str:
    """Resolve a path, links too, so that none leads out of the folders the operator named."""
    try:
        path = Path(text).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # no such user, or links in a circle
        raise BadSource(text, why=f"{error}.") from None
    root = next((root for root in roots if path.is_relative_to(root.resolve())), None)
    if root is None:
        raise SourceNotAllowed(text)
    # Where this host does not have the folder, the worker's may: it will say what it found.
    try:
        missing = root.exists() and not path.exists()
    except OSError as error:  # a name longer than any file's
        raise BadSource(text[:200], why=f"{error.strerror}.") from None
    if missing:
        raise SourceNotFound(str(path))
    return str(path)


def _require_readable(path: Path, kind: str) -> None:
    """Refuse at the door what no worker could load, where this host can see it."""
    if not path.exists():
        return
    if kind == "gguf" and not path.is_file():
        raise BadSource(str(path), why="it is not a file. Name the .gguf file itself.")
    if kind != "folder":
        return
    if not (path / "config.json").is_file():
        raise BadSource(str(path), why="there is no config.json in it. Name a model's own folder.")
    if not any(path.glob("*.safetensors")):
        raise BadSource(
            str(path),
            why="there are no .safetensors weights in it. Pickled ones (.bin, .pt) are never "
            "loaded, for they can run anything: convert them first.",
        )
