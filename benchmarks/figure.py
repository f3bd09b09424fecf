"""The table of editors as a picture: S as bars with their intervals, PS and NS as marks."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from benchmarks.task import MODES, UNEDITED

Row = dict[str, Any]
# Told apart by lightness and shape too, so that a grey print says the same.
_BAR, _PS, _NS = "#9ecae1", "#08306b", "#d55e00"
_TITLES = {
    "single": "each edit alone",
    "sequence": "all edits, one after another",
    "batch": "all edits in one solve",
}


def draw(rows: Sequence[Row], title: str, path: Path) -> bool:
    """One panel a mode, methods in the rows' order. False where there is nothing to draw."""
    ready = [row for row in rows if "S" in row]
    edited = [row for row in ready if row["method"] != UNEDITED]
    modes = [mode for mode in MODES if any(row["mode"] == mode for row in edited)]
    if not modes:
        return False
    methods = list(dict.fromkeys(row["method"] for row in edited))
    families = {row["method"]: row["family"] for row in edited}
    places = _places([families[method] for method in methods])
    height = 1.4 + 0.3 * (max(places) + 1)
    figure, panels = plt.subplots(
        1, len(modes), sharey=True, squeeze=False, figsize=(1.6 + 3.6 * len(modes), height)
    )
    base = next((row for row in ready if row["method"] == UNEDITED), None)
    for panel, mode in zip(panels[0], modes, strict=True):
        mine = {row["method"]: row for row in edited if row["mode"] == mode}
        _panel(panel, [(y, mine[m]) for y, m in zip(places, methods, strict=True) if m in mine])
        if base:
            panel.axvline(base["NS"], color=_NS, linewidth=0.8, linestyle=":", zorder=0)
        panel.set_title(_TITLES[mode], fontsize=9)
    most = max(row["n"] for row in edited)
    counts = {row["method"]: row["n"] for row in edited}
    names = [m if counts[m] == most else f"{m} (n = {counts[m]})" for m in methods]
    panels[0][0].set_yticks(places, names)
    panels[0][0].set_ylim(max(places) + 0.7, -0.7)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.suptitle(title, fontsize=9)
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.28 / height, 1, 1))
    figure.savefig(path, dpi=200)
    plt.close(figure)
    return True


def _places(families: Sequence[str]) -> list[float]:
    """A place for each method, a gap between two families."""
    gaps = [0.0] + [0.5 * (a != b) for a, b in pairwise(families)]
    return [number + sum(gaps[: number + 1]) for number in range(len(families))]


def _panel(panel: "Axes", rows: Sequence[tuple[float, Row]]) -> None:
    places = [place for place, _ in rows]
    whole = [row["S"] for _, row in rows]
    ends = [
        [abs(row["S"] - row["S_low"]) for _, row in rows],
        [abs(row["S_high"] - row["S"]) for _, row in rows],
    ]
    panel.barh(places, whole, height=0.62, color=_BAR, label="S, with its 95 % interval")
    panel.errorbar(whole, places, xerr=ends, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
    for key, mark, color, name in (
        ("PS", "o", _PS, "PS, paraphrases"),
        ("NS", "D", _NS, "NS, neighbors (dotted: unedited)"),
    ):
        values = [row[key] for _, row in rows]
        panel.plot(
            values, places, mark, color=color, markersize=4.5, markeredgecolor="white",
            markeredgewidth=0.5, label=name, zorder=3,
        )  # fmt: skip
    panel.set_xlim(0, 103)
    panel.set_xlabel("percent", fontsize=8)
    panel.tick_params(labelsize=8, length=0, axis="y")
    panel.tick_params(labelsize=8, axis="x")
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
