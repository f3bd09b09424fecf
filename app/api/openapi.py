"""What /openapi.json says beside the endpoints: the refusals that every one of them may give."""

from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.problems import DATABASE_AWAY, MEDIA_TYPE, REF, problems, refusal
from app.api.schemas import Json, Problem
from app.errors import UnknownParameter

NEEDS_NO_DATABASE = frozenset({"/healthz", "/metrics", "/editors", "/suites"})
HEADERS: Mapping[int, tuple[str, str, str]] = {
    405: ("Allow", "The methods that the path has.", "string"),
    429: ("Retry-After", "Seconds.", "integer"),
    503: ("Retry-After", "Seconds.", "integer"),
}


def version() -> str:
    """Return the version of the installed distribution."""
    try:
        return installed("errata")
    except PackageNotFoundError:
        return "0"


def install(app: FastAPI) -> None:
    """Have the document made by us, once."""

    def document() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document


def _document(app: FastAPI) -> Json:
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas: Json = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path, operations in made["paths"].items():
        for operation in operations.values():
            _never_null(operation)
            responses: Json = operation["responses"]
            for status, added in _everywhere(path, operation).items():
                _merge(responses, status, added)
            _mend(responses)
    return made


def _never_null(operation: Json) -> None:
    """Say of parameters that may be left out that they may be left out, and not that they be null.

    The framework takes the two for one; but a query and a header hold text, and "null" is a text.
    """
    for parameter in operation.get("parameters", ()):
        schema: Json = parameter["schema"]
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema.update({**kinds[0], **schema})


def _everywhere(path: str, operation: Json) -> dict[int | str, Json]:
    """Return the refusals that belong to no endpoint alone."""
    found = {**refusal(405, "method-not-allowed"), **problems(UnknownParameter)}
    if path not in NEEDS_NO_DATABASE:
        found |= refusal(503, DATABASE_AWAY)
    if "requestBody" in operation:
        found |= {
            **refusal(400, "bad-json"),
            **refusal(413, "body-too-large"),
            **refusal(415, "unsupported-media-type"),
        }
    return found


def _merge(responses: Json, status: int | str, added: Json) -> None:
    """Add a refusal to those that the endpoint has named, beside others of its status."""
    known = responses.setdefault(str(status), {"description": added["description"]})
    content = known.setdefault("content", {}).setdefault(MEDIA_TYPE, {"schema": REF})
    content.setdefault("examples", {}).update(added["content"][MEDIA_TYPE]["examples"])


def _mend(responses: Json) -> None:
    """Say of every refusal that it is a problem; the framework believes in a shape of its own."""
    for status, answer in responses.items():
        if int(status) < HTTPStatus.BAD_REQUEST:
            continue
        answer["content"] = {MEDIA_TYPE: answer.get("content", {}).get(MEDIA_TYPE, {"schema": REF})}
        if header := HEADERS.get(int(status)):
            name, says, kind = header
            answer["headers"] = {name: {"description": says, "schema": {"type": kind}}}
