"""Pictures of what was measured: from rows and a summary to PNG or SVG. No torch.

Each picture is one function (rows, summary) -> Figure, told apart by lightness and shape besides
colour, so that a grey print and every eye read the same. Figures are made without pyplot, so any
thread may draw.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from editing.entry import loaded
from editing.errors import BadRequest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
Picture = Callable[[Sequence[Json], Json], "Figure"]

# name -> "module:function"; the suites' table says which pictures a suite has.
PICTURES: Mapping[str, str] = {
    "ripple": "editing.pictures.ripple:criteria",
    "gain": "editing.pictures.gradsim:gain",
    "gram": "editing.pictures.gradsim:gram",
    "keys": "editing.pictures.state:keys",
    "drift": "editing.pictures.state:drift",
    "retention": "editing.pictures.perturbation:retention",
    "sd": "editing.pictures.perturbation:sd_by_k",
    "tracing": "editing.pictures.tracing:one_fact",
    "tracing-roles": "editing.pictures.tracing:by_role",
}

FORMATS = ("png", "svg")
# Drawn over all snapshots of an eval; the others show one.
OVER_SNAPSHOTS = frozenset({"drift"})


def drawn(name: str, rows: Sequence[Json], summary: Json, *, title: str, format: str) -> bytes:  # noqa: A002
    """One picture as the bytes of a file. Raises BadRequest for a name or a format not known."""
    if name not in PICTURES:
        raise BadRequest(f"There is no picture {name!r}. Known: {', '.join(PICTURES)}.", plot=name)
    if format not in FORMATS:
        raise BadRequest(f"A picture is {' or '.join(FORMATS)}, not {format!r}.", format=format)
    picture: Picture = loaded(PICTURES[name])
    figure = picture(rows, summary)
    if title:
        figure.suptitle(title, fontsize=8)
    file = io.BytesIO()
    # No date in it: the same rows give the same bytes.
    stamp = {"Date": None} if format == "svg" else {}
    figure.savefig(file, format=format, dpi=200, bbox_inches="tight", metadata=stamp)
    return file.getvalue()
