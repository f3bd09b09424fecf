"""Names that a person types, made into the ids that the server takes.

A model: its id, or how it begins; nothing where there is only one.
A snapshot: its id, its label, its seq in the model, or how its id begins.
An order: its id, its ord in the model, or how its id begins.

A whole id needs no model. With one, it must be that model's own: what is meant for one model is
never done to another.
"""

import re
from collections.abc import Iterable

from errata.client import Client
from errata.errors import NotOne, OfAnotherModel

_WHOLE = re.compile(r"(snp|edt)_[0-9a-z]{26}")
_ANY = "(none named)"


def model(client: Client, given: str | None) -> str:
    """Give the id of the model that was named, or of the only one there is."""
    known = [each.id for each in client.models()]
    where = "`errata models`" if known else "`errata models --register smollm2-135m`"
    if given is not None:
        return _one("model", given, known, where)
    if len(known) == 1:
        return known[0]
    raise NotOne("model", _ANY, known, f"name one with --model; {where}")


def snapshot(client: Client, given: str, in_model: str | None) -> str:
    """Give the id of a snapshot."""
    if _WHOLE.fullmatch(given):
        if in_model is not None:
            name = model(client, in_model)
            _belongs("snapshot", given, client.snapshot(given).model, name)
        return given
    name = model(client, in_model)
    known = client.snapshots(name)
    for each in known:
        if given in {each.label, str(each.seq)}:
            return each.id
    return _one("snapshot", given, [each.id for each in known], f"`errata snapshots -m {name}`")


def order(client: Client, given: str, in_model: str | None) -> str:
    """Give the id of an order."""
    if _WHOLE.fullmatch(given):
        if in_model is not None:
            _belongs("edit", given, client.order(given).model, model(client, in_model))
        return given
    name = model(client, in_model)
    known = list(client.edits(model=name))
    for each in known:
        if given == str(each.ord):
            return each.id
    return _one("order", given, [each.id for each in known], f"`errata edits -m {name}`")


def _belongs(kind: str, given: str, owner: str, model: str) -> None:
    if owner != model:
        raise OfAnotherModel(kind, given, owner=owner, model=model)


def _one(kind: str, given: str, known: Iterable[str], where: str) -> str:
    found = [each for each in known if given and each.startswith(given)]
    if given in found:
        return given
    if len(found) != 1:
        raise NotOne(kind, given, found, where)
    return found[0]
