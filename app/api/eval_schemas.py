"""The shapes of JSON that go out about evals."""

from datetime import datetime
from typing import Any, Literal, cast

from pydantic import BaseModel, Field

from app.store.tables import Eval
from editing.evals.catalogue import SUITES, Suite

Json = dict[str, Any]
EvalStatus = Literal["queued", "running", "finished", "failed", "cancelled"]


class EvalProgress(BaseModel):
    """How far an eval is."""

    done: int = Field(description="Cases that are measured and kept.")
    total: int
    rate: float | None = Field(default=None, description="Cases a second, since it was taken up.")
    eta_s: float | None = Field(default=None, description="Seconds left at that rate.")


class EvalOut(BaseModel):
    """A measurement of one snapshot."""

    id: str
    model: str
    suite: str
    status: EvalStatus
    snapshot: str | None = Field(description="What is measured; null until the model has a head.")
    snapshots: list[str] | None = Field(description="Where several are measured, all of them.")
    editor: str | None
    hparams: Json
    options: Json
    data: Json = Field(description="Where the records came from.")
    progress: EvalProgress
    summary: Json | None = Field(
        description="Values, each with n, n testable, a 95 % interval and its value before."
    )
    plots: list[str] = Field(description="Its pictures: /evals/{id}/plot/{name}.")
    error: Json | None
    blocked: Json | None = Field(
        default=None, description="Why nobody takes it: the error of a model that cannot be loaded."
    )
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    settled_at: datetime | None

    @classmethod
    def of(cls, found: Eval, *, blocked: Json | None = None) -> "EvalOut":
        """Show a row."""
        rates = found.progress or {}
        kind = SUITES.get(found.suite)
        return cls(
            id=found.id,
            model=found.model_id,
            suite=found.suite,
            status=cast("Any", found.status),
            snapshot=found.snapshot_id,
            snapshots=found.snapshots,
            editor=found.editor,
            hparams=found.hparams,
            options=found.options,
            data=found.data,
            progress=EvalProgress(done=found.done, total=found.total, **rates),
            summary=found.summary,
            plots=list(kind.plots) if kind else [],
            error=found.error,
            blocked=blocked,
            cancel_requested=found.cancel_requested,
            created_at=found.created_at,
            started_at=found.started_at,
            settled_at=found.settled_at,
        )


class EvalRowsOut(BaseModel):
    """A page of an eval's rows."""

    data: list[Json] = Field(description="Each names its case; the other fields are its suite's.")
    has_more: bool
    next: str | None


class SuiteOut(BaseModel):
    """One kind of measurement."""

    name: str
    title: str
    source: str
    summary: str
    editor: Literal["always", "if named", "never"] = Field(description="Whether it edits.")
    datasets: list[str] = Field(description="What it reads by name.")
    plots: list[str]
    options: Json = Field(description="A JSON schema.")

    @classmethod
    def of(cls, kind: Suite) -> "SuiteOut":
        """Show an entry of the table."""
        return cls(
            name=kind.name,
            title=kind.title,
            source=kind.source,
            summary=kind.summary,
            editor="always" if kind.edits else "if named" if kind.may_edit else "never",
            datasets=list(kind.datasets),
            plots=list(kind.plots),
            options=kind.schema,
        )
