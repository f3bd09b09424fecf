"""Edit requests in our own JSON, as `POST /edits` takes them (editing.request).

Records of CounterFact, in either form, are taken for what they ask to be written.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from editing.errors import BadRecord, BadRequest
from editing.request import EditRequest

from .counterfact import counterfact_request
from .sets import InSets, RecordSet, in_sets

DATASET = "requests"
_COUNTERFACT = {"requested_rewrite", "ground_truth"}  # fields that no request of ours has


def requests_of(records: Sequence[Mapping[str, Any]]) -> list[EditRequest]:
    """One request a record, of our own form or of CounterFact's. Raises BadRecord."""
    return [_request(number, record) for number, record in enumerate(records)]


def cases(
    records: Sequence[Mapping[str, Any]], options: InSets
) -> list[RecordSet[tuple[int, EditRequest]]]:
    """Requests with their numbers, in sets, one case each. Raises BadRecord."""
    return in_sets(list(enumerate(requests_of(records))), options)


def _request(number: int, record: Mapping[str, Any]) -> EditRequest:
    try:
        if record.keys() & _COUNTERFACT:
            return counterfact_request(number, record)
        return EditRequest.from_dict(record)
    except (BadRequest, AttributeError, TypeError) as error:
        raise BadRecord(number, why=str(error), dataset=DATASET) from error
