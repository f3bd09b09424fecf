"""How near the keys of live edits lie, to each other and to those of a request not yet made."""

from collections.abc import Generator, Sequence
from typing import Any

import torch

from editing.datasets.live import KeysCase
from editing.forecast import collisions
from editing.metrics.keys import SAME, nearest
from editing.metrics.values import Value, as_json, mean_of
from editing.outcome import Written
from editing.step import Step

from .scene import Scene

Json = dict[str, Any]

_CLOSEST = 20  # pairs that a summary names


def measure(scene: Scene, case: KeysCase) -> Generator[Step, None, list[Json]]:
    """One row a weight that live edits wrote, or one row for a request."""
    if case.request is None:
        return (yield from _live(scene))
    live = scene.history.live
    found = yield from collisions(scene.view, case.request, live, scene.options.key_at)
    return [
        {
            "row": "new",
            "subject": case.request.subject,
            "prompt": case.request.question,
            "target_new": case.request.target_new,
            "live": len(live),
            "disturbs": found,
        }
    ]


def _live(scene: Scene) -> Generator[Step, None, list[Json]]:
    """The newest live edits, all with all, at every weight; one row also where there are none."""
    live = scene.history.live
    entries = live[-scene.options.edits :]
    by_weight: dict[str, dict[str, Written]] = {}
    for number, entry in enumerate(entries):
        for weight, pair in entry.load().written.items():
            if pair.keys.shape[1]:
                by_weight.setdefault(weight, {})[entry.id] = pair
        yield Step("measure", number + 1, len(entries))
    about = {"row": "live", "live": len(live), "read": len(entries)}
    rows: list[Json] = []
    for weight, pairs in by_weight.items():
        found = nearest([pair.keys for pair in pairs.values()])
        apart = ~torch.eye(len(found), dtype=torch.bool)
        rows.append(
            {
                **about,
                "weight": weight.removesuffix(".weight"),
                "edits": list(pairs),
                "cosine": [[round(one, 4) for one in line] for line in found.tolist()],
                "duplicates": int((found[apart] > SAME).sum()) // 2,
            }
        )
        yield Step("measure", len(rows), len(by_weight))
    return rows or [{**about, "weight": None, "edits": [], "cosine": [], "duplicates": 0}]


# ---- summary -------------------------------------------------------------------------------------


def summarise(rows: Sequence[Json], _: object) -> Json:
    """Mean cosine of live edits, exact duplicates, and what new requests would disturb."""
    live = [row for row in rows if row["row"] == "live" and row["edits"]]
    new = [row for row in rows if row["row"] == "new"]
    pairs = sum(_pairs(row) for row in live)
    twice = sum(row["duplicates"] for row in live)
    disturbed = [len(row["disturbs"]) for row in new]
    values = {
        "cosine": mean_of(_by_edit(live)),
        "duplicates": Value(value=twice / pairs if pairs else None, n=pairs),
        "disturbed": mean_of([[count] for count in disturbed]),
        "disturbing": mean_of([[float(count > 0)] for count in disturbed]),
    }
    return {
        "live": max((row["live"] for row in rows), default=0),
        "values": as_json(values),
        "tables": {
            "weights": {
                "columns": ["weight", "edits", "mean", "max", "duplicates"],
                "rows": [_line(row) for row in live],
            },
            "closest": {"columns": ["edit", "other", "cosine"], "rows": _closest(live)},
            "new": {
                "columns": ["prompt", "edit", "cosine"],
                "rows": [
                    [row["prompt"], one["edit"], round(one["cosine"], 4)]
                    for row in new
                    for one in row["disturbs"]
                ],
            },
        },
    }


def _pairs(row: Json) -> int:
    count = len(row["edits"])
    return count * (count - 1) // 2


def _by_edit(live: Sequence[Json]) -> list[list[float]]:
    """The cosines of each edit with the others, over all weights."""
    found: dict[str, list[float]] = {}
    for row in live:
        for number, (name, line) in enumerate(zip(row["edits"], row["cosine"], strict=True)):
            found.setdefault(name, []).extend(line[:number] + line[number + 1 :])
    return list(found.values())


def _line(row: Json) -> list[Any]:
    apart = [one for n, line in enumerate(row["cosine"]) for one in line[:n]]
    mean = round(sum(apart) / len(apart), 4) if apart else None
    return [row["weight"], len(row["edits"]), mean, max(apart, default=None), row["duplicates"]]


def _closest(live: Sequence[Json]) -> list[list[Any]]:
    """The pairs of edits that lie nearest, by their largest cosine over the weights."""
    found: dict[tuple[str, str], float] = {}
    for row in live:
        for number, (name, line) in enumerate(zip(row["edits"], row["cosine"], strict=True)):
            for other, one in zip(row["edits"][:number], line, strict=False):
                found[other, name] = max(one, found.get((other, name), -1.0))
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return [[one, other, cosine] for (one, other), cosine in ordered[:_CLOSEST]]
