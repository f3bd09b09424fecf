"""The only place where an error meets a status code. Answers are problem+json (RFC 9457).

Every problem has a `code` from docs/errors.md, a `title`, a `detail` that says what to do next,
and the fields that the error carries.
"""

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.api.doors import methods_at
from app.api.mistakes import mistake
from app.errors import (
    BadHeader,
    Conflict,
    HeadMoved,
    Json,
    KeyInFlight,
    NotFound,
    Poisoned,
    ProbeTimedOut,
    QueueFull,
    Refused,
    ServiceError,
    Unavailable,
    WrongInput,
)
from editing.errors import BadRequest, EditFailed, EditingError, StatsMissing

MEDIA_TYPE = "application/problem+json"
REF = {"$ref": "#/components/schemas/Problem"}
LONGEST = 4_000  # characters of one value in a problem

STATUS: Mapping[type[Exception], int] = {
    BadRequest: 422,
    EditFailed: 409,
    StatsMissing: 409,
    EditingError: 500,
    NotFound: 404,
    WrongInput: 422,
    BadHeader: 400,
    Conflict: 409,
    HeadMoved: 412,
    QueueFull: 429,
    Poisoned: 409,
    Unavailable: 503,
    ProbeTimedOut: 504,
    ServiceError: 500,
}

# Errors that nobody raises as a class of ours: the framework's, and the database's absence.
NOT_FOUND = "not-found"
INTERNAL = "internal-error"
DATABASE_AWAY = "database-unavailable"
PLAIN_CODES: Mapping[int, str] = {
    400: "bad-json",
    404: NOT_FOUND,
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}
# Every 429 and 503 says when to come back, and so does a key whose first request is under way.
RETRY_AFTER_S: Mapping[str, int] = {"queue-full": 10}
SOON_S = 2
READ_ONLY = "25006"  # Postgres: a standby, or a primary that has just become one
_AGAIN = frozenset({429, 503})

log = structlog.stdlib.get_logger()


def status_of(error: type[Exception]) -> int:
    """Return the status of an error: its own, or that of its nearest ancestor."""
    return next(STATUS[kind] for kind in error.__mro__ if kind in STATUS)


def problem(
    status: int,
    code: str,
    detail: str,
    fields: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Say what went wrong."""
    body: Json = {
        **{name: _cut(value) for name, value in (fields or {}).items()},
        "type": f"urn:errata:error:{code}",
        "title": title(code),
        "status": status,
        "code": code,
        "detail": _cut(detail),
    }
    said = dict(headers or {})
    if status in _AGAIN or code == KeyInFlight.code:
        said.setdefault("Retry-After", str(RETRY_AFTER_S.get(code, SOON_S)))
    return JSONResponse(body, status_code=status, headers=said, media_type=MEDIA_TYPE)


def title(code: str) -> str:
    """Return the code as words."""
    return code.replace("-", " ").capitalize()


def of(error: ServiceError | EditingError) -> JSONResponse:
    """Say what an error of ours says."""
    status, code = status_of(type(error)), error.code
    if isinstance(error, Refused):
        # A worker's no: its code is that of an error class, which knows its status here.
        known = {each.code: each for each in every_error()}
        code = error.said
        status = error.status or (status_of(known[code]) if code in known else 500)
    return problem(status, code, str(error), error.fields)


def _cut(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    """Shorten what a caller sent: a refusal need not be as long as what it refuses."""
    text = value if isinstance(value, str) else str(value)
    return value if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def problems(*errors: type[ServiceError | EditingError]) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI should know of the errors that an endpoint may answer with."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        status = status_of(error)
        summary = (error.__doc__ or "").partition("\n")[0]
        known = refusal(status, error.code, summary)[status]
        examples = known["content"][MEDIA_TYPE]["examples"]
        by_status.setdefault(status, known)["content"][MEDIA_TYPE]["examples"].update(examples)
    return by_status


def refusal(status: int, code: str, summary: str = "") -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI should know of one code."""
    example = {
        "summary": summary or title(code),
        "value": {
            "type": f"urn:errata:error:{code}",
            "title": title(code),
            "status": status,
            "code": code,
            "detail": "What is wrong here, and what to do next.",
        },
    }
    content = {MEDIA_TYPE: {"schema": REF, "examples": {code: example}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content}}


def every_error() -> Iterator[type[ServiceError | EditingError]]:
    """Go through every error class of the service and of the core."""
    waiting: list[type[ServiceError | EditingError]] = [ServiceError, EditingError]
    while waiting:
        error = waiting.pop()
        yield error
        waiting.extend(error.__subclasses__())


def install(app: FastAPI) -> None:
    """Turn every way in which a request can fail into a problem."""
    handlers: dict[type[Exception], Callable[[Request, Any], Any]] = {
        ServiceError: _ours,
        EditingError: _ours,
        RequestValidationError: _unreadable,
        HTTPException: _plain,
        DBAPIError: _database,
        PoolTimeout: _database,
        Exception: _unforeseen,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _ours(_: Request, error: ServiceError | EditingError) -> JSONResponse:
    return of(error)


async def _unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
    found = mistake(error.errors(), request.headers.get("content-type", ""))
    return problem(found.status, found.code, found.detail, {"errors": found.errors})


async def _plain(request: Request, error: HTTPException) -> JSONResponse:
    code = PLAIN_CODES.get(error.status_code, INTERNAL)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (has := methods_at(request)):
        headers["Allow"] = ", ".join(has)  # the framework names those of one endpoint only
    detail = {
        NOT_FOUND: f"There is nothing at {request.url.path}. GET /docs shows what there is.",
        "method-not-allowed": f"{request.url.path} has no {request.method}; it has "
        f"{headers.get('Allow', 'others')}. GET /docs shows what each does.",
        "bad-json": "The body cannot be read as JSON. Check it with a JSON tool and send it again.",
    }.get(code, str(error.detail))
    return problem(error.status_code, code, detail, headers=headers)


async def _database(request: Request, error: DBAPIError | PoolTimeout) -> JSONResponse:
    away = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if not away and state != READ_ONLY and not getattr(error, "connection_invalidated", False):
        return await _unforeseen(request, error)
    log.warning("database.away", error=str(error).splitlines()[0])
    return problem(
        503,
        DATABASE_AWAY,
        "The database does not answer. Send the request again in a moment, an order with the same "
        "Idempotency-Key: should the first one have been taken all the same, that is found by it.",
    )


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("http.failed", method=request.method, path=request.url.path, exc_info=error)
    return problem(
        500,
        INTERNAL,
        "The service failed in a way it did not foresee; its log says more. Send the request "
        "again, with the same Idempotency-Key, and report it if it fails again.",
    )
