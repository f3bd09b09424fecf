"""Facts of any benchmark as edit requests without their tests, and as blocks of a Gram matrix.

Each record says by its fields which benchmark it is of: CounterFact in either form (and whatever
else has prompt, subject and target_new, such as KnowEdit), RippleEdits, zsRE, the known facts of
causal tracing (whose attribute is the answer), or one of our own edit requests. Standard library
only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from editing.errors import BadRecord, BadRequest
from editing.request import EditRequest

from .ripple_native import native_case
from .slot import with_slot

if TYPE_CHECKING:
    from editing.evals.options import GradsimOptions

DATASET = "facts"
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """A question with its answer; `number` is the record's, from 0."""

    number: int
    question: str
    answer: str
    subject: str
    relation: str | None

    @property
    def fact(self) -> tuple[str, str]:
        """What a model is asked, and what it is to say."""
        return self.question, self.answer


@dataclass(frozen=True, slots=True)
class GramBlock:
    """A part of a Gram matrix: some facts with others, which are the same on the diagonal."""

    rows: tuple[Statement, ...]
    columns: tuple[Statement, ...]

    @property
    def diagonal(self) -> bool:
        """Whether rows and columns are the same facts."""
        return self.rows == self.columns


def gram_cases(records: Sequence[Json], options: "GradsimOptions") -> list[GramBlock]:
    """The blocks on and above the diagonal, row by row. Raises BadRecord."""
    facts = [_statement(number, record, options.target) for number, record in enumerate(records)]
    size = options.block
    parts = [tuple(facts[start : start + size]) for start in range(0, len(facts), size)]
    return [GramBlock(mine, other) for at, mine in enumerate(parts) for other in parts[at:]]


def _statement(number: int, record: Json, target: str) -> Statement:
    request = request_of(number, record)
    answer = request.target_new if target == "new" else request.target_true
    if answer is None:
        why = "it names no target_true, and the facts before the edit were asked for."
        raise BadRecord(number, why=why, dataset=DATASET)
    return Statement(number, request.question, answer, request.subject, request.relation)


def request_of(number: int, record: object) -> EditRequest:
    """The fact that a record would write, without its tests. Raises BadRecord."""
    if not isinstance(record, Mapping):
        raise BadRecord(number, why="it is no object.", dataset=DATASET)
    try:
        return _request(number, cast("Json", record))
    except BadRecord:
        raise
    except BadRequest as error:
        raise BadRecord(number, why=str(error), dataset=DATASET) from error
    except KeyError as error:
        raise BadRecord(number, why=f"it lacks {error}.", dataset=DATASET) from error
    except (TypeError, AttributeError) as error:
        why = "a field is of another kind than its form has."
        raise BadRecord(number, why=why, dataset=DATASET) from error


def _request(number: int, record: Json) -> EditRequest:
    if isinstance(record.get("edit"), Mapping):
        return native_case(number, record).request
    if "requested_rewrite" in record:
        rewrite = record["requested_rewrite"]
        return EditRequest(
            subject=rewrite["subject"],
            prompt=rewrite["prompt"],
            target_new=rewrite["target_new"]["str"],
            target_true=rewrite["target_true"]["str"],
            relation=rewrite.get("relation_id"),
        )
    if "attribute" in record:
        answer, relation = record["attribute"], record.get("relation_id")
        return _spelled(record["prompt"], record["subject"], answer, answer, relation)
    if "src" in record:
        old = record["answers"][0]
        return _spelled(record["src"], record["subject"], record["alt"], old)
    if "{}" in str(record.get("prompt")) or record.get("perspective"):
        return EditRequest.from_dict(record)
    old = record.get("ground_truth", record.get("target_true"))
    while isinstance(old, list):  # KnowEdit nests aliases
        old = cast("list[object]", old)[0] if old else None
    relation = record.get("relation_id", record.get("relation"))
    new = record["target_new"]
    return _spelled(record["prompt"], record["subject"], new, cast("str | None", old), relation)


def _spelled(
    prompt: str, subject: str, new: str, old: str | None, relation: str | None = None
) -> EditRequest:
    """A request of a prompt that spells its subject out. Raises BadRequest."""
    slotted = with_slot(prompt.strip(), subject)
    if slotted is None:
        why = f"the subject {subject!r} does not stand in the prompt {prompt!r}."
        raise BadRequest(why, field="subject")
    return EditRequest(
        subject=subject.strip(),
        prompt=slotted,
        target_new=new,
        target_true=old or None,
        relation=relation,
    )
