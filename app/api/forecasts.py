"""Forecasts: what an edit would move, asked before it is made."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from app.api.bodies import ForecastIn
from app.api.deps import House, HouseDep
from app.api.problems import problems
from app.errors import (
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
from editing.errors import EmptyField, SubjectSlotMissing, TargetTooLong, TextTooLong
from editing.request import EditRequest, Ripple

router = APIRouter(prefix="/models/{model_id}/forecast", tags=["probes"])

PROBLEMS: Any = problems(
    ModelNotFound,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
    SubjectSlotMissing,
    EmptyField,
    TargetTooLong,
    TextTooLong,
    ModelFailed,
    ModelNotReady,
    QueueUnavailable,
    ProbeTimedOut,
)


class ForeseenOut(BaseModel):
    """One question, and how much it has to do with the edit."""

    prompt: str
    answer: str = Field(description="Of the names that were given, the one that was compared.")
    gradsim: float = Field(description="Cosine of the gradients of edit and answer, from -1 to 1.")
    likely: bool = Field(description="Whether answers this alike usually follow an edit.")


class CollisionOut(BaseModel):
    """A live edit whose key lies where the new one would write."""

    edit: str
    cosine: float


class ForecastOut(BaseModel):
    """What an edit would move. Nothing was ordered."""

    model: str
    snapshot: str
    ripples: list[ForeseenOut]
    collisions: list[CollisionOut] = Field(description="The nearest first.")


@router.post("", responses=PROBLEMS)
async def forecast_edit(
    model_id: str, body: Annotated[ForecastIn, Body()], house: HouseDep
) -> ForecastOut:
    """Say, before an edit is made, which answers it would move and which live edits it meets."""
    about = _checked(body)
    await run_in_threadpool(_check, house, model_id, body.snapshot)
    asked_at = time.time()
    message = ProbeMessage(
        id=new_id("prb"),
        deadline=asked_at + house.settings.probe_deadline_s,
        asked_at=asked_at,
        prompts=[],
        snapshot=body.snapshot,
        about=about,
    )
    (found,) = await probe.ask(house.redis, model_id, message)
    return ForecastOut.model_validate(found)


def _checked(body: ForecastIn) -> Json:
    """What the worker will read, read once here. Raises what `editing` finds wrong with it."""
    request = EditRequest.from_dict(body.request.as_given())
    ripples = [Ripple(prompt=each.prompt, answers=tuple(each.answers)) for each in body.ripples]
    ripples = ripples or list(request.ripples)
    return {
        "kind": "forecast",
        "request": request.to_dict(),
        "ripples": [{"prompt": each.prompt, "answers": list(each.answers)} for each in ripples],
    }


def _check(house: House, model_id: str, snapshot: str | None) -> None:
    with house.database.tx() as tx:
        probe.check(tx, model_id, snapshot)
