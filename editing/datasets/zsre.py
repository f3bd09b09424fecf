"""zsRE, the part that MEND is evaluated on (Mitchell et al. 2022, arXiv:2110.11309).

subject, src (a question), alt (a new answer), answers (the right ones), rephrase, and loc, a
question of Natural Questions that has nothing to do with it, with its answer loc_ans.

A question has a slot where its subject stands. A record whose subject does not stand in its
question cannot be edited at it, and is left out, counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from editing.errors import BadRecord, BadRequest
from editing.request import EditRequest

from .sets import InSets, LeftOut, RecordSet, in_sets
from .slot import with_slot

DATASET = "zsre"

Json = Mapping[str, Any]


class Options(InSets, Protocol):
    """Which answer is written: `alt`, or the first of `answers`, as MEMIT and AlphaEdit do."""

    @property
    def target(self) -> Literal["alt", "answers"]:
        """The field of the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ZsreRecord:
    """A question and its new answer; another wording; a question that must stay as it is."""

    number: int  # from 0
    request: EditRequest
    locality: str
    locality_answer: str

    @property
    def rephrase(self) -> str:
        """The question in other words."""
        return self.request.paraphrases[0]


def cases(records: Sequence[Json], options: Options) -> list[RecordSet[ZsreRecord]]:
    """Records in sets, one case each. Raises BadRecord where a field is missing or empty."""
    found = [_record(number, record, options.target) for number, record in enumerate(records)]
    return in_sets(found, options)


def _record(number: int, record: Json, target: str) -> ZsreRecord | LeftOut:
    try:
        subject, question = str(record["subject"]), str(record["src"])
        old = _first(record["answers"])
        new = str(record["alt"]) if target == "alt" else old
        prompt = with_slot(question, subject)
        if prompt is None:
            return LeftOut(number, f"the subject {subject!r} does not stand in its question.")
        request = EditRequest(
            subject=subject.strip(),
            prompt=prompt,
            target_new=new,
            # An answer that is right already has no rival.
            target_true=old if old != new else None,
            paraphrases=(str(record["rephrase"]),),
        )
        locality, answer = str(record["loc"]), str(record["loc_ans"])
    except KeyError as error:
        raise BadRecord(number, why=f"it lacks {error}.", dataset=DATASET) from error
    except (BadRequest, TypeError) as error:
        raise BadRecord(number, why=str(error), dataset=DATASET) from error
    if not locality.strip() or not answer.strip():
        raise BadRecord(number, why="loc or loc_ans is empty.", dataset=DATASET)
    return ZsreRecord(number=number, request=request, locality=locality, locality_answer=answer)


def _first(answers: object) -> str:
    if isinstance(answers, str):
        return answers
    if not isinstance(answers, list | tuple) or not answers:
        raise BadRequest("answers is no list of texts.", field="answers")
    return str(cast("Sequence[object]", answers)[0])
