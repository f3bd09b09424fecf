"""What the MEMIT family shares: what is missing is spread over a band of layers, lowest first.

    d_i    what layer L must write besides, at the fact's key, to say o*_i              (zsearch.py)
    for l in layers, lowest first, with the layers below already edited:
        K  keys of the facts at layer l, one column a context                           (keys.py)
        R  what is still missing, this layer's share of it                               (goal.py)
        D_l = R (rho I + KT A_l^-1 K)^-1 KT A_l^-1, or what a method makes of it      (solve.write)

Departure: the published code averages the keys of a fact over its contexts; here each context keeps
its own key and its own residual, the bare prompt among them (docs/decisions/0009). Facts of a batch
with (nearly) equal keys share one d (merging.py).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.delta import Change
from editing.history import History
from editing.hparams import Hparams, MemitHparams, Sited, Statistics
from editing.outcome import Outcome, Written
from editing.solve import Metric, size_under, write
from editing.stats.store import SiteKind
from editing.step import Step

from .asking import Asking, KeyAt
from .at_site import at_key_site
from .goal import AtTheBlock, Goal, MakeGoal, at_the_block
from .keys import KeyReader, Reading
from .merging import merged
from .site import MLP, Spot
from .zsearch import Found, find_delta

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

# The share of its residual that a key of average leverage gets written, from which lambda follows.
_WRITTEN_SHARE = 0.9

GOAL = "z"  # under this name an outcome keeps what block L was asked to answer


@dataclass(frozen=True, slots=True)
class Solved:
    """The change of one weight, and the median leverage kT A^-1 k of the keys it was made for."""

    change: Change
    leverage: float


Solve = Callable[[Spot, Tensor, Tensor], Solved]  # spot, K, R


def weight_by_scale(leverage: float, share: float = _WRITTEN_SHARE) -> float:
    """lambda for a model that nobody tuned: leverage (1 - share) / share.

    With A = lambda C one key gets g / (lambda + g) of its residual written, g = kT C^-1 k its
    leverage. Over the keys C was collected from, g is d_k on average, whatever the model's scale,
    since E[kT C^-1 k] = tr(C^-1 E[k kT]) = d_k. The keys of subjects are rarer and get more.
    """
    return leverage * (1 - share) / share


def second_moment_weight(view: "ModelView", hparams: Hparams, spot: Spot = ("mlp", 0)) -> float:
    """lambda of a weight: what the hparams say, else by the rule of scale.

    What they say is of MLPs; for attention it is scaled by the ratio of the second moments' traces.
    """
    kind, layer = spot
    given: float | None = hparams.second_moment_weight
    if given is None:
        share: float = getattr(hparams, "written_share", _WRITTEN_SHARE)
        return weight_by_scale(view.weight(view.written_at(layer, kind)).shape[1], share)
    if kind == "mlp":
        return given
    mlp, own = (
        float(view.stats.second_moment(layer, hparams.statistics, site).trace())
        for site in ("mlp", kind)
    )
    return given * mlp / own


# (what the search adds to [n, d_v], what it found [n, d_v]) -> what is asked for in its place
Bound = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Band:
    """How a method walks its band.

    searched: where vectors are added in the last layer; written: what is changed in every layer;
    goal: what the band is to bring about, of what the search found; bound: what vectors are held to
    (of the MLP); kept: whether the outcome keeps what block L is asked to answer, as GOAL.
    """

    searched: tuple[SiteKind, ...] = MLP
    written: tuple[SiteKind, ...] = MLP
    goal: MakeGoal = at_the_block
    bound: Bound | None = None
    kept: bool = False


@dataclass(slots=True)
class _Done:
    """What was written on the way up."""

    view: "ModelView"
    statistics: Statistics
    deltas: dict[str, Change] = field(default_factory=dict[str, Change])
    written: dict[str, Written] = field(default_factory=dict[str, Written])
    leverage: dict[str, float] = field(default_factory=dict[str, float])
    size: dict[str, float] = field(default_factory=dict[str, float])

    def take(self, spot: Spot, solved: Solved, reading: Reading, R: Tensor) -> None:
        kind, layer = spot
        name = self.view.written_at(layer, kind)
        C = self.view.stats.second_moment(layer, self.statistics, kind)
        self.size[name] = size_under(solved.change, C)
        self.deltas[name] = solved.change
        self.leverage[name] = solved.leverage
        self.written[name] = Written.of(self.view.master(name), reading.keys, R, solved.change)


def spread(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: Hparams,
    solve: Solve,
    band: Band = Band(),
) -> Generator[Step, None, Outcome]:
    """Write a batch of facts at the token, or the tokens, that the hparams name.

    Raises SearchDiverged or SingularSystem.
    """

    def once(
        key_at: KeyAt, layers: tuple[int, ...], share: float
    ) -> Generator[Step, None, Outcome]:
        asking = Asking.of(view, hparams.contexts, key_at)
        return _at(view, requests, hparams, solve, band, asking=asking, layers=layers, share=share)

    layers: tuple[int, ...] = hparams.layers
    if isinstance(hparams, Sited):
        return (yield from at_key_site(view, hparams, layers, once))
    return (yield from once("prompt_last", layers, 1.0))


def _at(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: Hparams,
    solve: Solve,
    band: Band,
    *,
    asking: Asking,
    layers: tuple[int, ...],
    share: float,
) -> Generator[Step, None, Outcome]:
    """Write a share of what is missing at one token, in these layers."""
    requests = asking.apart(requests)
    reader = KeyReader(view, requests, asking, layers)
    yield from reader.start()
    groups = merged(reader.read().keys[:, reader.bare], getattr(hparams, "merge_above", None))
    found = yield from find_delta(
        view,
        requests,
        layer=layers[-1],
        search=hparams.search,
        asking=asking,
        groups=groups,
        kinds=band.searched,
        reference=_own_answers(reader, groups, band),
    )
    if band.bound:
        first = [reader.bare[group[0]] for group in groups]
        bounded = band.bound(reader.read().last[:, first].mT, found.delta.double())
        found = replace(found, deltas=bounded[:, None].to(found.deltas))
    goal = band.goal(view, reader, share * _columns(found, groups, reader.owner), band.searched)
    outcome = yield from _climb(reader, layers, band, goal, solve, hparams.statistics)
    notes: dict[str, object] = {
        "search_steps": found.steps,
        "searched_probability": found.probability,
        **outcome.notes,
    }
    if hasattr(hparams, "second_moment_weight"):
        notes["second_moment_weight"] = second_moment_weight(view, hparams)
    if len(groups) < len(requests):
        notes["merged"] = [group for group in groups if len(group) > 1]
    return replace(outcome, notes=notes)


def placed(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    hparams: MemitHparams,
    solve: Solve,
    goals: Tensor,
    *,
    key_at: KeyAt,
    layers: tuple[int, ...],
) -> Generator[Step, None, Outcome]:
    """Write facts of which it is known what block L is to answer, goals [d_v, n], at fresh keys.

    Raises SingularSystem.
    """
    asking = Asking.of(view, hparams.contexts, key_at)
    reader = KeyReader(view, asking.apart(requests), asking, layers)
    yield from reader.start()
    reading, landing = reader.read(), view.landing(layers[-1])
    moves = landing.before(reading.last, goals.to(reading.last) - reading.hidden) - reading.last
    goal = at_the_block(view, reader, moves.mT[:, None].float(), MLP)
    return (yield from _climb(reader, layers, Band(kept=True), goal, solve, hparams.statistics))


def _own_answers(reader: KeyReader, groups: Sequence[Sequence[int]], band: Band) -> Tensor | None:
    """What sets the scale of the search [n, kinds, d_v] where modules are moved: their answers."""
    if band.goal is at_the_block:
        return None
    first = [reader.bare[group[0]] for group in groups]
    answers = [reader.read(kind).last[:, first].mT for kind in band.searched]
    return torch.stack(answers, dim=1).float()


def _columns(found: Found, groups: Sequence[Sequence[int]], owner: Tensor) -> Tensor:
    """What was found, for each column of keys: [n, kinds, d_v]."""
    of = {request: number for number, group in enumerate(groups) for request in group}
    return found.deltas[[of[request] for request in owner.tolist()]]


def _climb(  # noqa: PLR0917 - each is one thing
    reader: KeyReader,
    layers: tuple[int, ...],
    band: Band,
    goal: Goal,
    solve: Solve,
    statistics: Statistics,
) -> Generator[Step, None, Outcome]:
    """Write layer after layer; in each, attention before the MLP that reads it."""
    done = _Done(reader.view, statistics)
    every = range(layers[0], layers[-1] + 1)
    for number, layer in enumerate(every):
        here: dict[str, Change] = {}
        for kind in band.written if layer in layers else ():
            spot = (kind, layer)
            reading = reader.read(kind, here)
            left = len(band.written) * sum(other >= layer for other in layers)
            R = goal.residual(spot, reading, left - band.written.index(kind))
            solved = solve(spot, reading.keys, R)
            here[reader.view.written_at(layer, kind)] = solved.change
            done.take(spot, solved, reading, R)
        if layer != every[-1]:
            reader.climb(here)
        yield Step("solve", number + 1, len(every))
    goals = {GOAL: goal.hidden.float()} if band.kept and isinstance(goal, AtTheBlock) else {}
    notes = {"leverage": done.leverage, "size_under_C": done.size}
    return Outcome(done.deltas, done.written, notes, goals=goals)


MetricOf = Callable[[Spot], Metric]


def everyday(view: "ModelView", hparams: Hparams) -> MetricOf:
    """A = lambda C: a change is small where everyday keys hardly feel it."""

    def metric_of(spot: Spot) -> Metric:
        kind, layer = spot
        C = view.stats.metric(layer, hparams.statistics, kind)
        return C.scaled(second_moment_weight(view, hparams, spot))

    return metric_of


def remembering(view: "ModelView", history: History, base: MetricOf, made_by: object) -> MetricOf:
    """The metric `base`, which hparams `made_by` made, plus K_p K_pT of earlier live edits."""

    def metric_of(spot: Spot) -> Metric:
        kind, layer = spot
        return history.metric(view.written_at(layer, kind), made_by, base(spot))

    return metric_of


def softly(metric_of: MetricOf, rho: float = 1.0) -> Solve:
    """D = R (rho I + KT A^-1 K)^-1 KT A^-1; with rho = 1 it is MEMIT's write."""

    def solve(spot: Spot, K: Tensor, R: Tensor) -> Solved:
        metric = metric_of(spot)
        return Solved(write(K, R, metric, rho), float(metric.leverage(K).median()))

    return solve
