"""Long runs as a picture: the score, its parts, perplexity and cost, by edits made."""

from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator, StrMethodFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
# Told apart by mark too, so that a grey print says the same.
_COLORS = ("#08306b", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666", "#8b1a1a")
_MARKS = "oDs^vPX*"
_LINES = ("-", "--", "-.")  # one for every eight runs
_FAR = 10.0  # times the unedited perplexity, from which on only a logarithm shows the others
_PARTS = {"S": ("S", "ES", "PS", "NS"), "score": ("score", "efficacy", "generality", "loc_agree")}
_TITLES = {
    "S": "S, harmonic mean of the three",
    "ES": "efficacy (ES)",
    "PS": "paraphrases (PS)",
    "NS": "neighbors (NS)",
    "score": "score, mean of the three",
    "efficacy": "efficacy",
    "generality": "generality",
    "loc_agree": "locality, as before",
    "perplexity": "perplexity",
    "cpu_s_recent": "CPU-seconds an edit",
}


def draw(rows: Sequence[Row], headline: str, title: str, path: Path) -> None:
    """A panel a measure; dotted: the unedited model."""
    measures = [*_PARTS[headline], "perplexity", "cpu_s_recent"]
    figure, panels = plt.subplots(2, 3, figsize=(10.5, 6.2))
    for panel, name in zip(panels.flat, measures, strict=True):
        _panel(panel, rows, name)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.suptitle(title, fontsize=8)
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=8)
    lines = -(-len(labels) // 4)
    figure.tight_layout(rect=(0, 0.03 + 0.035 * lines, 1, 1))
    figure.savefig(path, dpi=160)
    plt.close(figure)


def _panel(panel: "Axes", rows: Sequence[Row], name: str) -> None:
    looks = cycle(product(_LINES, zip(_COLORS, _MARKS, strict=True)))
    for run in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == run]
        line, (color, mark) = next(looks)
        at = [row["n"] for row in mine]
        panel.plot(
            at, [row[name] for row in mine], color=color, marker=mark, markersize=4,
            linewidth=1.2, linestyle=line, label=run,
        )  # fmt: skip
        if f"{name}_low" in mine[0]:
            ends = ([row[f"{name}_{end}"] for row in mine] for end in ("low", "high"))
            panel.fill_between(at, *ends, color=color, alpha=0.12, linewidth=0)
    first = rows[0]["run"]
    before = [(row["n"], row.get(f"{name}_before")) for row in rows if row["run"] == first]
    if before[0][1] is not None:
        panel.plot(*zip(*before, strict=True), color="black", linewidth=0.8, linestyle=":")
    panel.set_xscale("log")
    panel.set_xticks(sorted({row["n"] for row in rows}))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())
    if f"{name}_low" in rows[0]:
        panel.set_ylim(0, 103)
    elif name == "perplexity" and max(row[name] for row in rows) > _FAR * rows[0][f"{name}_before"]:
        panel.set_yscale("log")
    else:
        panel.set_ylim(bottom=0)
    panel.set_title(_TITLES[name], fontsize=9)
    panel.set_xlabel("edits made", fontsize=8)
    panel.tick_params(labelsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
