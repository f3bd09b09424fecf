"""GradSim: against what became of the answers, and all facts with all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import COLOURS, DIVERGING, MARKS, figure, legend, nothing, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]

_GROUPS = {"ripple": "should follow", "preserve": "should stay", "unnamed": "not said which"}
_LABELLED = 40  # facts that have room for a name


def gain(rows: Sequence[Json], summary: Json) -> "Figure":
    """Every query: GradSim with its edit, and how much its answer gained; with the fitted line."""
    pairs = [row for row in rows if row.get("kind") == "pair"]
    made = figure(4.6, 3.4)
    axes = tidy(made.subplots())
    if not pairs:
        nothing(axes, "no query was asked")
        return made
    for number, (group, label) in enumerate(_GROUPS.items()):
        mine = [row for row in pairs if row["group"] == group]
        if mine:
            axes.scatter(
                [row["gradsim"] for row in mine],
                [row["gain"] for row in mine],
                s=12,
                alpha=0.7,
                linewidths=0,
                color=COLOURS[number],
                marker=MARKS[number],
                label=f"{label} (n = {len(mine)})",
            )
    fit = summary.get("fit") or {}
    if fit.get("slope") is not None:
        ends = np.array([min(row["gradsim"] for row in pairs), max(r["gradsim"] for r in pairs)])
        told = f"{fit['slope']:.1f} x + {fit['intercept']:.2f}"
        value = summary.get("values", {}).get("gradsim.gain.pearson", {}).get("value")
        told += "" if value is None else f", Pearson {value:.2f}"
        axes.plot(ends, fit["slope"] * ends + fit["intercept"], color="black", lw=1, label=told)
    axes.axhline(0, color="black", linewidth=0.4)
    axes.set_xlabel("GradSim before the edit")
    axes.set_ylabel("gain of log P, nats")
    legend(axes)
    return made


def gram(rows: Sequence[Json], _summary: Json) -> "Figure":
    """All facts with all, as a heat map of cosines; what is not measured yet is left white."""
    facts = {row["fact"]: row for row in rows if "question" in row}
    made = figure(5.2, 4.4)
    axes = made.subplots()
    if not facts:
        nothing(axes, "no block was measured")
        return made
    order = sorted(facts)
    place = {number: at for at, number in enumerate(order)}
    first = min(order)
    grid = np.full((len(order), len(order)), np.nan)
    for row in rows:
        for shift, cosine in enumerate(row.get("cosines", ())):
            other = place.get(row["from"] + shift)
            if other is not None and row["fact"] in place:
                grid[place[row["fact"]], other] = grid[other, place[row["fact"]]] = cosine
    drawn = axes.imshow(grid, cmap=DIVERGING, vmin=-1, vmax=1)
    made.colorbar(drawn, ax=axes, label="GradSim", shrink=0.8)
    if len(order) <= _LABELLED:
        names = [facts[number]["subject"][:24] for number in order]
        axes.set_yticks(range(len(order)), names, fontsize=6)
        axes.set_xticks(range(len(order)), [str(n - first) for n in order], fontsize=6)
    else:
        axes.set_xlabel("fact")
    return made
