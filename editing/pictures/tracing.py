"""Causal tracing as heat maps: one fact by layer and token, and all facts by layer and role."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .style import SEQUENTIAL, figure, nothing, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]

_KINDS = ("state", "mlp", "attention")


def one_fact(rows: Sequence[Json], _summary: Json) -> "Figure":
    """The first traced fact: what each restored place brings back; corrupted tokens have a star."""
    traced = [row for row in rows if "ie" in row]
    mine = {row["kind"]: row for row in traced if row["case"] == traced[0]["case"]}
    shown = [mine[kind] for kind in _KINDS if kind in mine]
    if not shown:
        return _empty()
    height = 0.9 + 0.2 * len(shown[0]["tokens"])
    made, axes = panels(len(shown), width=3.0, height=height)
    top = max(max(map(max, row["ie"])) for row in shown)
    for number, (row, panel) in enumerate(zip(shown, axes, strict=True)):
        start, stop = row["span"]
        labels = [
            f"{token}*" if start <= at < stop else token for at, token in enumerate(row["tokens"])
        ]
        drawn = panel.imshow(
            list(zip(*row["ie"], strict=True)), aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=top
        )
        panel.set_yticks(range(len(labels)), labels if number == 0 else [""] * len(labels))
        _layers(panel, row["layers"])
        panel.set_title(_named(row), fontsize=8)
    made.colorbar(drawn, ax=axes, label="p brought back", shrink=0.8)  # pyright: ignore[reportPossiblyUnboundVariable]
    return made


def by_role(_rows: Sequence[Json], summary: Json) -> "Figure":
    """Average indirect effect of all facts, by layer and role of the token."""
    lines = summary.get("tables", {}).get("aie", {}).get("rows", [])
    kinds = [kind for kind in _KINDS if any(line[0] == kind for line in lines)]
    if not kinds:
        return _empty()
    made, axes = panels(len(kinds), width=3.0, height=2.4)
    top = max(line[3] for line in lines if line[0] in kinds)
    roles = list(dict.fromkeys(line[1] for line in lines))
    layers = sorted({line[2] for line in lines})
    for number, (kind, panel) in enumerate(zip(kinds, axes, strict=True)):
        found = {(line[1], line[2]): line[3] for line in lines if line[0] == kind}
        grid = [[found.get((role, layer), float("nan")) for layer in layers] for role in roles]
        drawn = panel.imshow(grid, aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=top)
        panel.set_yticks(range(len(roles)), roles if number == 0 else [""] * len(roles))
        _layers(panel, layers)
        panel.set_title(kind, fontsize=8)
    made.colorbar(drawn, ax=axes, label="average indirect effect", shrink=0.8)  # pyright: ignore[reportPossiblyUnboundVariable]
    return made


def _layers(panel: "Axes", layers: Sequence[int]) -> None:
    every = max(1, len(layers) // 6)
    panel.set_xticks(range(0, len(layers), every), [str(n) for n in layers[::every]])
    panel.set_xlabel("restored layer")


def _named(row: Json) -> str:
    return row["kind"] + (f", window of {row['window']}" if row.get("window") else "")


def _empty() -> "Figure":
    made = figure()
    nothing(made.subplots(), "no fact was traced")
    return made
