"""What can be asked of the server about measurements: one function for each request."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from errata import given
from errata.calls import Call, Page, Terms, paged, path_of, said
from errata.errors import EvalFailed, Refused
from errata.eval_results import Eval, Forecast, Suite
from errata.health_results import Health
from errata.results import Json, Model

ROWS = 500  # of one page


def health(model: str, after: str | None, limit: int | None) -> Call[Health]:
    """Ask how a model does."""
    params = said({"after": after, "limit": limit})
    path = path_of("models", model, "health")
    return Call(method="GET", path=path, params=params, read=Health.of)


def set_guard(model: str, guard: Mapping[str, Any] | None, if_match: str | None) -> Call[Model]:
    """Set the guard of a model."""
    headers = {} if if_match is None else {"If-Match": given.etag("if_match", if_match)}
    body = {"guard": None if guard is None else given.fields("guard", guard)}
    path = path_of("models", model)
    return Call(method="PATCH", path=path, json=body, headers=headers, read=Model.of)


def suites() -> Call[list[Suite]]:
    """List the suites; they are few, and come all at once."""
    return Call(
        method="GET",
        path="/suites",
        read=lambda data: [Suite.of(each) for each in data["data"]],
    )


def evaluate(
    asked: Json, records: Sequence[Mapping[str, Any]] | None, key: str | None
) -> Call[Eval]:
    """Ask for an eval."""
    body = said(asked)
    if records is not None:
        body["records"] = [given.fields("a record", each) for each in records]
    headers = Terms(key=key).headers()
    return Call(method="POST", path="/evals", json=body, headers=headers, read=Eval.of)


def look(eval_id: str) -> Call[Eval]:
    """Look at one eval."""
    return Call(method="GET", path=path_of("evals", eval_id), read=Eval.of)


def evals(filters: Json, after: str | None = None) -> Call[Page[Eval]]:
    """List evals."""
    return paged("/evals", Eval.of, after, filters)


def rows(
    eval_id: str, match: Mapping[str, Any] | None = None, after: str | None = None
) -> Call[Page[Json]]:
    """Read rows of an eval."""
    filters = {"match": None if match is None else json.dumps(given.fields("match", match))}
    call = paged(path_of("evals", eval_id, "rows"), dict, after, filters)
    return Call(method="GET", path=call.path, params={**call.params, "limit": ROWS}, read=call.read)


def cancel(eval_id: str) -> Call[Eval]:
    """Stop an eval."""
    return Call(method="POST", path=path_of("evals", eval_id, "cancel"), read=Eval.of)


def cancelled_before(error: Refused) -> bool:
    """Say whether a cancel was refused because the eval is cancelled: maybe by an earlier try."""
    return error.code == "eval-settled" and error.fields.get("eval_status") == "cancelled"


def plot(
    eval_id: str,
    name: str,
    format: str,  # noqa: A002 - the API's word
    snapshot: str | None,
) -> Call[bytes]:
    """Draw what an eval has found."""
    path = path_of("evals", eval_id, "plot", name)
    params = said({"format": format, "snapshot": snapshot})
    return Call(method="GET", path=path, params=params, read=bytes, bare=True)


def report(eval_id: str) -> Call[str]:
    """Tell all of an eval on one page."""
    path = path_of("evals", eval_id, "report")
    return Call(method="GET", path=path, read=lambda data: data.decode("utf-8"), bare=True)


def forecast(
    model: str,
    request: Mapping[str, Any],
    ripples: Sequence[Mapping[str, Any]],
    snapshot: str | None,
) -> Call[Forecast]:
    """Ask what an edit would move."""
    body: Json = {
        "request": given.fields("request", request),
        "ripples": [given.fields("a ripple", each) for each in ripples],
        **said({"snapshot": snapshot}),
    }
    path = path_of("models", model, "forecast")
    return Call(method="POST", path=path, json=body, read=Forecast.of)


def order_of(
    suite: str,
    *,
    model: str | None,
    snapshot: str | None,
    snapshots: Sequence[str] | None,
    editor: str | None,
    hparams: Mapping[str, Any] | None,
    data: str | Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> Json:
    """Put what was given into the words of the API; `data` may be a dataset's name."""
    return {
        "suite": suite,
        "model": model,
        "snapshot": snapshot,
        "snapshots": list(snapshots) if snapshots else None,
        "editor": editor,
        "hparams": given.fields("hparams", hparams) if hparams else None,
        "data": {"name": data} if isinstance(data, str) else data and given.fields("data", data),
        "options": given.fields("options", options) if options else None,
    }


def finished(found: Eval) -> Eval:
    """Give a settled eval if all of it was measured. Raises EvalFailed."""
    if not found.finished:
        raise EvalFailed(found)
    return found
