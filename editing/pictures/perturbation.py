"""Edits of one subject: what is left of the first after more of them, and SD by their number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .style import COLOURS, MARKS, figure, legend, nothing, tidy, whiskers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]

_INSENSITIVE = 3  # points of SD within which the paper calls an editor insensitive


def retention(_rows: Sequence[Json], summary: Json) -> "Figure":
    """ES of an edit after so many later ones, each arm a line, with its 95 % interval."""
    lines = _table(summary, "retention")
    made = figure()
    axes = tidy(made.subplots())
    if not lines:
        nothing(axes, "no edit has a later one")
        return made
    for number, arm in enumerate(dict.fromkeys(line[0] for line in lines)):
        mine = [line for line in lines if line[0] == arm and line[2] is not None]
        _, later, es, low, high, *_ = zip(*mine, strict=True)
        n = max(line[6] for line in mine)
        axes.errorbar(
            later,
            es,
            yerr=whiskers(es, low, high),
            color=COLOURS[number],
            marker=MARKS[number],
            capsize=2,
            linewidth=1,
            label=f"{arm} (n = {n})",
        )
    axes.set_xticks(sorted({line[1] for line in lines}))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("later edits")
    axes.set_ylabel("efficacy success")
    legend(axes)
    return made


def sd_by_k(_rows: Sequence[Json], summary: Json) -> "Figure":
    """S of edits of one subject minus S of edits of different ones, by the number of edits."""
    lines = [line for line in _table(summary, "by_k") if line[4] is not None]
    made = figure()
    axes = tidy(made.subplots())
    if not lines:
        nothing(axes, "no two arms to compare")
        return made
    axes.axhspan(-_INSENSITIVE, _INSENSITIVE, color="#eeeeee", zorder=0)
    axes.axhline(0, color="black", linewidth=0.6)
    for number, of in enumerate(dict.fromkeys(line[1] for line in lines)):
        mine = [line for line in lines if line[1] == of]
        k, _, _, _, sd, low, high, subjects = zip(*mine, strict=True)
        axes.errorbar(
            k,
            sd,
            yerr=whiskers(sd, low, high),
            color=COLOURS[number],
            marker=MARKS[number],
            capsize=2,
            linewidth=1,
            label=f"{of} edit{'s' if of == 'all' else ''} (n = {max(subjects)} subjects)",
        )
    axes.set_xticks(sorted({line[0] for line in lines}))
    axes.set_xlabel("edits, k")
    axes.set_ylabel("SD, points")
    legend(axes)
    return made


def _table(summary: Json, name: str) -> list[list[Any]]:
    return summary.get("tables", {}).get(name, {}).get("rows", [])
