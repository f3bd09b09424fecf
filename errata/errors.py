"""Everything that can go wrong for a client.

ErrataError
  ServerNotRunning     nobody answers at the address
  OrderFailed          the order was settled, but not applied
  WaitTimeout          the order is not settled yet
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ErrataError(Exception):
    """The server refused. Carries what its problem+json said."""

    default: ClassVar[str] = "error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default
        self.status = status
        self.problem = dict(problem or {})


class ServerNotRunning(ErrataError):
    """Nobody answers at the address."""

    default = "server-not-running"

    def __init__(self, url: str) -> None:
        super().__init__(f"no server answers at {url}; start one with `errata up`")
        self.url = url


class OrderFailed(ErrataError):
    """The order was settled as failed, rejected or cancelled; the model is as it was before."""

    default = "order-failed"

    def __init__(self, order: Mapping[str, Any]) -> None:
        error = order.get("error") or {}
        detail = error.get("detail") or f"the order {order['id']} is {order['status']}"
        super().__init__(detail, code=error.get("code"), problem=error)
        self.order = dict(order)


class WaitTimeout(ErrataError):
    """The order is not settled yet. It stays in the queue; wait again."""

    default = "wait-timeout"

    def __init__(self, order: Mapping[str, Any], seconds: float) -> None:
        super().__init__(
            f"the order {order['id']} is still {order['status']} after {seconds:g} s; wait for it"
            " again, it is not lost"
        )
        self.order = dict(order)
