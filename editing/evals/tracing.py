"""Causal tracing of facts that the model knows: how much of an answer comes back from where."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from editing.datasets.known_facts import TracedFact
from editing.metrics.tracing.effects import KINDS, Effects, Kind, effects, window_of
from editing.metrics.tracing.noise import drawn, sigma_of
from editing.metrics.tracing.spans import ROLES, Spanned, spanned
from editing.metrics.values import DRAWS, LEVEL, Value, as_json, mean_of
from editing.model.generate import greedy
from editing.model.scoring import score
from editing.model.tokens import continued
from editing.step import Step

from .options import TracingOptions
from .scene import Scene

Json = dict[str, Any]

SITE = "last corrupted"  # ROME's early site: where the papers look for the largest effect
_ANSWER_TOKENS = 8  # of what the model says by itself, for the reader of a row


def measure(scene: Scene, case: TracedFact) -> Generator[Step, None, list[Json]]:
    """One row a kind of restoring, with its grid; one row that says why where there is none."""
    view, options = scene.view, scene.options
    fact = case.fact
    (known,) = yield from score(view, [(fact.text, fact.attribute)])
    (answer,), _ = greedy(view, [fact.text], _ANSWER_TOKENS)
    yield Step("measure", 1, 1)
    about = {
        "subject": fact.subject,
        "prompt": fact.text,
        "relation": fact.relation,
        "attribute": fact.attribute,
        "answer": answer,
    }
    prompt = spanned(view, fact, options.corrupt)
    if not known.greedy or prompt is None:
        return [{**about, "skipped": "unknown" if prompt else "span-not-found"}]
    size = options.noise * sigma_of(view, case.subjects)
    noise = drawn(view, prompt, size, copies=options.copies, seed=options.seed)
    token = continued(view.tokenizer, view.asked(fact.text), fact.attribute).targets[0]
    depth = len(view.blocks)
    layers = range(0, depth, options.every)
    window = options.window or window_of(depth)
    kinds = kinds_of(options)
    found = yield from effects(
        view, prompt, token, noise, kinds=kinds, window=window, layers=layers
    )
    return [
        {**about, "noise": size, **_grid(found, prompt, kind, list(layers), window)}
        for kind in kinds
    ]


def kinds_of(options: TracingOptions) -> list[Kind]:
    """What is restored, in turn."""
    return [kind for kind in KINDS if options.severed or not kind.startswith("severed")]


def _grid(found: Effects, prompt: Spanned, kind: Kind, layers: list[int], window: int) -> Json:
    """The grid of one kind, its places counted from the prompt's own first token."""
    roles = {role: [at - prompt.first for at in places] for role, places in prompt.roles.items()}
    return {
        "kind": kind,
        "window": window if kind in {"mlp", "attention"} else None,
        "p_clean": round(found.clean, 6),
        "p_corrupted": round(found.corrupted, 6),
        "te": round(found.te, 6),
        "tokens": prompt.labels,
        "span": [prompt.start - prompt.first, prompt.stop - prompt.first],
        "roles": roles,
        "layers": layers,
        "ie": [[round(value, 6) for value in row] for row in found.ie[kind].tolist()],
    }


def summarise(rows: Sequence[Json], options: TracingOptions) -> Json:
    """Total effect, and average indirect effects by layer and role, over the facts it knows."""
    traced = [row for row in rows if "ie" in row]
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in traced)]
    each = {row["case"]: row for row in traced}  # one of a fact's rows: they share what is below
    skipped: dict[str, int] = {}
    for row in rows:
        if "skipped" in row:
            skipped[row["skipped"]] = skipped.get(row["skipped"], 0) + 1
    asked = [[1.0] for _ in each] + [[0.0] for row in rows if row.get("skipped") == "unknown"]
    values = {"known": mean_of(asked)}
    for name in ("p_clean", "p_corrupted", "te"):
        values[name] = mean_of([[row[name]] for row in each.values()])
    averages: list[list[Any]] = []
    peaks: list[list[Any]] = []
    for kind in kinds:
        grids = [row for row in traced if row["kind"] == kind]
        lines = [line for role in ROLES for line in _averages(kind, role, grids)]
        averages += lines
        best = {role: [line for line in lines if line[1] == role] for role in ROLES}
        peaks += [max(mine, key=lambda line: line[3]) for mine in best.values() if mine]
        top = max((line for line in lines if line[1] == SITE), key=lambda line: line[3])
        _, _, _, value, low, high, facts = top
        values[f"peak_{kind}"] = Value(value=value, n=facts, clusters=facts, low=low, high=high)
    columns = ["kind", "role", "layer", "aie", "low", "high", "facts"]
    return {
        "corrupt": options.corrupt,
        "skipped": skipped,
        "values": as_json(values),
        "tables": {
            "peaks": {"columns": columns, "rows": peaks},
            "aie": {"columns": columns, "rows": averages},
        },
    }


def _averages(kind: str, role: str, grids: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """A line for each layer: the mean over facts of a role's tokens, with its interval."""
    per_fact = [
        np.array(row["ie"])[:, row["roles"][role]].mean(1) for row in grids if row["roles"][role]
    ]
    if not per_fact:
        return []
    found = np.stack(per_fact)  # [facts, layers]
    low: list[float | None] = [None] * found.shape[1]
    high: list[float | None] = [None] * found.shape[1]
    if len(found) > 1:
        # As metrics.values.interval, for all layers at once.
        picks = np.random.default_rng(0).integers(len(found), size=(DRAWS, len(found)))
        tail = 50 * (1 - LEVEL)
        ends = np.percentile(found[picks].mean(1), [tail, 100 - tail], axis=0)
        low = [round(float(end), 6) for end in ends[0]]
        high = [round(float(end), 6) for end in ends[1]]
    means = [round(float(value), 6) for value in found.mean(0)]
    layers = grids[0]["layers"]
    return [
        [kind, role, layer, mean, below, above, len(found)]
        for layer, mean, below, above in zip(layers, means, low, high, strict=True)
    ]
