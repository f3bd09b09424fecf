"""How far a state moved from base: its changed weights, and its words on neutral text."""

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

from torch import Tensor

from editing.datasets.live import DriftCase
from editing.hparams import Statistics
from editing.metrics.drift import logprobs_of, neutral_texts
from editing.metrics.spectra import moved
from editing.metrics.values import Value, as_json, interval, mean_of
from editing.model.state import State
from editing.model.tokens import encode
from editing.model.view import ModelView, layer_of
from editing.run import under
from editing.stats.store import MomentKey, SiteKind
from editing.step import Step

from .scene import Scene

Json = dict[str, Any]

_ROWS = 2  # texts read at a time
_SHOWN = 80  # characters of a text that a row repeats


def measure(scene: Scene, case: DriftCase) -> Generator[Step, None, list[Json]]:
    """One row a changed weight, or one a text; one row says how many weights a state changes."""
    if case.weights:
        return (yield from _weights(scene))
    if case.texts:
        return (yield from _texts(scene, case.texts, scene.options.tokens))
    return (yield from _texts(scene, neutral_texts()))  # whole, as a promotion reads them


def _weights(scene: Scene) -> Generator[Step, None, list[Json]]:
    view, state = scene.view, scene.view.current
    rows: list[Json] = [
        {
            "row": "state",
            "weights": len(state.masters),
            "preface": len(state.preface),
            "memory": state.entries,
        }
    ]
    for number, (name, now) in enumerate(state.masters.items()):
        found = moved(view.master(name, State()), now, _moment(view, name))
        rows.append(
            {
                "row": "weight",
                "weight": name.removesuffix(".weight"),
                "layer": layer_of(name),
                "norm": found.norm,
                "base_norm": found.base_norm,
                "norm_ratio": found.norm_ratio,
                "change": found.change,
                "felt": found.felt,
                "singular": [round(one, 5) for one in found.singular],
                "base_singular": [round(one, 5) for one in found.base_singular],
                "overlap_left": found.overlap_left,
                "overlap_right": found.overlap_right,
                "energy": found.energy,
                "base_energy": found.base_energy,
            }
        )
        yield Step("measure", number + 1, len(state.masters))
    return rows


def _moment(view: ModelView, name: str) -> Tensor | None:
    """The second moment of a weight's keys by the usual recipe, where some edit collected it."""
    layer = layer_of(name)
    kinds: dict[str, SiteKind] = {
        view.down_proj(layer): "mlp",
        view.attention_out(layer): "attention",
    }
    if name not in kinds:
        return None
    recipe, site = Statistics(), kinds[name]
    key = MomentKey.of(view.fingerprint(State()), layer, recipe, site)
    if not view.stats.find_moment(key, view.device):
        return None
    return view.stats.second_moment(layer, recipe, site)


def _texts(
    scene: Scene, texts: Sequence[str], limit: int | None = None
) -> Generator[Step, None, list[Json]]:
    """KL to base and the loss of each text, under the state that is measured and under base."""
    view = scene.view
    ids = [encode(view.tokenizer, text)[:limit] for text in texts]
    rows: list[Json] = [
        {"row": "text", "text": text[:_SHOWN], "skipped": "too-short"}
        for text, mine in zip(texts, ids, strict=True)
        if len(mine) < 2  # noqa: PLR2004 - one token foretells nothing
    ]
    long = [(text, mine) for text, mine in zip(texts, ids, strict=True) if len(mine) > 1]
    for start in range(0, len(long), _ROWS):
        part = long[start : start + _ROWS]
        some = [mine for _, mine in part]
        base, gold = yield from under(view, State(), _read(view, some))
        now, _ = yield from _read(view, some)
        sizes = [len(mine) - 1 for mine in some]
        kl = (base.exp() * (base - now)).sum(-1)
        losses = [-one.gather(1, gold[:, None])[:, 0] for one in (now, base)]
        parts = zip(part, *(one.split(sizes) for one in (kl, *losses)), strict=True)
        rows += [
            {
                "row": "text",
                "text": text[:_SHOWN],
                "tokens": len(far),
                "kl": float(far.mean()),
                "nll": float(loss.mean()),
                "base_nll": float(old.mean()),
            }
            for (text, _), far, loss, old in parts
        ]
    return rows


def _read(view: ModelView, ids: list[list[int]]) -> Generator[Step, None, tuple[Tensor, Tensor]]:
    found = logprobs_of(view, ids)
    yield Step("measure", 0, 1)
    return found


# ---- summary -------------------------------------------------------------------------------------


def summarise(rows: Sequence[Json], _: object) -> Json:
    """KL and perplexity over the texts' tokens, and the farthest that any weight moved."""
    texts = [row for row in rows if row.get("row") == "text" and "kl" in row]
    weights = [row for row in rows if row.get("row") == "weight"]
    states = [row for row in rows if row.get("row") == "state"]
    values = {
        "kl": _over(texts, lambda some: _mean(some, "kl"), before=0.0),
        "perplexity": _over(
            texts, lambda some: _exp(_mean(some, "nll")), before=_exp(_mean(texts, "base_nll"))
        ),
        "norm_ratio": _most(weights, "norm_ratio", before=1.0),
        "change": _most(weights, "change", before=0.0),
        "felt": _most(weights, "felt", before=0.0),
        "overlap_left": _most(weights, "overlap_left", before=1.0, least=True),
        "overlap_right": _most(weights, "overlap_right", before=1.0, least=True),
        "energy_ratio": mean_of(
            [[row["energy"] / row["base_energy"]] for row in weights if row["base_energy"]],
            before=[[1.0]] if weights else None,
        ),
    }
    names = ["weight", "norm_ratio", "change", "felt", "overlap_left", "overlap_right"]
    columns = [*names, "singular", "base_singular"]
    return {
        "weights": max((row["weights"] for row in states), default=0),
        "skipped": {"too-short": sum(1 for row in rows if "skipped" in row)},
        "values": as_json(values),
        "tables": {
            "weights": {"columns": columns, "rows": [[r[c] for c in columns] for r in weights]}
        },
    }


def _mean(rows: Sequence[Json], name: str) -> float | None:
    """Over tokens: a long text counts more than a short one."""
    tokens = sum(row["tokens"] for row in rows)
    return sum(row[name] * row["tokens"] for row in rows) / tokens if tokens else None


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(min(value, 700.0))  # a float holds no more


def _over(
    texts: Sequence[Json],
    of: Callable[[Sequence[Json]], float | None],
    *,
    before: float | None,
) -> Value:
    """A number of all texts, which the interval draws; `n` counts their tokens."""
    low, high = interval(texts, of)
    return Value(
        value=of(texts),
        n=sum(row["tokens"] for row in texts),
        clusters=len(texts),
        low=low,
        high=high,
        before=before if texts else None,
    )


def _most(weights: Sequence[Json], name: str, *, before: float, least: bool = False) -> Value:
    """The weight that moved farthest; no interval, since these are all the weights there are."""
    found = [row[name] for row in weights if row[name] is not None]
    value = (min if least else max)(found, default=None)
    return Value(
        value=value, n=len(weights), n_testable=len(found), before=before if found else None
    )
