"""Which linear layer of a block writes the MLP's result, found by moving outputs and watching.

    writes     adding d to its output adds c d to the block's output there, for any d and input; or
               a norm takes the sum in, and what comes out of that norm is what the block moves by
    of an MLP  with the attention's output held, its input hears of no other position
    attention  the first linear layer whose input does

The block is copied to float32 for it, so that nothing live is touched and little is rounded.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .calls import Call
from .landing import normed_of
from .partial import by_row

_SAME = 1e-3  # relative: what float32 leaves of an identity
_SILENT = 1e-6  # relative: less than this is not heard


class Unclear(Exception):
    """A block in which not exactly one such layer was found."""

    def __init__(self, why: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.candidates = tuple(candidates)


@dataclass(frozen=True, slots=True)
class Writers:
    """Paths inside a block; see layout.Layout."""

    down_proj: str
    attention_out: str
    post_norm: str | None
    write_scale: float
    up_proj: str | None = None
    gate_proj: str | None = None
    attention_post_norm: str | None = None
    attention_scale: float = 1.0


@dataclass(slots=True)
class _Run:
    """One run of the block: activations [S, d] by module, in the order of the calls."""

    entering: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    leaving: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    out: Tensor = field(default_factory=lambda: torch.empty(0))


class _Bench:
    """A float32 copy of a block, with the call that the watched pass gave it."""

    def __init__(self, block: nn.Module, call: Call, hidden: Tensor) -> None:
        self.block = copy.deepcopy(block).float()
        self.call = call.mapped(
            lambda _, value: (
                value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
            )
        )
        self.hidden = hidden.float()
        self.names = {module: name for name, module in self.block.named_modules() if name}
        self.linears = [
            name for module, name in self.names.items() if isinstance(module, nn.Linear | Conv1D)
        ]

    @torch.no_grad()
    def run(
        self,
        hidden: Tensor,
        *,
        added: tuple[str, Tensor] | None = None,
        held: Mapping[str, Tensor] | None = None,
    ) -> _Run:
        """Run it; `added` moves a module's output at the last position, `held` replaces some."""
        run = _Run()
        size = hidden.shape[1]

        def watch(module: nn.Module, args: tuple[object, ...], out: object) -> object:
            name = self.names[module]
            first = out[0] if isinstance(out, tuple) else out
            if not (args and isinstance(args[0], Tensor) and isinstance(first, Tensor)):
                return None
            shape = first.shape
            if held is not None and name in held:
                first = held[name].view(shape)
            if added is not None and name == added[0]:
                moved = by_row(first, 1).clone()
                moved[0, -1] += added[1]
                first = moved.view(shape)
            entering, leaving = by_row(args[0], 1)[0], by_row(first, 1)[0]
            if len(entering) == len(leaving) == size:
                run.entering[name], run.leaving[name] = entering, leaving
            return (first, *out[1:]) if isinstance(out, tuple) else first

        hooks = [module.register_forward_hook(watch) for module in self.names]
        try:
            out = self.block(hidden, *self.call.args, **self.call.named)
        finally:
            for hook in hooks:
                hook.remove()
        run.out = (out[0] if isinstance(out, tuple) else out)[0]
        return run


def writers_of(block: nn.Module, call: Call, hidden: Tensor) -> Writers:
    """The layers of one block, called as `call` says with hidden [1, S, d]. Raises Unclear."""
    bench = _Bench(block, call, hidden)
    chance = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance).to(bench.hidden.device)

    base = bench.run(bench.hidden)
    elsewhere = bench.hidden.clone()
    elsewhere[0, 0] = bench.hidden.square().mean().sqrt() * noise(hidden.shape[-1])
    other = bench.run(elsewhere)
    linears = [name for name in base.leaving if name in bench.linears]
    hearing = [name for name in linears if _heard(base, other, name)]
    if not hearing:
        raise Unclear("no linear layer of its blocks hears of other positions.")
    attention = hearing[0]
    held = bench.run(elsewhere, held={attention: base.leaving[attention]})
    step = base.out[-1].square().mean().sqrt() * noise(hidden.shape[-1])
    found: list[Writers] = []
    for name in linears:
        if (
            name == attention
            or _heard(base, held, name)
            or base.leaving[name].shape[1] != hidden.shape[-1]
        ):
            continue
        scale = _scale(base, bench.run(bench.hidden, added=(name, step)), step)
        if scale is not None:
            again = _scale(other, bench.run(elsewhere, added=(name, step)), step)
            if again is None or abs(again - scale) > _SAME * abs(scale):
                why = f"what {name} writes is weighed anew at every token, as in a mixture."
                raise Unclear(why, [name])
            scale = 1.0 if abs(scale - 1) < _SAME else float(f"{scale:.5g}")
            found.append(Writers(name, attention, None, scale))
        elif norm := _norm_behind(bench, base, name, step):
            found.append(Writers(name, attention, norm, 1.0))
    if len(found) != 1:
        names = [one.down_proj for one in found]
        much = f"several do: {', '.join(names)}" if names else "none does"
        why = f"exactly one linear layer of a block must write its MLP's result, and {much}."
        raise Unclear(why, names)
    (writers,) = found
    up, gate = _makers(bench, base, writers)
    scale, norm = _landing_of_attention(bench, base, writers, step)
    return replace(
        writers, up_proj=up, gate_proj=gate, attention_scale=scale, attention_post_norm=norm
    )


def _makers(bench: _Bench, base: _Run, found: Writers) -> tuple[str | None, str | None]:
    """The linear layers that make the keys' entries and that gate them, None where unclear."""
    keys = base.entering[found.down_proj]
    held = {found.attention_out: base.leaving[found.attention_out]}
    making: dict[str, bool] = {}  # -> whether keys are linear in what it gives
    for name in bench.linears:
        if name in {found.attention_out, found.down_proj} or name not in base.leaving:
            continue
        doubled = bench.run(bench.hidden, held={**held, name: 2 * base.leaving[name]})
        moved = doubled.entering[found.down_proj]
        if not _same(moved, keys):
            making[name] = base.leaving[name].shape == keys.shape and _same(moved, 2 * keys)
    if len(making) == 1:
        (name,) = making
        return (name, None) if base.leaving[name].shape == keys.shape else (None, None)
    linear = [name for name, is_linear in making.items() if is_linear]
    if len(making) != 2 or len(linear) != 1:  # noqa: PLR2004 - a pair
        return None, None
    return linear[0], next(name for name in making if name != linear[0])


def _landing_of_attention(
    bench: _Bench, base: _Run, found: Writers, step: Tensor
) -> tuple[float, str | None]:
    """What the attention's output is multiplied by before it counts, or the norm behind it."""
    held = {found.down_proj: base.leaving[found.down_proj]}
    moved = bench.run(bench.hidden, added=(found.attention_out, step), held=held)
    scale = _scale(base, moved, step)
    if scale is not None:
        return (1.0 if abs(scale - 1) < _SAME else float(f"{scale:.5g}")), None
    return 1.0, _norm_behind(bench, base, found.attention_out, step, held)


def _heard(one: _Run, other: _Run, name: str) -> bool:
    """Whether what enters a module at the last position differs between two runs."""
    here, there = one.entering[name][-1], other.entering[name][-1]
    return float((here - there).norm()) > _SILENT * float(here.norm())


def _scale(base: _Run, moved: _Run, step: Tensor) -> float | None:
    """c where the block's output moved by c * step at the last position alone, else None."""
    move = moved.out - base.out
    scale = float((move[-1] @ step) / (step @ step))
    near = _same(move[-1], scale * step, to=step) and _same(moved.out[:-1], base.out[:-1])
    return scale if near and abs(scale) > _SAME else None


def _norm_behind(
    bench: _Bench,
    base: _Run,
    name: str,
    step: Tensor,
    held: Mapping[str, Tensor] | None = None,
) -> str | None:
    """The norm that takes in what a layer writes and gives out what the block moves by."""
    moved = bench.run(bench.hidden, added=(name, step), held=held)
    change = moved.out[-1] - base.out[-1]
    for other in base.leaving:
        if other in bench.linears or name.startswith(f"{other}."):
            continue
        if base.entering[other].shape != base.out.shape != base.leaving[other].shape:
            continue
        taken = moved.entering[other][-1] - base.entering[other][-1]
        given = moved.leaving[other][-1] - base.leaving[other][-1]
        same = taken.shape == given.shape == step.shape and _same(taken, step)
        if same and _same(given, change):
            norm = bench.block.get_submodule(other)
            like = next(bench.block.parameters())
            if normed_of(norm, len(step), like) is None:
                why = f"{other} stands behind {name} and is neither an RMS norm nor a layer norm."
                raise Unclear(why, [other])
            return other
    return None


def _same(one: Tensor, other: Tensor, *, to: Tensor | None = None) -> bool:
    scale = float((other if to is None else to).norm())
    return float((one - other).norm()) <= _SAME * scale
