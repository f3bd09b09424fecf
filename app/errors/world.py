"""What is true of the world, and not of the request alone."""

from collections.abc import Sequence

from editing.guard import Breach

from .base import Conflict, Json, ServiceError, Unavailable


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


class GuardBreached(Conflict):
    """What the order would do is beyond its guard: it was not served, and is kept as evidence."""

    code = "guard-breached"

    def __init__(self, breaches: Sequence[Breach], *, kind: str = "edit") -> None:
        what, instead = (
            ("edit", "Try another editor or gentler hparams with dry_run, or on_breach: repair")
            if kind == "edit"
            else ("compaction", "Try other hparams with dry_run, or leave the deltas as they are")
        )
        super().__init__(
            f"The guard rejected the {what}: {'; '.join(map(str, breaches))}. The head is as it "
            f"was, and the report is kept. {instead}; should this be acceptable, raise the "
            "threshold in `guard`.",
            breaches=[one.to_dict() for one in breaches],
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

    def __init__(self, *, edit: str, status: str, kind: str = "edit", changed: bool = True) -> None:
        mend = ""
        if status == "applied" and changed:
            restore = "restore the snapshot before it to undo it and all that came later. "
            mend = restore.capitalize()
            if kind == "edit":
                mend = (
                    f"POST /edits/{edit}/retract takes it out and keeps the later ones; {restore}"
                )
        super().__init__(
            f"The order {edit} is {status} already. {mend}GET /edits/{edit} shows how it ended.",
            edit=edit,
            order_status=status,
        )


class EditNotLive(Conflict):
    """The edit is no part of the head, so it cannot be taken out of it."""

    code = "edit-not-live"

    def __init__(self, *, edit: str, why: str, mend: str = "") -> None:
        look = f"GET /edits/{edit} shows what became of it"
        super().__init__(
            f"{edit} cannot be retracted: {why}. {mend or look}.",
            edit=edit,
            why=why,
        )


class NothingToCompact(Conflict):
    """No live edit of the model is part of a ledger."""

    code = "nothing-to-compact"

    def __init__(self, *, model: str, editor: str) -> None:
        super().__init__(
            f"The head of {model!r} holds no edit that {editor} could solve anew with these "
            f"hparams. Make an edit with the editor {editor} first; GET /edits?model={model} shows "
            "which are live, and their hparams.",
            model=model,
            editor=editor,
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


class UnknownQuestion(ServiceError):
    """A question of a kind that this version of the worker does not know."""

    code = "unknown-question"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"This worker knows no question of kind {kind!r}: it is older than the API that passed "
            "it on. Start the worker anew.",
            kind=kind,
        )
