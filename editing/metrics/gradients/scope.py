"""Which parameters a gradient is taken of, and which part of the model each of them belongs to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from editing.errors import InvalidHparam, UnsupportedArchitecture

if TYPE_CHECKING:
    from torch import nn

    from editing.model.view import ModelView
    from editing.walk import Plan

ScopeName = Literal["all", "mlp", "down_proj", "edited_layers"]

# What parameters are called by what they do. A head tied to the embedding is the embedding.
KINDS = (
    "embedding",
    "positions",
    "attention",
    "mlp_in",
    "down_proj",
    "norm",
    "bias",
    "head",
    "other",
)
_OF_MLP = ("mlp_in", "down_proj")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the model: all parameters of one kind in one layer (None: outside the blocks)."""

    layer: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The parameters, by name, that are compared, each with its part.

    all            every parameter
    mlp            the matrices of all MLPs
    down_proj      the down-projections of all layers
    edited_layers  the matrices that an editor writes, named where the scope is made
    """

    name: str
    parts: Mapping[str, Part]

    @classmethod
    def of(cls, view: "ModelView", name: str = "all", written: Iterable[str] = ()) -> "Scope":
        """A scope by its name; `written` are the weights of `edited_layers`.

        Raises InvalidHparam or UnsupportedArchitecture.
        """
        every = parts_of(view)
        if name == "all":
            return cls(name, every)
        if name == "mlp":
            if Part(0, "mlp_in") not in every.values():
                view.up_proj(0)  # which says why it is not known
            return cls(name, {n: part for n, part in every.items() if part.kind in _OF_MLP})
        if name == "down_proj":
            return cls(name, {n: part for n, part in every.items() if part.kind == name})
        if name != "edited_layers":
            raise InvalidHparam("scope", value=name, must=f"one of {list(get_args(ScopeName))}")
        chosen = {weight: every[weight] for weight in written}
        if not chosen:
            must = "another one: there is no editor here that writes in layers of its own"
            raise InvalidHparam("scope", value=name, must=must)
        return cls(name, chosen)

    @property
    def lowest(self) -> int:
        """The lowest layer that has to be reached; -1 where something stands below the blocks."""
        return min(-1 if part.layer is None else part.layer for part in self.parts.values())


def weights_written(view: "ModelView", plan: "Plan") -> list[str]:
    """The matrices that an editor may change with its hparams, layer by layer."""
    layers = getattr(plan.hparams, "layers", ())
    return [
        name
        for layer in layers
        for kind in plan.method.writes
        for name in view.matrices(layer, kind)
    ]


def parts_of(view: "ModelView") -> dict[str, Part]:
    """The part of every parameter. Raises UnsupportedArchitecture."""
    names = {id(parameter): name for name, parameter in view.model.named_parameters()}
    found: dict[str, Part] = {}
    owners = [(path, module) for path, module in view.model.named_modules() if module._parameters]  # noqa: SLF001
    for path, module in owners:
        for own, parameter in module.named_parameters(recurse=False):
            name = names[id(parameter)]
            if name not in found:  # a tied weight belongs to the module that names it
                found[name] = _part(view, path, module, "bias" in own, parameter.dim())
    return found


def _part(view: "ModelView", path: str, module: "nn.Module", bias: bool, dims: int) -> Part:  # noqa: FBT001
    inside = path.removeprefix(f"{view.layout.blocks}.")
    layer = None if inside == path else int(inside.partition(".")[0])
    if dims == 1:
        return Part(layer, "bias" if bias else "norm")
    if layer is not None:
        return Part(layer, _kind_in_block(view, inside.partition(".")[2]))
    if module is view.model.get_input_embeddings():
        return Part(None, "embedding")
    if path == view.layout.head:
        return Part(None, "head")
    return Part(None, "positions" if _looks_up(module) else "other")


def _kind_in_block(view: "ModelView", path: str) -> str:
    layout = view.layout
    mlp, attention = layout.down_proj.rpartition(".")[0], layout.attention_out.rpartition(".")[0]
    if path == layout.down_proj:
        return "down_proj"
    if path in {layout.up_proj, layout.gate_proj} or (mlp and path.startswith(f"{mlp}.")):
        return "mlp_in"
    return "attention" if attention and path.startswith(f"{attention}.") else "other"


def _looks_up(module: "nn.Module") -> bool:
    return hasattr(module, "num_embeddings")


def refused(view: "ModelView", name: str, why: str) -> UnsupportedArchitecture:
    """The error for a parameter whose gradient cannot be had this way."""
    said = f"the gradient of {name} cannot be taken: {why}."
    return UnsupportedArchitecture(view.facts.model_type, why=said, candidates=[name])
