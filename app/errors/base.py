"""What every error of the service is one of, and how a worker passes one on."""

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


class WrongInput(ServiceError):
    """The caller can mend it."""

    code = "wrong-input"


class Conflict(ServiceError):
    """The world is not as the request needs it."""

    code = "conflict"


class Unavailable(ServiceError):
    """Not now. Nothing was lost by asking."""

    code = "unavailable"


def as_error(error: Exception) -> Json:
    """Return an error as JSON keeps it: its code, what to do next, its fields."""
    code: str = getattr(error, "code", "internal-error")
    fields: Json = getattr(error, "fields", {})
    return {"code": code, "detail": str(error), **fields}
