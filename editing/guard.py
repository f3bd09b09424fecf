"""What a promotion must not do: thresholds on its report, and what follows a breach. No torch.

    breach      a number of the report on the wrong side of its threshold
    collapse    a breach of the canary: the model itself is damaged, whatever was asked of it

An order answers for what it does itself, not for what stood before it: KL and neighbours are judged
by their change, and the canary's numbers, which are over base, only where they got worse.

    verdict     passed, warn (applied all the same), reject (kept as evidence), or repair: the
                disturbed edits are solved again together with the new one (repair.py)

A number that is no number is a collapse, whatever the thresholds are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from .errors import BadRequest, InvalidGuard
from .hparams.blocks import knob
from .knobs import filled, schema_of

OnBreach = Literal["warn", "reject", "repair"]
OnCollapse = Literal["warn", "reject"]
Verdict = Literal["passed", "warn", "reject", "repair"]
Json = Mapping[str, Any]

CHANGES = ("kl", "neighborhood_loss")  # judged by how much worse they are than before
_ROUNDING = 1e-9  # 0.8 - 0.6 is a little more than 0.2
GROUPS = ("same_subject", "others")  # of the live edits that are asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Thresholds of a promotion, null = not looked at, and what to do on a breach."""

    success: float | None = knob(
        1.0, "Lowest share of the new facts that are preferred to what was true.", low=0, high=1
    )
    accuracy: float | None = knob(
        None, "Lowest share of the new facts that are said, greedily.", low=0, high=1
    )
    neighborhood_loss: float | None = knob(
        0.2, "Largest loss in the share of neighbors that keep their answer.", low=0, high=1
    )
    neighborhood_count: int = knob(
        2,
        "How many neighbors it takes at least to be a breach, where there are so many.",
        low=1,
        high=1000,
    )
    disturbed_share: float | None = knob(
        0.1,
        "Largest share of the live edits asked, of the same subject or of others, that answered "
        "before and do not now.",
        low=0,
        high=1,
    )
    disturbed_count: int = knob(
        1, "How many of them it takes at least to be a breach.", low=1, high=1000
    )
    kl: float | None = knob(
        0.1,
        "Largest KL from base on neutral texts that one order adds, in nats per token.",
        low=0,
        high=100,
    )
    perplexity_ratio: float | None = knob(
        3.0,
        "Canary: largest perplexity on neutral texts, over that of base, where it grew.",
        low=1,
        high=1e6,
    )
    norm_ratio: float | None = knob(
        1.5,
        "Canary: largest norm of an edited weight, over what it was in base, where it grew.",
        low=1,
        high=1e6,
    )
    distinct: float | None = knob(
        0.5,
        "Canary: lowest share of different trigrams in greedy texts, over that of base, where it "
        "fell.",
        low=0,
        high=1,
    )
    sample: int = knob(
        32, "Live edits of other subjects that are asked, beside all of the same.", low=0, high=1000
    )
    on_breach: OnBreach = field(
        default="warn", metadata={"says": "What follows a breach, but for those of the canary."}
    )
    on_collapse: OnCollapse = field(
        default="reject", metadata={"says": "What follows a breach of the canary."}
    )

    @classmethod
    def of(cls, *given: Json | None) -> "Guard":
        """The defaults, and over them what each of the given says. Raises InvalidGuard."""
        merged = {name: value for one in given for name, value in (one or {}).items()}
        known = [knob.name for knob in fields(cls)]
        if unknown := sorted(set(merged) - set(known)):
            raise InvalidGuard(f"There is no {unknown[0]!r}", field=unknown[0], known=known)
        for name, value in merged.items():
            if isinstance(value, Mapping):
                raise InvalidGuard(f"{name} is an object", field=name, known=known)
        try:
            return filled(cls, merged, of="guard")
        except BadRequest as error:
            name = str(error.fields.get("hparam", ""))
            raise InvalidGuard(str(error).rstrip("."), field=name, known=known) from None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Breach:
    """One number beyond its threshold: `what` is the guard's word, `at` where the report has it.

    `measured` is what the threshold is of: of KL and of neighbours how much worse they are than
    before, else the number itself.
    """

    what: str
    at: str
    measured: float | None  # None where it is no number
    threshold: float | None
    n: int
    collapse: bool = False
    before: float | None = None  # what the report has there of the state before; None: not known

    def __str__(self) -> str:
        measured = "no number" if self.measured is None else f"{self.measured:.3g}"
        by = "worse by " if self.what in CHANGES else ""
        named = (("before", self.before), ("threshold", self.threshold))
        beside = ", ".join(f"{name} {value:.3g}" for name, value in named if value is not None)
        return f"{self.at} {by}{measured}{f' ({beside})' if beside else ''}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def check(given: Json | None) -> None:
    """Refuse what is no part of a guard. Raises InvalidGuard."""
    Guard.of(given)


def schema() -> dict[str, object]:
    """The JSON schema of what a caller may give."""
    return schema_of(Guard)


def judge(report: Json, guard: Guard) -> tuple[Breach, ...]:
    """What in a promotion report is beyond its threshold. What was not measured is no breach."""
    return tuple(_breaches(report, guard))


def verdict(breaches: Sequence[Breach], guard: Guard, *, repairable: bool) -> Verdict:
    """What follows. `repairable`: some live edit was disturbed, and no repair was tried yet."""
    if any(one.collapse for one in breaches) and guard.on_collapse == "reject":
        return "reject"
    if all(one.collapse for one in breaches):
        return "warn" if breaches else "passed"
    if guard.on_breach == "repair":
        return "repair" if repairable else "reject"
    return guard.on_breach


def _breaches(report: Json, guard: Guard) -> Iterator[Breach]:
    for name in ("success", "accuracy"):
        yield from _low(name, f"efficacy.{name}", report["efficacy"][name], getattr(guard, name))
    yield from _lost(report["neighborhood"], guard)
    for group in GROUPS:
        yield from _disturbed(report["live"], group, guard)
    yield from _added(report["drift"]["kl"], guard.kl)
    canary = report["canary"]
    if not canary["finite"]:
        yield Breach("finite", "canary.finite", None, None, 1, collapse=True)
    for name in ("perplexity_ratio", "norm_ratio"):
        yield from _collapsed(name, canary[name], getattr(guard, name), up=True)
    yield from _collapsed("distinct", canary["distinct"], guard.distinct, up=False)


def _low(what: str, at: str, value: Json, limit: float | None) -> Iterator[Breach]:
    measured = value["value"]
    if limit is not None and measured is not None and measured < limit:
        yield Breach(what, at, measured, limit, value["n"], before=value["before"])


def _collapsed(what: str, value: Json, limit: float | None, *, up: bool) -> Iterator[Breach]:
    """Beyond its limit, and not better or the same there before."""
    measured, before = value["value"], value["before"]
    if limit is None or measured is None:
        return

    def worse(than: float | None) -> bool:
        return than is None or (measured > than if up else measured < than)

    if worse(limit) and worse(before):
        at = f"canary.{what}"
        yield Breach(what, at, measured, limit, value["n"], collapse=True, before=before)


def _added(value: Json, limit: float | None) -> Iterator[Breach]:
    if limit is None or value["value"] is None:
        return
    before = value["before"]
    added = value["value"] - (before or 0)
    if added > limit + _ROUNDING:
        yield Breach("kl", "drift.kl", added, limit, value["n"], before=before)


def _lost(value: Json, guard: Guard) -> Iterator[Breach]:
    limit, n = guard.neighborhood_loss, value["n"]
    if limit is None or value["value"] is None:
        return
    before = value["before"]
    lost = before - value["value"]
    # One of three is a third already, and one neighbor is soon lost: it takes some.
    if lost > limit + _ROUNDING and round(lost * n) >= min(guard.neighborhood_count, n):
        yield Breach("neighborhood_loss", "neighborhood", lost, limit, n, before=before)


def _disturbed(live: Json, group: str, guard: Guard) -> Iterator[Breach]:
    n = live[group]["n"]
    count = sum(one["same_subject"] == (group == "same_subject") for one in live["disturbed"])
    limit = guard.disturbed_share
    if limit is None or not n or count < guard.disturbed_count or count / n <= limit:
        return
    yield Breach("disturbed_share", f"live.{group}", count / n, limit, n)
