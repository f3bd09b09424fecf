"""Guarded runs as a picture: what became of the poisonous orders, and what is left of the good."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

Json = dict[str, Any]
_COLORS = ("#f0f0f0", "#bdbdbd", "#636363", "#9ecae1", "#3182bd", "#d55e00")
_PARTS = (("ES", "o", "#08306b"), ("PS", "s", "#009e73"), ("NS", "D", "#d55e00"))


def draw(summaries: Sequence[Json], fates: Sequence[str], path: Path) -> None:
    """Left: counts of the poisonous orders; right: the good ones that were served, at the end."""
    names = [f"{one['made_by']['method']}, {one['arm']}" for one in summaries]
    places = range(len(names))
    height = 1.9 + 0.34 * len(names)
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(10, height))
    starts = [0] * len(names)
    for fate, color in zip(fates, _COLORS, strict=True):
        counts = [one["fates"].get(fate, 0) for one in summaries]
        left.barh(
            places, counts, left=starts, height=0.62, color=color, label=fate,
            edgecolor="black", linewidth=0.4,
        )  # fmt: skip
        starts = [start + count for start, count in zip(starts, counts, strict=True)]
    left.set_title("poisonous orders", fontsize=9)
    for name, mark, color in _PARTS:
        values = [one["good"]["served"].get(name, {}).get("value") for one in summaries]
        right.plot(values, places, mark, color=color, markersize=5, label=name)
    whole = [one["good"]["all"]["ES"]["value"] for one in summaries]
    right.plot(whole, places, "|", color="black", markersize=12, label="ES of all good orders")
    right.set_title("good orders at the end, percent", fontsize=9)
    right.set_xlim(0, 103)
    left.set_yticks(list(places), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    for panel in (left, right):
        panel.tick_params(labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
        panel.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.35 / height - 0.06), ncols=3,
            frameon=False, fontsize=7,
        )  # fmt: skip
    figure.savefig(path, dpi=160, bbox_inches="tight")
    plt.close(figure)
