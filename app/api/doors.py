"""What each path takes, read off the OpenAPI document: its methods and its query parameters."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from fastapi import Request

from app.errors import UnknownParameter

_SLOT = re.compile(r"\\\{[^/]+?\\\}")


def methods_at(request: Request) -> list[str]:
    """Return every method that the path of a request has; none for a path of no endpoint."""
    return sorted(
        method.upper()
        for template, operations in _paths(request).items()
        if _pattern(template).fullmatch(request.url.path)
        for method in operations
    )


async def only_known_parameters(request: Request) -> None:
    """Refuse a query parameter that nobody reads: its sender believes that it does something."""
    path = getattr(request.scope.get("route"), "path", "")
    operation = _paths(request).get(path, {}).get(request.method.lower(), {})
    known = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    if unknown := sorted(set(request.query_params) - set(known)):
        raise UnknownParameter(unknown=unknown, known=known)


def _paths(request: Request) -> Mapping[str, Mapping[str, Any]]:
    return request.app.openapi()["paths"]


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_SLOT.sub("[^/]+", re.escape(template)))
