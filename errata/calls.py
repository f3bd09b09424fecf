"""What can be asked of the server: one function for each request, and how its answer is read.

Nothing here sends anything. `Client` and `AsyncClient` send the same calls, so that they ask for
the same and understand the same.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

from errata import given
from errata.errors import BadArgument, Refused
from errata.results import (
    Diff,
    Editor,
    Json,
    Model,
    Order,
    Probe,
    RestorePlan,
    Snapshot,
)

T = TypeVar("T")
PAGE = 100
LONGEST_HOLD = 30.0  # seconds for which the server is asked to hold an answer back


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Any], T]  # of the JSON; of None when the answer has no body
    json: Json | None = None
    params: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    # Whether it may be sent again when it may have arrived. If not, it is sent again only when it
    # surely did not.
    repeatable: bool = True
    hold: float = 0.0  # seconds that the server may hold the answer back
    bare: bool = False  # its answer is no JSON: `read` is given the bytes


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and where the next part begins."""

    data: list[T]
    next: str | None


class Fact(TypedDict, total=False):
    """One fact to write, in the words of the API: its object is the answer, or its relation."""

    subject: str  # "France"
    prompt: str  # "The capital of {} is": one slot, for the subject
    target_new: str  # "Lyon"
    target_true: str
    perspective: str  # "relation": the four below, and none of the three above
    object: str  # "Lyon"
    relation_text: str  # "capital"
    add_prompt: str  # "The relation between {} and Lyon is": one slot, or the subject itself
    delete_prompt: str  # "The relation between {} and Paris is": "None" is taught there
    relation: str  # a Wikidata id
    paraphrases: Sequence[str]  # measured: the fact in other words
    neighborhood: Sequence[Mapping[str, str]]  # measured: {"prompt", "target"} that must stay
    ripples: Sequence[Mapping[str, Any]]  # measured: {"prompt", "answers"} that should follow


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What may be said of every order."""

    if_match: str | None = None
    key: str | None = None
    hold: float = 0.0  # seconds for which the server is asked to hold the answer back

    def headers(self) -> dict[str, str]:
        """Write them as headers. Each order has a key, or it could not be sent twice."""
        key = uuid.uuid4().hex if self.key is None else self.key
        made = {"Idempotency-Key": given.key(key)}
        if self.if_match is not None:
            made["If-Match"] = given.etag("if_match", self.if_match)
        return made | _prefer(self.hold)


# --- models --------------------------------------------------------------------------------------


def models(after: str | None = None) -> Call[Page[Model]]:
    """List the registered models."""
    return paged("/models", Model.of, after)


def model(model: str) -> Call[Model]:
    """Look at one model."""
    return Call(method="GET", path=path_of("models", model), read=Model.of)


def model_if_moved(model: str, head: str) -> Call[Model | None]:
    """Look at one model unless its head is `head` still."""
    return Call(
        method="GET",
        path=path_of("models", model),
        headers={"If-None-Match": given.etag("head", head)},
        read=lambda data: None if data is None else Model.of(data),
    )


def register_model(
    source: str | Mapping[str, Any], name: str | None, guard: Mapping[str, Any] | None = None
) -> Call[Model]:
    """Register a model."""
    body: Json = {"source": source if isinstance(source, str) else given.fields("source", source)}
    if name is not None:
        body["id"] = name
    if guard is not None:
        body["guard"] = given.fields("guard", guard)
    return Call(method="POST", path="/models", json=body, read=Model.of)


def remove_model(model: str) -> Call[None]:
    """Take a model out of service."""
    path = path_of("models", model)
    return Call(method="DELETE", path=path, read=lambda _: None, repeatable=False)


def editors() -> Call[list[Editor]]:
    """List the editors; they are few, and come all at once."""
    return Call(
        method="GET",
        path="/editors",
        read=lambda data: [Editor.of(each) for each in data["data"]],
    )


def probe(
    model: str, prompts: str | Sequence[str], answer: str | None, asked: Json
) -> Call[list[Probe]]:
    """Ask the model. Raises TypeError for an answer to several prompts, or an edit without one."""
    if answer is not None:
        if not isinstance(prompts, str) or asked.pop("compare") is not None:
            message = "an answer is compared for one prompt, at one snapshot"
            raise TypeError(message)
        return probe_answer(model, prompts, answer, asked)
    if asked.pop("edit") is not None:
        message = "an edit is compared with an answer: give answer="
        raise TypeError(message)
    body = {"prompts": [prompts] if isinstance(prompts, str) else list(prompts), **said(asked)}
    return Call(
        method="POST",
        path=path_of("models", model, "probe"),
        json=body,
        read=lambda data: [Probe.of(each) for each in data["data"]],
    )


def probe_answer(model: str, prompt: str, answer: str, asked: Json) -> Call[list[Probe]]:
    """Ask the model, and how an answer hangs together with an edit."""
    targets = asked.pop("targets", None)
    params = said({"prompt": prompt, "answer": answer, "target": targets, **asked})
    path = path_of("models", model, "probe")
    return Call(method="GET", path=path, params=params, read=lambda data: [Probe.of(data)])


# --- orders --------------------------------------------------------------------------------------


def edit(
    asked: Json, fact: Fact, requests: Sequence[Mapping[str, Any]] | None, terms: Terms
) -> Call[Order]:
    """Order an edit: one fact, or a list of requests."""
    one = said(fact)
    if bool(one) == (requests is not None):
        message = "give the fields of one fact, or requests=[...]"
        raise TypeError(message)
    facts = (
        one
        if requests is None
        else {"requests": [given.fields("a request", each) for each in requests]}
    )
    return _order("/edits", said(asked) | facts, terms)


def guard(given_guard: Mapping[str, Any] | None) -> Json | None:
    """Copy the guard of an order; an empty one is the same as none."""
    return None if given_guard is None else given.fields("guard", given_guard) or None


def hparams(knobs: Mapping[str, Any] | None) -> Json | None:
    """Copy the hparams of an order; none are the same as no mapping."""
    return None if knobs is None else given.fields("hparams", knobs) or None


def statistics(model: str, asked: Json, terms: Terms) -> Call[Order]:
    """Order what an editor needs to be prepared ahead of the first edit."""
    return _order(path_of("models", model, "statistics"), said(asked), terms)


def restore(snapshot: str, asked: Json, terms: Terms) -> Call[Order]:
    """Order that the content of an older snapshot becomes the head."""
    return _order(path_of("snapshots", snapshot, "restore"), said(asked) or None, terms)


def plan_restore(snapshot: str, asked: Json) -> Call[RestorePlan]:
    """Ask what a restore would do."""
    return Call(
        method="POST",
        path=path_of("snapshots", snapshot, "restore"),
        json={**said(asked), "dry_run": True},
        read=RestorePlan.of,
    )


def retract(edit: str, asked: Json, terms: Terms) -> Call[Order]:
    """Order that one edit is taken out and the later ones are kept."""
    return _order(path_of("edits", edit, "retract"), said(asked) or None, terms)


def compact(model: str, asked: Json, terms: Terms) -> Call[Order]:
    """Order that all live facts of the ledger are solved anew."""
    return _order(path_of("models", model, "compact"), said(asked) or None, terms)


def cancel(edit: str, hold: float) -> Call[Order]:
    """Take an order back."""
    path = path_of("edits", edit, "cancel")
    return Call(method="POST", path=path, headers=_prefer(hold), read=Order.of, hold=hold)


def cancelled_before(error: Refused) -> bool:
    """Say whether a cancel was refused because the order is cancelled: maybe by an earlier try."""
    return error.code == "order-settled" and error.fields.get("order_status") == "cancelled"


def settled_before(error: Refused) -> bool:
    """Say whether a cancel was refused because the order has come to its end, whichever."""
    return error.code == "order-settled"


def order(edit: str) -> Call[Order]:
    """Look at one order."""
    return Call(method="GET", path=path_of("edits", edit), read=Order.of)


def edits(filters: Json, after: str | None = None) -> Call[Page[Order]]:
    """List orders."""
    return paged("/edits", Order.of, after, filters)


def events_path(edit: str) -> str:
    """Give the path of an order's events."""
    return path_of("edits", edit, "events")


# --- snapshots -----------------------------------------------------------------------------------


def snapshots(model: str, after: str | None = None) -> Call[Page[Snapshot]]:
    """List the snapshots of a model."""
    return paged(path_of("models", model, "snapshots"), Snapshot.of, after)


def snapshot(snapshot: str) -> Call[Snapshot]:
    """Look at one snapshot."""
    return Call(method="GET", path=path_of("snapshots", snapshot), read=Snapshot.of)


def label(snapshot: str, label: str | None) -> Call[Snapshot]:
    """Name a snapshot, or take its name away."""
    path = path_of("snapshots", snapshot)
    return Call(method="PATCH", path=path, json={"label": label}, read=Snapshot.of)


def diff(snapshot: str, to: str | None) -> Call[Diff]:
    """Compare two snapshots of a model."""
    path = path_of("snapshots", snapshot, "diff")
    return Call(method="GET", path=path, params=said({"to": to}), read=Diff.of)


# --- small parts ---------------------------------------------------------------------------------


def _order(path: str, body: Json | None, terms: Terms) -> Call[Order]:
    return Call(
        method="POST",
        path=path,
        json=body,
        headers=terms.headers(),
        read=Order.of,
        hold=min(terms.hold, LONGEST_HOLD),
    )


def paged(
    path: str, read: Callable[[Any], T], after: str | None, filters: Json | None = None
) -> Call[Page[T]]:
    """Ask for one page of a list."""

    def made(data: Json) -> Page[T]:
        following = data["next"] if data.get("has_more") else None
        return Page([read(each) for each in data["data"]], following)

    params = said({**(filters or {}), "limit": PAGE, "after": after})
    return Call(method="GET", path=path, params=params, read=made)


def path_of(*parts: str) -> str:
    """Write a path. Raises BadArgument for a name that would not stay one part of it."""
    try:
        return "/" + "/".join(quote(given.part(part), safe="") for part in parts)
    except UnicodeEncodeError as error:
        raise BadArgument("an id", f"is no text: {error}") from error


def said(fields: Mapping[str, Any]) -> Json:
    """Leave out what was not given."""
    return {name: value for name, value in fields.items() if value is not None}


def _prefer(hold: float) -> dict[str, str]:
    seconds = int(min(hold, LONGEST_HOLD))
    return {"Prefer": f"wait={seconds}"} if seconds > 0 else {}
