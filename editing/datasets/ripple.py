"""RippleEdits (Cohen et al. 2024, arXiv:2307.12976), in three forms; each record says which it has.

native    edit{prompt, subject_id, relation, target_id, original_fact?} and a list of tests for each
          criterion. The prompt is the whole statement, the subject is known by its id alone: its
          place is found by the words of the relation (ripple_native.py).
knowedit  subject, prompt, target_new, ground_truth, portability{..}, locality{..}: KnowEdit's
          (Zhang et al. 2024, arXiv:2401.01286), without conditions. Those of the compositionality
          criteria are made from the prompts (ripple_knowedit.py).
request   one of our own edit requests, whose `ripples` are the queries.

What cannot be measured is left out and counted in the case's `skipped`: a test without an answer,
one that asks the edit itself, one that comes twice, an empty criterion. A record that is of no form
raises BadRecord.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from editing.errors import BadRecord, BadRequest
from editing.request import EditRequest

from .ripple_knowedit import knowedit_case
from .ripple_native import native_case
from .ripple_types import DATASET, UNNAMED, RippleCase, RippleQuery, RippleTest
from .ripple_words import Sieve, criterion_named

Json = Mapping[str, Any]


def cases(records: Sequence[Json], _options: object = None) -> list[RippleCase]:
    """One case a record. Raises BadRecord for a record that is of none of the forms."""
    return [_case(number, record) for number, record in enumerate(records)]


def _case(number: int, record: object) -> RippleCase:
    if not isinstance(record, Mapping):
        raise BadRecord(number, why="it is no object.", dataset=DATASET)
    fields = cast("Json", record)
    try:
        if isinstance(fields.get("edit"), Mapping):
            return native_case(number, fields)
        if "portability" in fields or "locality" in fields:
            return knowedit_case(number, fields)
        return request_case(number, EditRequest.from_dict(fields))
    except BadRecord:
        raise
    except BadRequest as error:
        raise BadRecord(number, why=str(error), dataset=DATASET) from error
    except KeyError as error:
        raise BadRecord(number, why=f"it lacks {error}.", dataset=DATASET) from error
    except (TypeError, AttributeError) as error:
        why = "a field is of another kind than its form has."
        raise BadRecord(number, why=why, dataset=DATASET) from error


def request_case(number: int, request: EditRequest) -> RippleCase:
    """The case of an edit request's own `ripples`: their answers are aliases of one value."""
    sieve = Sieve(request)
    for ripple in request.ripples:
        criterion = UNNAMED if ripple.criterion is None else criterion_named(ripple.criterion)
        query = RippleQuery(prompt=ripple.prompt, answers=(ripple.answers,))
        sieve.take(RippleTest(criterion=criterion, queries=(query,)))
    if not request.ripples:
        sieve.skip("the request has no ripples.")
    tests, skipped = sieve.found
    return RippleCase(number=number, form="request", edit=request, tests=tests, skipped=skipped)
