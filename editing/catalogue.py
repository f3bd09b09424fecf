"""The methods, as a table. Read by the API, the docs and the tests. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import UnknownEditor
from .hparams import MemitHparams, RomeHparams, RRomeHparams

Family = Literal[
    "closed form", "post-processor", "gradient", "neurons", "paths", "hypernetwork", "in context"
]

Matrix = Literal["down_proj", "up_proj", "gate_proj", "attention_out", "attention_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One paper's way to write facts, and where its code is."""

    name: str  # what `editor` says in a request
    title: str
    paper: str  # arXiv number
    hparams: type
    entry: str  # "module:function", imported when first used, since it needs torch
    batch: bool  # takes many facts at once; otherwise they are applied in turn
    remembers: bool  # earlier live edits enter the solve
    summary: str
    family: Family = "closed form"
    low_rank: bool = True  # the rank of its deltas is bounded by what it was asked to write
    writes: tuple[Matrix, ...] = ("down_proj",)  # what it may change in its layers


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="rome",
            title="Rank-One Model Editing",
            paper="2202.05262",
            hparams=RomeHparams,
            entry="editing.editors.rome:edit",
            batch=False,
            remembers=False,
            summary="One fact, one layer, one rank, at the fact's own keys.",
        ),
        Method(
            name="r-rome",
            title="Rebuilding ROME",
            paper="2403.07175",
            hparams=RRomeHparams,
            entry="editing.editors.r_rome:edit",
            batch=False,
            remembers=False,
            summary="ROME with one mean key in every place of the formula.",
        ),
        Method(
            name="memit",
            title="Mass-Editing Memory in a Transformer",
            paper="2210.07229",
            hparams=MemitHparams,
            entry="editing.editors.memit:edit",
            batch=True,
            remembers=False,
            summary="Many facts at once, spread over a band of layers.",
        ),
        Method(
            name="memit-history",
            title="MEMIT whose metric holds the keys of earlier live edits",
            paper="2605.26670",
            hparams=MemitHparams,
            entry="editing.editors.memit_history:edit",
            batch=True,
            remembers=True,
            summary="MEMIT for one edit after another: earlier edits are kept where they are.",
        ),
    )
}


def method(name: str) -> Method:
    """The method called `name`. Raises UnknownEditor."""
    try:
        return METHODS[name]
    except KeyError:
        raise UnknownEditor(name, known=sorted(METHODS)) from None
