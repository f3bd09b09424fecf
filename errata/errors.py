"""Everything that can go wrong for a client. docs/errors.md has a page for every code.

ErrataError
  Refused                the server said no: a problem+json, with the server's own code
  OrderFailed            the order was settled, but not applied
  WaitTimeout            the order is not settled yet
    EvalUnfinished         the eval is not settled yet
  EvalFailed             the eval was settled, but not finished
  Unreachable            no answer came
    ServerNotRunning       nobody listens at the address
    ConnectionLost         the connection broke before the answer was whole
    NoAnswerInTime         the server was too slow
  NotErrata              something else answers at the address
  OtherVersion           an Errata server answers, but not as this client expects
  BadAddress             the address is no server's
  BadArgument            what was given cannot be sent; nothing was
  ClientClosed           the client was used after its end
  NotOne                 a name fits no model, snapshot or order, or several
  OfAnotherModel         the snapshot or order is not one of the model that was named
  StackFailed            a stack that was started for us did not come up
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from errata.eval_results import Eval
from errata.results import Json, Order

# What every problem+json has; the rest are the fields of its code.
_PLAIN = frozenset({"type", "title", "status", "code", "detail"})


class ErrataError(Exception):
    """Base of all; `code` does not change, `detail` is for people, `fields` depend on the code."""

    default: ClassVar[str] = "error"

    def __init__(
        self, detail: str, *, code: str | None = None, fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default
        self.fields: Json = dict(fields or {})


class Refused(ErrataError):
    """The server said no. `problem` is all that it said, `status` the one of HTTP."""

    default = "refused"

    def __init__(self, problem: Mapping[str, Any], *, status: int) -> None:
        detail = problem.get("detail") or problem.get("title") or f"refused with status {status}"
        fields = {name: value for name, value in problem.items() if name not in _PLAIN}
        super().__init__(str(detail), code=problem.get("code"), fields=fields)
        self.status = status
        self.problem = dict(problem)


class OrderFailed(ErrataError):
    """The order was settled as failed, rejected or cancelled; the model is as it was before."""

    default = "order-failed"

    def __init__(self, order: Order) -> None:
        error = order.error or {}
        detail = error.get("detail") or f"the order {order.id} is {order.status}"
        fields = {name: value for name, value in error.items() if name not in _PLAIN}
        super().__init__(detail, code=error.get("code"), fields=fields)
        self.order = order


class WaitTimeout(ErrataError):
    """The order is not settled yet. It stays in the queue; wait again."""

    default = "wait-timeout"

    def __init__(self, order: Order, seconds: float) -> None:
        why = f" ({order.blocked.get('detail', '?')})" if order.blocked else ""
        super().__init__(
            f"the order {order.id} is still {order.status} after {seconds:g} s{why}. It is not "
            f"lost: `errata watch {order.id}` follows it, `errata cancel {order.id}` takes it back",
            fields={"edit": order.id, "status": order.status},
        )
        self.order = order


class EvalUnfinished(WaitTimeout):
    """The eval is not settled yet. It goes on; wait again."""

    def __init__(self, found: Eval, seconds: float) -> None:
        why = f" ({found.blocked.get('detail', '?')})" if found.blocked else ""
        ErrataError.__init__(
            self,
            f"the eval {found.id} is still {found.status} after {seconds:g} s{why}, {found.done} "
            f"of {found.total} cases done. It goes on: `errata eval {found.id}` follows it, "
            f"`errata eval {found.id} --cancel` stops it",
            fields={"eval": found.id, "status": found.status},
        )
        self.eval = found


class EvalFailed(ErrataError):
    """The eval was settled as failed or cancelled; what it has measured is kept."""

    default = "eval-failed"

    def __init__(self, found: Eval) -> None:
        error = found.error or {}
        detail = error.get("detail") or f"the eval {found.id} is {found.status}"
        fields = {name: value for name, value in error.items() if name not in _PLAIN}
        super().__init__(detail, code=error.get("code"), fields=fields)
        self.eval = found


class Unreachable(ErrataError):
    """No answer came."""

    default = "unreachable"

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(detail, fields={"url": url})
        self.url = url


class ServerNotRunning(Unreachable):
    """Nobody listens at the address."""

    default = "server-not-running"


class ConnectionLost(Unreachable):
    """The connection broke before the answer was whole. The request may have arrived."""

    default = "connection-lost"

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            url,
            f"the connection to {url} broke before the answer came ({why or 'no reason given'}). "
            "The request may have arrived; look before you repeat it",
        )


class NoAnswerInTime(Unreachable):
    """The server was too slow."""

    default = "no-answer-in-time"

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(
            url, f"{url} did not answer within {seconds:g} s; try again, or give a longer timeout"
        )


class NotErrata(ErrataError):
    """Something answers at the address, but it is no Errata server."""

    default = "not-errata"

    def __init__(self, url: str, said: str) -> None:
        super().__init__(
            f"what answers at {url} is no Errata server ({said}). Give another address with --url "
            "or ERRATA_URL, or start a server on a free port: `errata up --port 8643`",
            fields={"url": url},
        )


class OtherVersion(ErrataError):
    """An Errata server answers, but it does not know the request, or answers in another form."""

    default = "other-version"

    def __init__(self, url: str, request: str, said: str) -> None:
        super().__init__(
            f"the server at {url} {said}: {request}. It is probably of another version than this "
            "client; `pip show errata` tells the client's, /openapi.json the server's",
            fields={"url": url, "request": request},
        )


class BadAddress(ErrataError):
    """The address is no server's."""

    default = "bad-address"

    def __init__(self, url: str, why: str = "") -> None:
        because = f" ({why})" if why else ""
        super().__init__(
            f"{url!r} is no address of a server{because}; write it like http://127.0.0.1:8642",
            fields={"url": url},
        )


class BadArgument(ErrataError):
    """What was given cannot be sent. Nothing was."""

    default = "bad-argument"

    def __init__(self, argument: str, why: str) -> None:
        super().__init__(
            f"{argument} {why}. Nothing was sent; mend it, and call again",
            fields={"argument": argument},
        )


class ClientClosed(ErrataError):
    """The client was used after its end."""

    default = "client-closed"

    def __init__(self) -> None:
        super().__init__("this client is closed; make a new one, and use it inside its `with`")


class NotOne(ErrataError):
    """A name fits no model, snapshot or order, or several."""

    default = "not-one"

    def __init__(self, kind: str, name: str, found: Sequence[str], where: str) -> None:
        fits = f"fits several: {', '.join(found[:5])}" if found else "fits none"
        super().__init__(
            f"the {kind} {name!r} {fits}; {where} lists them", fields={"found": list(found)}
        )


class OfAnotherModel(ErrataError):
    """The snapshot or order is not one of the model that was named."""

    default = "of-another-model"

    def __init__(self, kind: str, name: str, *, owner: str, model: str) -> None:
        super().__init__(
            f"the {kind} {name} is one of the model {owner!r}, not of {model!r}; leave out "
            f"--model, or name one of that model: `errata {kind}s -m {model}` lists them",
            fields={kind: name, "model": model, "owner": owner},
        )


class StackFailed(ErrataError):
    """A stack that was started for us did not come up."""

    default = "stack-failed"
