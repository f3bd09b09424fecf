"""What a network is trained on, what it is judged by, and what it must never see."""

import hashlib
import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from editing.errors import BadRequest
from editing.request import EditRequest


@dataclass(frozen=True, slots=True)
class Split:
    """Records to learn from, and records kept apart to judge by."""

    train: tuple[EditRequest, ...]
    check: tuple[EditRequest, ...]

    @property
    def digest(self) -> str:
        """A name for exactly these records in this order."""
        told = [[one.to_dict() for one in part] for part in (self.train, self.check)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def at(self, draw: int, seed: int) -> EditRequest:
        """The record of a draw: all of them in turn, in another order each time round."""
        turn, place = divmod(draw, len(self.train))
        return self.train[_shuffled(len(self.train), f"{seed} {turn}")[place]]


def split_of(
    records: Sequence[EditRequest],
    left_out: Sequence[EditRequest] = (),
    *,
    check: int,
    seed: int,
) -> Split:
    """Split the records that can be trained on, without whatever `left_out` speaks of.

    A record is left out with one of those when it has its subject or any of its texts, prompts of
    neighbors included. Of several records with one question the first stays. One without a neighbor
    or without target_true is of no use here. Raises BadRequest where too few are left.
    """
    subjects = {one.subject.casefold() for one in left_out}
    texts = {text for one in left_out for text in texts_in(one)}
    usable: dict[str, EditRequest] = {}
    for one in records:
        shares = one.subject.casefold() in subjects or not texts.isdisjoint(texts_in(one))
        if one.neighborhood and one.target_true and not shares:
            usable.setdefault(one.question, one)
    kept = list(usable.values())
    random.Random(f"{seed} split").shuffle(kept)  # noqa: S311
    if len(kept) <= check:
        why = (
            f"{len(kept)} records are left to train on, and {check} of them are to be kept apart. "
            "Give more data, leave out fewer records, or lower check_records."
        )
        raise BadRequest(why, records=len(kept))
    return Split(tuple(kept[check:]), tuple(kept[:check]))


def draw_of(iteration: int, seed: int, *, pool: int, passes: int) -> int:
    """Which draw an iteration learns from: `pool` of them `passes` times, then the next ones."""
    block, within = divmod(iteration, pool * passes)
    turn, place = divmod(within, pool)
    return block * pool + _shuffled(pool, f"{seed} {block} {turn}")[place]


def _shuffled(size: int, seed: str) -> list[int]:
    order = list(range(size))
    random.Random(seed).shuffle(order)  # noqa: S311 - an order is no secret
    return order


def texts_in(record: EditRequest) -> Collection[str]:
    """Every prompt of a record, with its subject in it."""
    near = (neighbor.prompt for neighbor in record.neighborhood)
    return {record.question, *record.paraphrases, *near}
