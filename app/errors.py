"""Everything that can go wrong in the service, beside what `editing.errors` says.

ServiceError
  NotFound
    ModelNotFound  EditNotFound  SnapshotNotFound
  WrongInput                          the caller can mend it
    ModelRequired  NoRequests  KeyReused  BadHeader  UnknownParameter
    SnapshotOfAnotherModel  SourceNotAllowed  SourceNotFound  BadModelId
  Conflict                            true of the world, not of the request alone
    ModelExists  ModelFailed  KeyInFlight  OrderSettled  LabelTaken
  HeadMoved                           If-Match names another snapshot than the head
  Poisoned                            the worker died in every attempt at an order
  QueueFull                           too many orders wait already
  Unavailable                         try again
    ModelNotReady  QueueUnavailable  ProbeTimedOut
  Refused                             a worker's own no, with the code it gave
  BlobMissing  BlobDamaged            the store lost or changed what was put into it

An error carries its fields and says what to do next. No error here knows a status code:
app/api/problems.py gives each of them one.
"""

from typing import Any, ClassVar

Json = dict[str, Any]


class ServiceError(Exception):
    """Base of every error raised by `app`."""

    code: ClassVar[str] = "service-error"

    def __init__(self, detail: str, **fields: Any) -> None:  # noqa: ANN401  (fields are JSON)
        self.fields: Json = fields
        super().__init__(detail)


class NotFound(ServiceError):
    """What was asked for is not here."""

    code = "not-found"


class ModelNotFound(NotFound):
    """No model has this id, or it was removed."""

    code = "model-not-found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"There is no model {model!r}. GET /models lists those registered; "
            "POST /models registers one.",
            model=model,
        )


class EditNotFound(NotFound):
    """No order has this id."""

    code = "edit-not-found"

    def __init__(self, edit: str) -> None:
        super().__init__(f"There is no edit {edit!r}. GET /edits lists them.", edit=edit)


class SnapshotNotFound(NotFound):
    """No snapshot has this id."""

    code = "snapshot-not-found"

    def __init__(self, snapshot: str) -> None:
        super().__init__(
            f"There is no snapshot {snapshot!r}. GET /models/{{id}}/snapshots lists them.",
            snapshot=snapshot,
        )


class WrongInput(ServiceError):
    """The caller can mend it."""

    code = "wrong-input"


class ModelRequired(WrongInput):
    """No model was named, and there is not exactly one to fall back to."""

    code = "model-required"

    def __init__(self, models: list[str]) -> None:
        known = f"Name one of {', '.join(models)} as `model`" if models else "Register one first"
        super().__init__(f"{len(models)} models are registered. {known}.", models=models)


class NoRequests(WrongInput):
    """An edit without a fact."""

    code = "no-requests"

    def __init__(self) -> None:
        super().__init__(
            "Give one edit request inline (subject, prompt, target_new) or a list in `requests`."
        )


class BadHeader(WrongInput):
    """A header that cannot be read."""

    code = "bad-header"

    def __init__(self, header: str, advice: str) -> None:
        super().__init__(f"The header {header} cannot be read. {advice}", header=header)


class UnknownParameter(WrongInput):
    """A query parameter that the path does not have."""

    code = "unknown-parameter"

    def __init__(self, *, unknown: list[str], known: list[str]) -> None:
        named = ", ".join(map(repr, unknown))
        has = f"It has {', '.join(known)}" if known else "It has none"
        super().__init__(
            f"This path has no query parameter {named}. {has}; mend the URL and send it again.",
            unknown=unknown,
            known=known,
        )


class KeyReused(WrongInput):
    """The same Idempotency-Key with another request."""

    code = "idempotency-key-reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request. Use a new key for a new order, "
            "and repeat a request unchanged.",
            key=key,
        )


class SnapshotOfAnotherModel(WrongInput):
    """The snapshot exists, but belongs elsewhere."""

    code = "snapshot-of-another-model"

    def __init__(self, *, snapshot: str, model: str, owner: str) -> None:
        super().__init__(
            f"Snapshot {snapshot} belongs to model {owner!r}, not to {model!r}. "
            f"GET /models/{model}/snapshots lists those of this model.",
            snapshot=snapshot,
            model=model,
            owner=owner,
        )


class BadModelId(WrongInput):
    """An id that cannot be a model's."""

    code = "bad-model-id"

    def __init__(self, model: str) -> None:
        super().__init__(
            "A model id is 1 to 64 lower-case letters, digits, dots, dashes or underscores, and "
            "begins with a letter or digit. Give such an `id`.",
            model=model,
        )


class SourceNotAllowed(WrongInput):
    """A path outside the folders that the operator named."""

    code = "source-not-allowed"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} lies in none of the folders that this service may read models from. "
            "Ask its operator to name the folder in ERRATA_MODEL_ROOTS.",
            path=path,
        )


class SourceNotFound(WrongInput):
    """A path in an allowed folder, but nothing is there."""

    code = "source-not-found"

    def __init__(self, path: str) -> None:
        super().__init__(f"There is no model at {path}. Check the path.", path=path)


class Conflict(ServiceError):
    """The world is not as the request needs it."""

    code = "conflict"


class ModelExists(Conflict):
    """The id is taken by another source."""

    code = "model-exists"

    def __init__(self, *, model: str, source: Json) -> None:
        super().__init__(
            f"The id {model!r} belongs to a model of another source, also if that was removed: "
            "its edits and snapshots stay readable. Choose another `id`.",
            model=model,
            source=source,
        )


class ModelFailed(Conflict):
    """The model could not be loaded."""

    code = "model-failed"

    def __init__(self, *, model: str, error: Json | None) -> None:
        super().__init__(
            f"The model {model!r} could not be loaded; `error` says why. Mend that and register "
            "the same source under the same id again, or another source.",
            model=model,
            error=error,
        )


class KeyInFlight(Conflict):
    """The first request with this key has not been answered yet."""

    code = "idempotency-key-in-flight"

    def __init__(self, key: str) -> None:
        super().__init__(
            "Another request with this Idempotency-Key is being answered. Repeat it in a moment.",
            key=key,
        )


class OrderSettled(Conflict):
    """The order has come to its end: there is nothing left to cancel."""

    code = "order-settled"

    def __init__(self, *, edit: str, status: str) -> None:
        mend = "Restore the snapshot before it to undo it. " if status == "applied" else ""
        super().__init__(
            f"The order {edit} is {status} already. {mend}GET /edits/{edit} shows how it ended.",
            edit=edit,
            order_status=status,
        )


class LabelTaken(Conflict):
    """Another snapshot of the model has this label."""

    code = "label-taken"

    def __init__(self, *, label: str, snapshot: str) -> None:
        super().__init__(
            f"The label {label!r} belongs to snapshot {snapshot} of this model. Take it from that "
            "one first, or choose another.",
            label=label,
            snapshot=snapshot,
        )


class HeadMoved(ServiceError):
    """The order was meant for another head."""

    code = "head-moved"

    def __init__(self, *, expected: str, head: str | None) -> None:
        super().__init__(
            f"The head is {head}, not {expected}. Look at what has changed, and order again "
            "with the new head in If-Match.",
            expected=expected,
            head=head,
        )


class Poisoned(ServiceError):
    """A worker died in every attempt at this order."""

    code = "poisoned"

    def __init__(self, *, attempts: int) -> None:
        super().__init__(
            f"The worker died in each of {attempts} attempts at this order, which is why it was "
            "given up. Read the worker's log, mend the cause, and order again.",
            attempts=attempts,
        )


class QueueFull(ServiceError):
    """As many orders wait for this model as the operator allows."""

    code = "queue-full"

    def __init__(self, *, model: str, limit: int) -> None:
        super().__init__(
            f"{limit} orders of {model!r} are not settled yet, and no more are taken. Send the "
            "order again once some are; POST /edits/{id}/cancel makes room.",
            model=model,
            limit=limit,
        )


class Unavailable(ServiceError):
    """Not now. Nothing was lost by asking."""

    code = "unavailable"


class ModelNotReady(Unavailable):
    """Nobody has loaded this model yet."""

    code = "model-not-ready"

    def __init__(self, *, model: str, status: str) -> None:
        super().__init__(
            f"The model {model!r} is {status}. Ask again once GET /models/{model} says ready.",
            model=model,
            model_status=status,
        )


class QueueUnavailable(Unavailable):
    """Redis does not answer."""

    code = "queue-unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The queue does not answer, and probes travel through it. Orders are still accepted. "
            "Ask again in a moment."
        )


class ProbeTimedOut(Unavailable):
    """No worker answered in time."""

    code = "probe-timed-out"

    def __init__(self, *, model: str, seconds: float) -> None:
        super().__init__(
            f"No worker of {model!r} answered within {seconds:g} s. See whether one runs "
            f"(GET /models/{model}, `serving`), or ask for fewer prompts and tokens.",
            model=model,
            seconds=seconds,
        )


class Refused(ServiceError):
    """What a worker said no to, with the code that it gave."""

    code = "refused"

    def __init__(self, error: Json) -> None:
        fields = {k: v for k, v in error.items() if k not in {"code", "detail", "status"}}
        super().__init__(str(error.get("detail", "The worker gave no reason.")), **fields)
        self.said: str = error.get("code", "internal-error")
        self.status: int | None = error.get("status")


class BlobMissing(ServiceError):
    """The store does not have what the journal says it has."""

    code = "blob-missing"

    def __init__(self, sha256: str) -> None:
        super().__init__(
            f"The blob {sha256} is not in the store. Bring it back from a backup of the blobs.",
            sha256=sha256,
        )


class BlobDamaged(ServiceError):
    """The bytes are no longer those that were put in."""

    code = "blob-damaged"

    def __init__(self, sha256: str) -> None:
        super().__init__(
            f"The blob {sha256} no longer has the bytes that named it. Bring it back from a "
            "backup of the blobs.",
            sha256=sha256,
        )


def as_error(error: Exception) -> Json:
    """Return an error as JSON keeps it: its code, what to do next, its fields."""
    code: str = getattr(error, "code", "internal-error")
    fields: Json = getattr(error, "fields", {})
    return {"code": code, "detail": str(error), **fields}
