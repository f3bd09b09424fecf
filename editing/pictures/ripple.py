"""The six criteria of RippleEdits as bars, before and after the edits (and in context)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from editing.datasets.ripple_types import CRITERIA, REASONING, UNNAMED

from .style import AFTER, BEFORE, COLOURS, figure, legend, nothing, tidy, whiskers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]

_SHOWN = (*CRITERIA, REASONING, UNNAMED, "propagate", "preserve", "ripple_score")
_HIGH = 0.26  # of one bar


def criteria(_rows: Sequence[Json], summary: Json) -> "Figure":
    """Share of tests passed, with intervals over edits; n is the number of tests that count."""
    values = summary.get("values", {})
    names = [name for name in _SHOWN if values.get(name, {}).get("value") is not None]
    made = figure(5.6, 1.0 + 0.42 * max(len(names), 2))
    axes = tidy(made.subplots())
    if not names:
        nothing(axes, "no test could be counted yet")
        return made
    groups = [
        ("before", BEFORE, [{"value": values[name].get("before")} for name in names]),
        ("after", AFTER, [values[name] for name in names]),
    ]
    told = [values.get(f"{name}.in_context", {}) for name in names]
    if any(each.get("value") is not None for each in told):
        groups.append(("told in context", COLOURS[1], told))
    for number, (label, colour, found) in enumerate(groups):
        height = [place + (number - (len(groups) - 1) / 2) * _HIGH for place in range(len(names))]
        width = [each.get("value") or 0.0 for each in found]
        axes.barh(height, width, _HIGH, color=colour, label=label)
        low, high = ([each.get(end) for each in found] for end in ("low", "high"))
        bars = whiskers([each.get("value") for each in found], low, high)
        axes.errorbar(width, height, xerr=bars, fmt="none", ecolor="black", elinewidth=0.7)
    ticks = [f"{name.replace('_', ' ')} (n = {values[name]['n_testable']})" for name in names]
    axes.set_yticks(range(len(names)), ticks)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of tests passed")
    legend(axes)
    return made
