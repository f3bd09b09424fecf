"""The facts of live edits: which a promotion is to ask for, and what it has found of them.

standing    a fact of a live edit that no later live fact with the same question has written again,
            and that no later edit has replaced in other words, as its editor says
sample      all standing facts about the subjects of an order (the latest of them, should they be
            very many), and of others a stretch of the live edits in an order of chance, which the
            order's id chooses: the same at every attempt, and found by an index
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from app.errors import Json
from app.services.naming import names_of
from app.store.db import Tx
from app.store.tables import Edit, Fact, Model, Snapshot

SAME = 256  # facts about the subjects of an order, at most
PER_EDIT = 4  # facts of one edit of another subject


@dataclass(frozen=True, slots=True)
class LiveFact:
    """A standing fact: which request of which edit, and whether it is about an order's subject."""

    edit: str
    number: int
    request: Json
    same_subject: bool


def sample(
    tx: Tx, model_id: str, order: str, requests: Sequence[Json], size: int, *, but: str = ""
) -> list[LiveFact]:
    """Choose the facts that a promotion asks for: none that it writes again.

    Where it takes an edit out, `but`, none of that one, and all that stand beside it.

    `size` edits of others are drawn; those that turn out to be about the same subjects, or not to
    stand any more, leave it smaller.
    """
    names = [names_of(request) for request in requests]
    asks = [each["ask"] for each in names]
    subjects = {each["subject"] for each in names}
    near = or_(
        Fact.subject.in_(subjects | {each["object"] for each in names}), Fact.object.in_(subjects)
    )
    wanted = and_(standing(but), Edit.id != but if but else Fact.ask.not_in(asks))
    ours = _facts(model_id).where(near, wanted).order_by(Edit.ord.desc(), Fact.number).limit(SAME)
    near_rows: Any = tx.session.execute(ours)
    same = [LiveFact(*row, same_subject=True) for row in near_rows]
    drawn = _drawn(tx, model_id, order, size)
    others = _facts(model_id).where(Edit.id.in_(drawn), ~near, wanted)
    ranked = others.add_columns(
        func.row_number()
        .over(partition_by=Edit.id, order_by=func.md5(func.concat(order, Fact.number)))
        .label("rank")
    ).subquery()
    few: Any = select(*list(ranked.c)[:3]).where(ranked.c.rank <= PER_EDIT)
    rows: Any = tx.session.execute(few)
    rest = [LiveFact(*row, same_subject=False) for row in rows]
    return [*same, *sorted(rest, key=lambda one: (one.edit, one.number))]


def standing(but: str = "") -> ColumnElement[bool]:
    """Say of a fact of a live edit that it is not replaced and no later live fact asks the same.

    Those of `but` ask nothing.
    """
    other, owner = aliased(Fact), aliased(Edit)
    later = or_(other.ord > Fact.ord, and_(other.ord == Fact.ord, other.number > Fact.number))
    again = select(other.edit_id).join(owner, owner.id == other.edit_id)
    same = other.model_id == Fact.model_id, other.ask == Fact.ask
    asked_again = exists(again.where(*same, later, owner.live, owner.id != but))
    return and_(Fact.replaced_by.is_(None), ~asked_again)


def promoted(tx: Tx, edit: Edit, snapshot: Snapshot) -> None:
    """Write down what a new head's report says of its facts, of other live ones, and of itself."""
    report: Mapping[str, Any] = snapshot.report or {}
    snapshot.health = summary(report)
    if edit.kind == "edit":
        said = [bool(row.get("answers")) for row in report.get("requests", [])]
        _write(tx, edit, snapshot.seq, said)
        _replace(tx, edit.id, report.get("live", {}).get("replaced", []))
    _replace(tx, None, report.get("live", {}).get("returned", []))
    asked: list[Json] = report.get("live", {}).get("asked", [])
    sure = [one for one in asked if one["now"] or one["before"]]
    # Not said before either: that is a loss where an earlier promotion, which drew others, was told
    # so by nobody. What was never said is none.
    silent = [one for one in asked if not (one["now"] or one["before"])]
    for some, which in ((sure, true()), (silent, Fact.held.is_(True))):
        _found(tx, snapshot.seq, some, which)


def _found(tx: Tx, seq: int, asked: Sequence[Json], which: ColumnElement[bool]) -> None:
    found = [{"edit": one["edit"], "at": one["fact"], "now": one["now"]} for one in asked]
    if found:
        this = Fact.edit_id == bindparam("edit"), Fact.number == bindparam("at")
        values = {"held": bindparam("now"), "asked_seq": seq}
        tx.session.connection().execute(update(Fact).where(*this, which).values(values), found)


def restored(tx: Tx, model: Model, snapshot: Snapshot, source: str) -> None:
    """Behind a restore what later states were asked says nothing: forget it.

    Replaced is what was replaced on the way to the state that is restored, and nothing else.
    """
    older = tx.session.get_one(Snapshot, source)
    snapshot.health = older.health
    later = update(Fact).where(Fact.model_id == model.id, Fact.asked_seq > older.seq)
    tx.session.execute(later.values(held=None, asked_seq=None))
    replaced = update(Fact).where(Fact.model_id == model.id, Fact.replaced_by.is_not(None))
    tx.session.execute(replaced.values(replaced_by=None))
    for edit, facts in _replaced_before(tx, source):
        _replace(tx, edit, facts)


def summary(report: Mapping[str, Any]) -> Json | None:
    """What health shows of a report; None of one without a canary."""
    if "canary" not in report:
        return None
    canary, judged = report["canary"], report.get("guard", {})
    values = {name: canary[name]["value"] for name in canary if name != "finite"}
    return {
        "kl": report["drift"]["kl"]["value"],
        **values,
        "finite": canary["finite"],
        "verdict": judged.get("verdict"),
        "breaches": judged.get("breaches", []),
    }


def _write(tx: Tx, edit: Edit, seq: int, said: Sequence[bool]) -> None:
    requests: list[Json] = edit.payload.get("requests", [])
    rows = [
        {
            "edit_id": edit.id,
            "number": number,
            "model_id": edit.model_id,
            "ord": edit.ord,
            "held": True if number < len(said) and said[number] else None,
            "asked_seq": seq,
            **names_of(request),
        }
        for number, request in enumerate(requests)
    ]
    if rows:
        tx.session.execute(insert(Fact), rows)


def _replace(tx: Tx, edit: str | None, facts: Sequence[Json]) -> None:
    """Say which order has replaced facts; None: they are live again."""
    if facts:
        this = Fact.edit_id == bindparam("owner"), Fact.number == bindparam("at")
        gone = [{"owner": one["edit"], "at": one["fact"]} for one in facts]
        written = update(Fact).where(*this).values(replaced_by=edit)
        tx.session.connection().execute(written, gone)


def _replaced_before(tx: Tx, snapshot: str) -> Iterable[tuple[str, list[Json]]]:
    """The facts that are replaced in a snapshot, by the order that did it."""
    live = Snapshot.report["live"]
    before = case((Snapshot.kind == "restore", Snapshot.source_id), else_=Snapshot.parent_id)
    step = select(Snapshot.id, before.label("before"))
    way = step.where(Snapshot.id == snapshot).cte("way", recursive=True)
    way = way.union(step.join(way, Snapshot.id == way.c.before))
    told: Any = tx.session.execute(
        select(Snapshot.edit_id, live["replaced"], live["returned"])
        .join(way, way.c.id == Snapshot.id)
        .where(live.has_key("replaced") | live.has_key("returned"))
        .order_by(Snapshot.seq)
    )
    by: dict[tuple[str, int], str] = {}
    for edit, replaced, returned in told:
        by |= {(one["edit"], one["fact"]): edit for one in replaced or ()}
        for one in returned or ():
            by.pop((one["edit"], one["fact"]), None)
    found: dict[str, list[Json]] = {}
    for (owner, number), edit in by.items():
        found.setdefault(edit, []).append({"edit": owner, "fact": number})
    return found.items()


def _facts(model_id: str) -> Any:  # noqa: ANN401  (Select[...], of JSON)
    """The facts of live edits: edit, number, request."""
    request = Edit.payload["requests"][Fact.number].cast(JSONB)
    return (
        select(Edit.id, Fact.number, request)
        .join(Fact, Fact.edit_id == Edit.id)
        .where(Edit.model_id == model_id, Edit.live, Edit.kind == "edit")
    )


def _drawn(tx: Tx, model_id: str, order: str, size: int) -> Iterable[str]:
    """So many live edits, beginning at a point that the order's id chooses, and around the end."""
    point = int.from_bytes(hashlib.sha256(order.encode()).digest()[:6]) / 2**48
    live = select(Edit.id).where(Edit.model_id == model_id, Edit.live, Edit.kind == "edit")
    found: list[str] = []
    for side in (Edit.draw >= point, Edit.draw < point):
        some = live.where(side).order_by(Edit.draw).limit(size - len(found))
        found += tx.session.scalars(some)
    return found
