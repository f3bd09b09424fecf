"""CounterFact (Meng et al. 2022, arXiv:2202.05262), in two forms; each record says which it has.

The authors' own: requested_rewrite{prompt, subject, relation_id, target_new{str},
target_true{str}}, paraphrase_prompts, neighborhood_prompts. A neighbor shares the relation and the
true object, so what it must keep is target_true. Besides attribute_prompts (about subjects whose
object is target_new) and generation_prompts (what free texts about the subject begin with).

The flat one, of EasyEdit: prompt (with the subject in it), subject, target_new, ground_truth, and
one each of rephrase_prompt and locality_prompt with its locality_ground_truth.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from editing.errors import BadRecord, BadRequest, SubjectSlotMissing
from editing.request import EditRequest, Neighbor

from .sets import InSets, LeftOut, RecordSet, in_sets
from .slot import with_slot

DATASET = "counterfact"


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterFactRecord:
    """One record: the request, and what only the authors' own form has beside it."""

    number: int  # from 0
    request: EditRequest
    attributes: tuple[str, ...] = ()  # prompts whose answer is target_new, of other subjects
    generations: tuple[str, ...] = ()  # what free texts about the subject begin with
    corpus: tuple[str, ...] = field(default=(), repr=False)  # references of all records

    @property
    def references(self) -> tuple[str, ...]:
        """Statements about other subjects that have the new object."""
        return tuple(f"{prompt} {self.request.target_new}." for prompt in self.attributes)


def cases(
    records: Sequence[Mapping[str, Any]], options: InSets
) -> list[RecordSet[CounterFactRecord]]:
    """Records in sets, one case each. Raises BadRecord for a record of neither form."""
    found = [_record(number, record) for number, record in enumerate(records)]
    read = [record for record in found if isinstance(record, CounterFactRecord)]
    corpus = tuple(text for record in read for text in record.references)
    found = [
        replace(one, corpus=corpus) if isinstance(one, CounterFactRecord) else one for one in found
    ]
    return in_sets(found, options)


def _record(number: int, record: Mapping[str, Any]) -> CounterFactRecord | LeftOut:
    try:
        request = counterfact_request(number, record)
        return CounterFactRecord(
            number=number,
            request=request,
            attributes=tuple(map(str, record.get("attribute_prompts") or ())),
            generations=tuple(map(str, record.get("generation_prompts") or ())),
        )
    except SubjectSlotMissing:
        return LeftOut(number, "the subject does not stand in the prompt.")
    except (BadRequest, AttributeError, TypeError) as error:
        raise BadRecord(number, why=str(error), dataset=DATASET) from error


def read_counterfact(file: Path, *, offset: int = 0, limit: int | None = None) -> list[EditRequest]:
    """Records offset .. offset + limit of a file. Raises BadRequest where a field is missing."""
    try:
        records = json.loads(file.read_text("utf-8"))
    except ValueError as error:  # no UTF-8, or no JSON
        raise BadRequest(f"{file} is no JSON file: {error}", path=str(file)) from error
    if not isinstance(records, list):
        raise BadRequest(f"{file} holds no list of records.", path=str(file))
    chosen = cast("list[dict[str, Any]]", records)[
        offset : None if limit is None else offset + limit
    ]
    return [counterfact_request(number + offset, record) for number, record in enumerate(chosen)]


def counterfact_request(number: int, record: Mapping[str, Any]) -> EditRequest:
    """What a record asks to be written. Raises BadRequest where a field is missing."""
    try:
        flat = "prompt" in record and "requested_rewrite" not in record
        return _flat(record) if flat else _own(record)
    except (KeyError, TypeError) as error:
        why = (
            f"CounterFact record {number} lacks {error}. Is this file in the authors' own form, or "
            "in EasyEdit's?"
        )
        raise BadRequest(why, record=number) from error


def _own(record: Mapping[str, Any]) -> EditRequest:
    rewrite = cast("Mapping[str, Any]", record["requested_rewrite"])
    true = rewrite["target_true"]["str"]
    return EditRequest(
        subject=rewrite["subject"],
        prompt=rewrite["prompt"],
        target_new=rewrite["target_new"]["str"],
        target_true=true,
        relation=rewrite.get("relation_id"),
        paraphrases=tuple(record["paraphrase_prompts"]),
        neighborhood=tuple(
            Neighbor(prompt=prompt, target=true) for prompt in record["neighborhood_prompts"]
        ),
    )


def _flat(record: Mapping[str, Any]) -> EditRequest:
    subject, prompt = cast("str", record["subject"]), cast("str", record["prompt"])
    near = Neighbor(prompt=record["locality_prompt"], target=record["locality_ground_truth"])
    return EditRequest(
        subject=subject,
        prompt=with_slot(prompt, subject) or prompt,
        target_new=record["target_new"],
        target_true=record["ground_truth"],
        paraphrases=(record["rephrase_prompt"],),
        neighborhood=(near,),
    )
