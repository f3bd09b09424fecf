"""What all pictures have in common: sizes, colours that every eye tells apart, honest emptiness."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, in an order in which neighbours differ in lightness too.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
BEFORE, AFTER = "#bdbdbd", "#08519c"
SEQUENTIAL = "viridis"  # even in lightness, dark to light
DIVERGING = "RdBu_r"  # blue to red over white, which colour-blind eyes tell apart

mpl.rcParams["svg.hashsalt"] = "errata"  # the same picture has the same bytes


def figure(width: float = 5.0, height: float = 3.2) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(columns: int, *, width: float = 3.2, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side."""
    made = figure(width * columns, height)
    axes = made.subplots(1, columns, squeeze=False)
    return made, [tidy(each) for each in axes[0]]


def tidy(axes: Axes) -> Axes:
    """Without a box, with small text."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)
    return axes


def legend(axes: Axes) -> None:
    """Small, beside nothing that is drawn if there is room."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def nothing(axes: Axes, why: str) -> None:
    """Say that there is nothing to draw, instead of drawing an empty frame."""
    axes.text(0.5, 0.5, why, ha="center", va="center", fontsize=8, transform=axes.transAxes)
    axes.set_axis_off()


def whiskers(
    values: Sequence[float | None], low: Sequence[float | None], high: Sequence[float | None]
) -> list[list[float]]:
    """Error bars for matplotlib: how far each interval reaches below and above; 0 without one."""
    down = [
        0.0 if v is None or bound is None else max(v - bound, 0.0)
        for v, bound in zip(values, low, strict=True)
    ]
    up = [
        0.0 if v is None or bound is None else max(bound - v, 0.0)
        for v, bound in zip(values, high, strict=True)
    ]
    return [down, up]
