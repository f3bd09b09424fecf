"""Retractions as a picture: of each fact taken out, how far it is preferred, against unedited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

Json = dict[str, Any]
# Told apart by shape too, so that a grey print says the same.
_EDITED, _END = ("#d55e00", "^"), ("#08306b", "o")


def draw(summaries: Sequence[Json], path: Path) -> None:
    """A panel an editor; on the diagonal a fact is where it was before it was ever written."""
    figure, panels = plt.subplots(
        1, len(summaries), squeeze=False, sharey=True, figsize=(1 + 3.6 * len(summaries), 4.2)
    )
    for panel, summary in zip(panels[0], summaries, strict=True):
        rows = summary["rows"]
        x = [row["margin_unedited"] for row in rows]
        for when, (color, mark), label in (
            ("edited", _EDITED, "while it was live"),
            ("end", _END, "after it was taken out"),
        ):
            panel.scatter(
                x, [row[f"margin_{when}"] for row in rows], s=18, color=color, marker=mark,
                label=label, edgecolors="white", linewidths=0.4, zorder=3,
            )  # fmt: skip
        panel.axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle=":")
        panel.axhline(0, color="#999999", linewidth=0.6)
        name = summary["made_by"]["method"]
        panel.set_title(
            f"{name}, {summary['retract']}\n{summary['retracted']} of {summary['edits']} edits",
            fontsize=9,
        )
        panel.set_xlabel("unedited: log p(new) - log p(true), nats", fontsize=8)
        panel.tick_params(labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0][0].set_ylabel("edited, and taken out", fontsize=8)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=160)
    plt.close(figure)
