"""Each editor's change is its paper's formula, stated densely in float64 and read plainly."""
# ruff: noqa: N803, N806 - the notation of the papers

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from editing.delta import LowRank
from editing.editors.band import weight_by_scale
from editing.history import History
from editing.hparams import MemitHparams, RomeHparams, RRomeHparams
from editing.model.view import ModelView
from editing.request import EditRequest

from . import plain
from .facts import CAPITAL, OTHER_SPORT, SPORT, planned, run

FACTS = [SPORT, CAPITAL]
# Few and gentle steps: the search itself is judged elsewhere.
QUICK = {"search.steps": 8, "search.lr": 0.1, "search.min_probability": 0}


def close(found: LowRank, wanted: Tensor) -> bool:
    matrix = found.left.double() @ found.right.double()
    return bool((matrix - wanted).norm() <= 1e-3 * wanted.norm())


def searched(
    view: ModelView,
    request: EditRequest,
    hparams: RomeHparams | RRomeHparams | MemitHparams,
    reference: Tensor | None = None,
) -> Tensor:
    found = plain.search(
        view,
        request,
        layer=hparams.layers[-1],
        search=hparams.search,
        prefixes=view.stats.prefixes(hparams.contexts),
        reference=reference,
    )
    return found.delta.double()


def rome_parts(
    view: ModelView, hparams: RomeHparams | RRomeHparams
) -> tuple[Tensor, Tensor, Tensor]:
    """K [d_k, contexts], the wanted change d [d_v], and C."""
    (layer,) = hparams.layers
    prefixes = view.stats.prefixes(hparams.contexts)
    K, V, _ = plain.columns(view, [SPORT], prefixes, layer, layer)
    d = searched(view, SPORT, hparams, V[:, 0])
    return K, d, view.stats.second_moment(layer, hparams.statistics)


def rank_one(k: Tensor, d: Tensor, C: Tensor) -> Tensor:
    """(v* - W k) (C^-1 k)T / (kT C^-1 k)."""
    u = torch.linalg.inv(C) @ k
    return torch.outer(d, u) / (k @ u)


def mean_key(K: Tensor, bare_weight: float) -> Tensor:
    return bare_weight * K[:, 0] + (1 - bare_weight) * K[:, 1:].mean(1)


def test_rome_with_a_mean_key_is_the_paper_s_rank_one_change(view: ModelView) -> None:
    knobs = {**QUICK, "keys": "mean", "contexts.prefixes": 4, "bare_weight": 0.2}
    hparams = planned(view, "rome", knobs).hparams
    assert isinstance(hparams, RomeHparams)
    K, d, C = rome_parts(view, hparams)
    wanted = rank_one(K.mean(1), d, C)  # one fifth for each of five contexts: a plain mean
    (delta,) = run(view, "rome", [SPORT], knobs).deltas.values()
    assert close(delta, wanted)


def test_r_rome_uses_one_mean_key_everywhere(view: ModelView) -> None:
    knobs = {**QUICK, "contexts.prefixes": 4}
    hparams = planned(view, "r-rome", knobs).hparams
    assert isinstance(hparams, RRomeHparams)
    K, d, C = rome_parts(view, hparams)
    (delta,) = run(view, "r-rome", [SPORT], knobs).deltas.values()
    assert close(delta, rank_one(mean_key(K, 0.5), d, C))


def test_rome_with_a_key_for_each_context_asks_the_same_of_all(view: ModelView) -> None:
    knobs = {**QUICK, "contexts.prefixes": 4, "damping": 0.05}
    hparams = planned(view, "rome", knobs).hparams
    assert isinstance(hparams, RomeHparams)
    K, d, C = rome_parts(view, hparams)
    inverse = torch.linalg.inv(C)
    G = K.T @ inverse @ K
    rho = 0.05 * G.diagonal().mean()
    R = d[:, None].expand(-1, K.shape[1])
    wanted = R @ torch.linalg.inv(rho * torch.eye(K.shape[1]) + G) @ K.T @ inverse
    (delta,) = run(view, "rome", [SPORT], knobs).deltas.values()
    assert delta.rank == 1
    assert close(delta, wanted)


def gemma_residual(
    view: ModelView,
    layers: tuple[int, int],
    now: tuple[Tensor, Tensor],
    start: tuple[Tensor, Tensor, Tensor],
    share: int,
) -> Tensor:
    """R before the norm behind the write (docs/decisions/0012); layers: the edited and the last."""
    layer, last = layers
    V, H = now
    V_0, H_0, missing = start
    _, norm_last = plain.gemma_norm(view, last)
    rest = H_0 - norm_last(V_0)  # block L without its write
    gain, norm = plain.gemma_norm(view, layer)
    if layer == last:
        base, move = V_0 + missing, rest - (H - norm(V))
    else:
        base, move = V, (rest + norm_last(V_0 + missing) - H) / share
    length = base.norm(dim=0)
    size = length / base.shape[0] ** 0.5
    x = base / size + gain * move / (gain**2 + 0.01 * (gain**2).mean())
    return x / x.norm(dim=0) * length - V


def dense_memit(
    view: ModelView,
    facts: Sequence[EditRequest],
    hparams: MemitHparams,
    weight: float,
    earlier: History | None = None,
) -> dict[str, Tensor]:
    """R KT (lambda C + sum of earlier keys + K KT)^-1, layer after layer, each upon those below."""
    prefixes = view.stats.prefixes(hparams.contexts)
    last = hparams.layers[-1]
    deltas = torch.stack([searched(view, fact, hparams) for fact in facts], dim=1)
    missing = deltas.repeat_interleave(len(prefixes) + 1, dim=1)
    _, V_0, H_0 = plain.columns(view, facts, prefixes, last, last)
    found = dict[str, Tensor]()
    shown: dict[str, LowRank] = {}
    for number, layer in enumerate(hparams.layers):
        with view.overlaid(shown):
            K, V, H = plain.columns(view, facts, prefixes, layer, last)
        share = len(hparams.layers) - number
        if view.layout.post_norm:
            R = gemma_residual(view, (layer, last), (V, H), (V_0, H_0, missing), share)
        else:
            R = (H_0 + missing - H) / share
        name = view.down_proj(layer)
        A = weight * view.stats.second_moment(layer, hparams.statistics)
        past = None if earlier is None else earlier.keys(name)
        if past is not None:
            A = A + past @ past.T
        found[name] = R @ K.T @ torch.linalg.inv(A + K @ K.T)
        shown[name] = LowRank.of(found[name], torch.eye(K.shape[0]).double())
    return found


@pytest.mark.parametrize("weight", [None, 500.0])
def test_memit_spreads_what_is_missing_with_one_column_a_context(
    view: ModelView, weight: float | None
) -> None:
    knobs = {**QUICK, "layers": [1, 2, 3], "contexts.prefixes": 2, "second_moment_weight": weight}
    hparams = planned(view, "memit", knobs).hparams
    assert isinstance(hparams, MemitHparams)
    outcome = run(view, "memit", FACTS, knobs)
    used = weight_by_scale(view.facts.d_key) if weight is None else weight
    assert outcome.notes["second_moment_weight"] == used
    for name, wanted in dense_memit(view, FACTS, hparams, used).items():
        assert close(outcome.deltas[name], wanted)


def test_memit_with_history_adds_the_earlier_keys_to_the_metric(view: ModelView) -> None:
    knobs = {**QUICK, "layers": [1, 2], "contexts.prefixes": 2}
    first = run(view, "rome", [OTHER_SPORT], {**QUICK, "layers": [1]})  # its keys do not count
    second = run(view, "memit-history", [CAPITAL], knobs)
    history = History([("a", lambda: first), ("b", lambda: second)])
    view.adopt(view.after(second.deltas, view.after(first.deltas)))
    hparams = planned(view, "memit-history", knobs).hparams
    assert isinstance(hparams, MemitHparams)
    outcome = run(view, "memit-history", [SPORT], knobs, history)
    weight = weight_by_scale(view.facts.d_key)
    kin = History([("b", lambda: second)])
    for name, wanted in dense_memit(view, [SPORT], hparams, weight, kin).items():
        assert close(outcome.deltas[name], wanted)


def test_the_weight_by_scale_writes_nine_tenths_of_an_average_key(llama: ModelView) -> None:
    d_key = llama.facts.d_key
    average_leverage = d_key  # of the keys that C was collected from
    share = average_leverage / (weight_by_scale(d_key) + average_leverage)
    assert share == pytest.approx(0.9)


def test_memit_s_last_layer_brings_the_facts_to_their_z(view: ModelView) -> None:
    knobs = {**QUICK, "layers": [1, 3], "contexts.prefixes": 2}
    hparams = planned(view, "memit", knobs).hparams
    assert isinstance(hparams, MemitHparams)
    prefixes = view.stats.prefixes(hparams.contexts)
    outcome = run(view, "memit", FACTS, knobs)
    delta = torch.stack([searched(view, fact, hparams) for fact in FACTS], dim=1)
    wanted = delta.repeat_interleave(len(prefixes) + 1, dim=1)
    _, values, before = plain.columns(view, FACTS, prefixes, 3, 3)
    if view.layout.post_norm:  # what the searched change of the write is behind the norm
        _, norm = plain.gemma_norm(view, 3)
        wanted = norm(values + wanted) - norm(values)
    with view.overlaid(outcome.deltas):
        _, _, after = plain.columns(view, FACTS, prefixes, 3, 3)
    assert (before + wanted - after).norm() < 0.5 * wanted.norm()
