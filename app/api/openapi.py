"""What /openapi.json says beside the endpoints: the shape of a problem, also of unforeseen ones."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.problems import MEDIA_TYPE
from app.api.schemas import Problem

REF = {"$ref": "#/components/schemas/Problem"}


def version() -> str:
    """Return the version of the installed distribution."""
    try:
        return installed("errata")
    except PackageNotFoundError:
        return "0"


def install(app: FastAPI) -> None:
    """Have the document made by us, once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas: dict[str, Any] = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in made["paths"].values():
        for operation in path.values():
            _mend(operation["responses"])
    return made


def _mend(responses: dict[str, Any]) -> None:
    """Say of every refusal that it is a problem; the framework believes in a shape of its own."""
    for status, answer in responses.items():
        if int(status) >= 400 and MEDIA_TYPE not in answer.get("content", {}):  # noqa: PLR2004
            answer["content"] = {MEDIA_TYPE: {"schema": REF}}
        elif int(status) >= 400:  # noqa: PLR2004
            answer["content"].pop("application/json", None)
