"""CounterFact (Meng et al. 2022, arXiv:2202.05262), in two forms; each record says which it has.

The authors' own: requested_rewrite{prompt, subject, relation_id, target_new{str},
target_true{str}}, paraphrase_prompts, neighborhood_prompts. A neighbor shares the relation and the
true object, so what it must keep is target_true.

The flat one, of EasyEdit: prompt (with the subject in it), subject, target_new, ground_truth, and
one each of rephrase_prompt and locality_prompt with its locality_ground_truth.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from editing.errors import BadRequest
from editing.request import EditRequest, Neighbor


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
    return [_request(number + offset, record) for number, record in enumerate(chosen)]


def _request(number: int, record: Mapping[str, Any]) -> EditRequest:
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
    subject = cast("str", record["subject"])
    near = Neighbor(prompt=record["locality_prompt"], target=record["locality_ground_truth"])
    return EditRequest(
        subject=subject,
        prompt=cast("str", record["prompt"]).replace(subject, "{}", 1),
        target_new=record["target_new"],
        target_true=record["ground_truth"],
        paraphrases=(record["rephrase_prompt"],),
        neighborhood=(near,),
    )
