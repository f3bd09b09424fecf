"""What a state consists of and how far it lies from base: keys of live edits, drift over states."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .style import COLOURS, DIVERGING, MARKS, figure, nothing, panels, whiskers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]

_LABELLED = 30  # edits that have room for a name
_WEIGHTS = 3  # panels side by side
_DRIFT = {
    "kl": "KL to base, nats a token",
    "perplexity": "perplexity",
    "norm_ratio": "largest |W| / |W0|",
    "energy_ratio": "hyperspherical energy / base's",
}


def keys(rows: Sequence[Json], _summary: Json) -> "Figure":
    """Cosines between the keys of live edits, at the weights that they wrote."""
    live = [row for row in rows if row.get("row") == "live" and row["edits"]]
    if not live:
        made = figure()
        nothing(made.subplots(), "no live edit has written keys")
        return made
    every = max(1, len(live) // _WEIGHTS)
    shown = live[::every][:_WEIGHTS]
    made, axes = panels(len(shown), width=3.0, height=2.9)
    for number, (row, panel) in enumerate(zip(shown, axes, strict=True)):
        drawn = panel.imshow(row["cosine"], cmap=DIVERGING, vmin=-1, vmax=1)
        panel.set_title(row["weight"], fontsize=7)
        names = [f"...{name[-6:]}" for name in row["edits"]]
        if number == 0 and len(names) <= _LABELLED:
            panel.set_yticks(range(len(names)), names, fontsize=6)
        panel.set_xlabel("live edit, oldest first")
    made.colorbar(drawn, ax=axes, label="cosine of keys", shrink=0.8)  # pyright: ignore[reportPossiblyUnboundVariable]
    return made


def drift(_rows: Sequence[Json], summary: Json) -> "Figure":
    """Each measure of drift over the snapshots that were measured; base's value as a line."""
    told = summary.get("snapshots") or ([summary] if summary.get("values") else [])
    names = [
        name
        for name in _DRIFT
        if any(each["values"].get(name, {}).get("value") is not None for each in told)
    ]
    if not names:
        made = figure()
        nothing(made.subplots(), "no state was measured")
        return made
    made, axes = panels(len(names), width=2.6, height=2.5)
    for number, (name, panel) in enumerate(zip(names, axes, strict=True)):
        found = [each["values"].get(name, {}) for each in told]
        values = [each.get("value") for each in found]
        places = [place for place, value in enumerate(values) if value is not None]
        at = [value for value in values if value is not None]
        ends = [[found[place].get(end) for place in places] for end in ("low", "high")]
        panel.errorbar(
            places,
            at,
            yerr=whiskers(at, *ends),
            color=COLOURS[number],
            marker=MARKS[number],
            capsize=2,
            linewidth=1,
        )
        before = next((each["before"] for each in found if each.get("before") is not None), None)
        if before is not None:
            panel.axhline(before, color="black", linewidth=0.6, linestyle=":")
        panel.set_xlabel("snapshot, in the order given")
        panel.set_ylabel(_DRIFT[name])
    return made
