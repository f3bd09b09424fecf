"""What is done to every request: its body is bounded, its answer is counted and logged."""

import time

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

_ENCODING = b"content-encoding"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds, by machines

log = structlog.stdlib.get_logger()


class BodyLimit:
    """Refuse a body that is larger than the service will keep in memory, or that is packed.

    A packed one has two sizes, and the larger is known only once it has been unpacked.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in, whatever Content-Length says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0
        packing = _packing(scope)

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            # Of this kind, since the framework takes any other for broken JSON.
            if size and packing:
                raise HTTPException(
                    415, f"The body came packed as {packing[:100]}. Send it as plain JSON."
                )
            if size > self._limit:
                raise HTTPException(
                    413,
                    f"The body is larger than {self._limit} bytes. Split the order into several.",
                )
            return message

        await self._app(scope, counted, send)


def _packing(scope: Scope) -> str:
    """Return the Content-Encoding of a request; nothing when it has none worth the name."""
    found = [value.decode("latin-1") for name, value in scope["headers"] if name == _ENCODING]
    packing = ", ".join(found).strip()
    return "" if packing.lower() == "identity" else packing


class Counted:
    """Count and log each answer, under its route and not its path."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the status as it passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(
                method=scope["method"], route=route, status=status, seconds=seconds
            )
            if scope["path"] not in QUIET:
                # The ids of the path by the journal's names. The path itself and the query stay
                # out: they hold whatever a caller has typed, prompts among it.
                named = scope.get("path_params", {}).items()
                log.info(
                    "http.answered",
                    **{name.removesuffix("_id"): value for name, value in named},
                    method=scope["method"],
                    route=route,
                    status=status,
                    ms=round(seconds * 1000, 1),
                )
