"""What was asked for is not here, or cannot be meant: the caller can mend it."""

from .base import NotFound, WrongInput


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


class ModelRequired(WrongInput):
    """No model was named, and there is not exactly one to fall back to."""

    code = "model-required"

    def __init__(self, models: list[str]) -> None:
        known = f"Name one of {', '.join(models)} as `model`" if models else "Register one first"
        super().__init__(f"{len(models)} models are registered. {known}.", models=models)


class CannotCompact(WrongInput):
    """An editor whose edits are not compacted."""

    code = "cannot-compact"

    def __init__(self, *, editor: str, known: list[str]) -> None:
        super().__init__(
            f"What {editor!r} has written cannot be solved anew as one: it keeps no facts. Leave "
            f"`editor` out, or name one of {', '.join(known)}.",
            editor=editor,
            known=known,
        )


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


class EditOfAnotherModel(WrongInput):
    """The order exists, but belongs elsewhere."""

    code = "edit-of-another-model"

    def __init__(self, *, edit: str, model: str, owner: str) -> None:
        super().__init__(
            f"Order {edit} belongs to model {owner!r}, not to {model!r}. "
            f"GET /edits?model={model} lists those of this model.",
            edit=edit,
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


class AnswerRequired(WrongInput):
    """A probe that names an edit, and no answer to compare with it."""

    code = "answer-required"

    def __init__(self) -> None:
        super().__init__(
            "`edit` says with which edit an answer is compared. Send `answer` too, or leave it out."
        )
