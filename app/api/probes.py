"""Probes: ask a model, as it is or as it was."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from app.api.bodies import MAX_TOKENS, MAX_TOP, ProbeIn
from app.api.deps import House, HouseDep
from app.api.problems import problems
from app.api.schemas import ProbeOut
from app.errors import (
    AnswerRequired,
    EditNotFound,
    Json,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    ProbeTimedOut,
    QueueUnavailable,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
)
from app.queue.messages import ProbeMessage
from app.services import probe
from app.store.ids import new_id
from editing.errors import TextTooLong

router = APIRouter(prefix="/models/{model_id}/probe", tags=["probes"])

PROBLEMS: Any = problems(
    AnswerRequired,
    EditNotFound,
    ModelNotFound,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
    TextTooLong,
    ModelFailed,
    ModelNotReady,
    QueueUnavailable,
    ProbeTimedOut,
)


class Probes(BaseModel):
    """The answers, one for each prompt; with `compare`, each holds a second one."""

    data: list[ProbeOut]


@router.get("", responses=PROBLEMS, response_model_exclude_unset=True)
async def probe_once(
    *,
    model_id: str,
    house: HouseDep,
    prompt: Annotated[str, Query(min_length=1, max_length=4_000, examples=["France is"])],
    target: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=500)]],
        Query(max_length=16, description="How likely is this to follow?"),
    ] = [],  # noqa: B006  (FastAPI copies it)
    answer: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=500,
            description="Says how this answer hangs together with an edit: `gradsim`, of the model "
            "before it, and, once it is applied, `ripple`.",
        ),
    ] = None,
    edit: Annotated[
        str | None, Query(description="With `answer`: which edit; the last live ones without it.")
    ] = None,
    snapshot: Annotated[str | None, Query(description="An older state.")] = None,
    top_k: Annotated[int, Query(ge=0, le=MAX_TOP)] = 5,
    max_tokens: Annotated[int, Query(ge=0, le=MAX_TOKENS)] = 20,
) -> ProbeOut:
    """Put one prompt to a model. A URL is short: longer prompts, and more targets, go by POST."""
    try:
        asked = ProbeIn(
            prompts=[prompt],
            targets=target,
            snapshot=snapshot,
            compare=None,
            top_k=top_k,
            max_tokens=max_tokens,
        )
    except ValidationError as error:
        found = [{**each, "loc": ("query", _asked_as(each["loc"]))} for each in error.errors()]
        raise RequestValidationError(found) from None
    if edit is not None and answer is None:
        raise AnswerRequired
    about = None if answer is None else (answer, edit)
    return (await _ask(house, model_id, asked, about))[0]


@router.post("", responses=PROBLEMS, response_model_exclude_unset=True)
async def probe_many(model_id: str, body: ProbeIn, house: HouseDep) -> Probes:
    """Put several prompts to a model, with candidate targets, at one snapshot or two."""
    return Probes(data=await _ask(house, model_id, body))


def _asked_as(loc: tuple[str | int, ...]) -> str:
    """The query parameter that became this part of a question."""
    name = str(loc[0]) if loc else "prompt"
    return {"prompts": "prompt", "targets": "target"}.get(name, name)


async def _ask(
    house: House, model_id: str, asked: ProbeIn, answer: tuple[str, str | None] | None = None
) -> list[ProbeOut]:
    about = await run_in_threadpool(_check, house, model_id, asked, answer)
    asked_at = time.time()
    message = ProbeMessage(
        id=new_id("prb"),
        deadline=asked_at + house.settings.probe_deadline_s,
        asked_at=asked_at,
        prompts=asked.prompts,
        targets=asked.targets,
        snapshot=asked.snapshot,
        compare=asked.compare,
        top_k=asked.top_k,
        max_tokens=asked.max_tokens,
        about=about,
    )
    answers = await probe.ask(house.redis, model_id, message)
    return [ProbeOut.model_validate({"model": model_id, **answer}) for answer in answers]


def _check(
    house: House, model_id: str, asked: ProbeIn, answer: tuple[str, str | None] | None
) -> Json | None:
    with house.database.tx() as tx:
        probe.check(tx, model_id, asked.snapshot, asked.compare)
        if answer is None:
            return None
        return probe.about(tx, model_id, *answer, asked.snapshot)
