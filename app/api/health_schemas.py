"""The JSON of a model's health."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.api.schemas import Json
from app.services.health import Health, Member, Promotion


class CountsOut(BaseModel):
    """How many there are, beyond what the lists show."""

    live: int = Field(description="Edits of which a fact stands; the disturbed are among them.")
    disturbed: int
    superseded: int


class MemberOut(BaseModel):
    """An edit, and which of its requests are the reason why it is in a list."""

    edit: str
    ord: int
    editor: str | None
    facts: list[int] = Field(description="Numbers of its requests, from 0.")
    by: str | None = Field(
        description="The snapshot that found it disturbed, or the edit that superseded it."
    )

    @classmethod
    def of(cls, member: Member) -> "MemberOut":
        """Show an edit."""
        return cls(
            edit=member.edit,
            ord=member.ord,
            editor=member.editor,
            facts=member.facts,
            by=member.by,
        )


class PromotionOut(BaseModel):
    """What was measured of a state before it was served; null where it was not."""

    snapshot: str
    seq: int
    kind: str
    edit: str | None
    created_at: datetime
    drift: float | None = Field(description="KL from base on neutral texts, nats per token.")
    perplexity_ratio: float | None = Field(description="Perplexity over that of base.")
    norm_ratio: float | None = Field(description="Largest |W| / |W0| of an edited weight.")
    distinct: float | None = Field(description="Different trigrams it writes, over base's.")
    verdict: str | None = Field(description="`passed` or `warn`; null where nobody judged.")
    breaches: list[Json]

    @classmethod
    def of(cls, promotion: Promotion) -> "PromotionOut":
        """Show a snapshot's."""
        measured = promotion.measured or {}
        names = ("perplexity_ratio", "norm_ratio", "distinct", "verdict")
        return cls(
            snapshot=promotion.snapshot,
            seq=promotion.seq,
            kind=promotion.kind,
            edit=promotion.edit,
            created_at=promotion.created_at,
            drift=measured.get("kl"),
            breaches=measured.get("breaches", []),
            **{name: measured.get(name) for name in names},
        )


class HealthOut(BaseModel):
    """How a model does, as its promotions have measured it."""

    model: str
    head: str | None
    seq: int | None
    guard: Json = Field(description="The guard in force: the defaults, and what differs here.")
    counts: CountsOut
    live: list[MemberOut] = Field(description="Edits with facts that stand, newest first.")
    disturbed: list[MemberOut] = Field(
        description="Live edits with facts that were said, and were not when last asked."
    )
    superseded: list[MemberOut] = Field(
        description="Edits whose every fact a later live edit has written again, or replaced."
    )
    snapshots: list[PromotionOut] = Field(description="The last states, newest first.")

    @classmethod
    def of(cls, health: Health) -> "HealthOut":
        """Show what is known."""
        return cls(
            model=health.model,
            head=health.head,
            seq=health.seq,
            guard=health.guard.to_dict(),
            counts=CountsOut(**health.counts),
            live=[MemberOut.of(one) for one in health.live],
            disturbed=[MemberOut.of(one) for one in health.disturbed],
            superseded=[MemberOut.of(one) for one in health.superseded],
            snapshots=[PromotionOut.of(one) for one in health.snapshots],
        )
