"""An edit from request to report, step by step. What a worker or a benchmark drives.

    plan -> prepare -> already_answers? -> edit -> view.after(deltas) -> promotion_report

All but the first are generators of Steps; between two steps the model serves its head, bit for bit.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from .catalogue import Method
from .catalogue import method as find_method
from .entry import loaded
from .errors import EmptyField
from .history import History
from .hparams import Contexts, Hparams, Sited, Statistics
from .knobs import resolve
from .metrics.promotion import promotion_report
from .model.scoring import score
from .model.state import State
from .outcome import Outcome, joined
from .run import Stopwatch, finish, under
from .stats.moments import ensure_moments
from .stats.prefixes import ensure_prefixes
from .stats.store import SiteKind
from .step import Step
from .tuned import placement

if TYPE_CHECKING:
    from .model.view import ModelView
    from .request import EditRequest

__all__ = [
    "Plan",
    "Stopwatch",
    "already_answers",
    "edit",
    "finish",
    "prepare",
    "promotion_report",
    "under",
]


@dataclass(frozen=True, slots=True)
class Plan:
    """A method with the hparams that it will use on one model."""

    method: Method
    hparams: Hparams

    @classmethod
    def of(
        cls,
        view: "ModelView",
        editor: str,
        overrides: Mapping[str, object] | None = None,
        *,
        corpus: str | None = None,
    ) -> "Plan":
        """Resolve an editor for a model. Raises UnknownEditor, UnknownHparam, InvalidHparam.

        corpus: name and revision of the texts that `prepare` is given, instead of the model's own.
        """
        hparams = resolve(editor, overrides or {}, view.facts)
        if corpus is not None:
            hparams = replace(hparams, statistics=replace(hparams.statistics, text=corpus))
        return cls(find_method(editor), hparams)


def prepare(
    view: "ModelView", plan: Plan, texts: Iterable[str] | None = None
) -> Generator[Step, None, None]:
    """Collect what the plan needs to know of the untouched model, unless it is at hand.

    One pass serves every method: the layers of all of them are collected together. `texts` are read
    when the plan names a corpus (`stats.moments.read_texts` reads them from a file or a folder).
    Raises StatsMissing when they are needed and not given.
    """
    base = State()
    hparams = plan.hparams
    fingerprint = view.fingerprint(base)
    contexts = getattr(hparams, "contexts", None)
    if isinstance(contexts, Contexts):
        yield from under(view, base, ensure_prefixes(view, contexts, fingerprint))
    recipe = getattr(hparams, "statistics", None)
    if isinstance(recipe, Statistics):
        for site, layers in counted(view, hparams).items():
            collecting = ensure_moments(view, layers, recipe, fingerprint, texts, site=site)
            yield from under(view, base, collecting)


def counted(view: "ModelView", hparams: Hparams) -> dict[SiteKind, list[int]]:
    """Whose keys are counted for a method: of its own layers, and of those usual for others."""
    layers = set(hparams.layers)
    if isinstance(hparams, Sited) and hparams.may_write_late:
        layers |= set(hparams.late_layers or ())
    usual = {n for name in ("rome", "memit") for n in placement(name, view.facts)}
    found: dict[SiteKind, list[int]] = {"mlp": sorted(layers | usual)}
    written = {getattr(hparams, "sites", "mlp"), getattr(hparams, "write", "mlp")}
    if written & {"attention", "both"}:
        found["attention"] = sorted(layers)
    return found


def already_answers(
    view: "ModelView", requests: Sequence["EditRequest"]
) -> Generator[Step, None, bool]:
    """Whether the model's own first choice is the new target, for every text of every request."""
    asked = [(p.replace("{}", r.subject), target) for r in requests for p, target in r.texts]
    found = yield from score(view, asked)
    return all(one.greedy for one in found)


def edit(
    view: "ModelView", plan: Plan, requests: Sequence["EditRequest"], history: History | None = None
) -> Generator[Step, None, Outcome]:
    """Compute what the requests change; nothing is changed.

    A method that writes one fact at a time is given them in turn, each under what the earlier ones
    changed: one outcome, all or nothing. Raises EditFailed or BadRequest.
    """
    if not requests:
        raise EmptyField(field="requests")
    history = history or History.empty()
    editor = loaded(plan.method.entry)
    if plan.method.batch:
        outcome = cast("Outcome", (yield from editor(view, requests, plan.hparams, history)))
    else:
        state, parts = view.current, list[Outcome]()
        for request in requests:
            work = editor(view, [request], plan.hparams, history)
            parts.append((yield from under(view, state, work)))
            parts[-1].require_finite()
            state = view.after(parts[-1].deltas, state)
        outcome = joined(parts)
    outcome.require_finite()
    return outcome
