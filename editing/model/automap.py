"""The layout of a model that has no row in the table, found by watching it and touching it.

Nothing is guessed from names. One short pass is watched for the list of blocks, for what runs after
them and for the head; in three blocks the matrix that writes the MLP's result is found by moving
outputs (writers.py). Whatever is not plain is refused, with what was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from editing.errors import UnsupportedArchitecture

from .calls import Call
from .head import SHAPINGS, shaped
from .layout import Layout
from .writers import Unclear, Writers, writers_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS = 6
# What configs call the experts of a mixture: one of them is not the MLP of a layer.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(slots=True)
class _Heard:
    """One call of a module in the watched pass."""

    path: str
    entering: Tensor | None
    call: Call
    leaving: Tensor | None = None


@dataclass(slots=True)
class _Pass:
    """All that ran in one short pass, in the order in which it began."""

    heard: list[_Heard] = field(default_factory=list[_Heard])
    logits: Tensor | None = None

    def once(self, path: str) -> _Heard | None:
        """The call of a module that was called once with a tensor and gave one."""
        calls = [one for one in self.heard if one.path == path]
        whole = len(calls) == 1 and calls[0].entering is not None and calls[0].leaving is not None
        return calls[0] if whole else None


def mapped(model: "PreTrainedModel") -> Layout:
    """The layout of a model, found by inspection. Raises UnsupportedArchitecture."""
    try:
        return _mapped(model)
    except Unclear as error:
        why, candidates = error.why, error.candidates
        raise UnsupportedArchitecture(
            str(model.config.model_type), why=why, candidates=candidates
        ) from error


def _mapped(model: "PreTrainedModel") -> Layout:
    config = model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        raise Unclear("it is an encoder with a decoder, not one stack of blocks.")
    for name in _EXPERTS:
        if (getattr(config, name, None) or 0) > 1:
            raise Unclear(f"its MLPs are mixtures of experts ({name}).")
    layers = int(config.num_hidden_layers)
    seen = _watched(model)
    blocks = _blocks(model, seen, layers)
    head = _head(model)
    fed = seen.once(head)
    if fed is None:
        raise Unclear("its head is not run once on the hidden states.")
    body = _body(seen, blocks, fed)
    tail = _tail(seen, body, f"{blocks}.{layers - 1}", fed)
    found = _writers(model, seen, blocks, layers)
    return Layout(
        body=body,
        blocks=blocks,
        down_proj=found.down_proj,
        attention_out=found.attention_out,
        tail=tail,
        head=head,
        shaping=_shaping(model, seen, fed),
        post_norm=found.post_norm,
        write_scale=found.write_scale,
        up_proj=found.up_proj,
        gate_proj=found.gate_proj,
        attention_post_norm=found.attention_post_norm,
        attention_scale=found.attention_scale,
    )


@torch.no_grad()
def _watched(model: "PreTrainedModel") -> _Pass:
    seen, open_calls = _Pass(), list[_Heard]()

    def begin(path: str):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[object, ...], named: dict[str, object]) -> None:
            plain = dict(named)
            state = args[0] if args else plain.pop("hidden_states", None)
            one = _Heard(path, _tensor(state), Call(tuple(args[1:]), plain))
            seen.heard.append(one)
            open_calls.append(one)

        return hook

    def end(_: nn.Module, __: object, out: object) -> None:
        open_calls.pop().leaving = _tensor(out)

    hooks = [
        hook
        for path, module in model.named_modules()
        if path
        for hook in (
            module.register_forward_pre_hook(begin(path), with_kwargs=True),
            module.register_forward_hook(end),
        )
    ]
    try:
        ids = torch.arange(1, _TOKENS + 1, device=model.device)[None]
        seen.logits = model(input_ids=ids, use_cache=False).logits
    except Exception as error:  # foreign code may raise anything
        raise Unclear(f"a plain pass over a few tokens fails: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _tensor(value: object) -> Tensor | None:
    """A tensor, or the first one of an output."""
    if not isinstance(value, Tensor) and hasattr(value, "__getitem__"):
        try:
            value = cast("Sequence[object]", value)[0]
        except (KeyError, IndexError, TypeError):
            return None
    return value if isinstance(value, Tensor) else None


def _blocks(model: nn.Module, seen: _Pass, layers: int) -> str:
    """The list whose members hand the hidden state on to one another."""
    found: list[str] = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or len(module) != layers:
            continue
        calls = [seen.once(f"{path}.{number}") for number in range(layers)]
        linked = [
            one is not None and (before is None or _equal(before.leaving, one.entering))
            for before, one in zip([None, *calls], calls, strict=False)
        ]
        if all(linked):
            found.append(path)
    if len(found) != 1:
        much = f"several are: {', '.join(found)}" if found else "none is"
        why = (
            f"exactly one list of {layers} blocks must hand the hidden state from one block to "
            f"the next, and {much}."
        )
        raise Unclear(why, found)
    return found[0]


def _head(model: "PreTrainedModel") -> str:
    head = model.get_output_embeddings()
    for path, module in model.named_modules():
        if module is head and head is not None:
            return path
    raise Unclear("it has no head that turns hidden states into logits.")


def _body(seen: _Pass, blocks: str, fed: _Heard) -> str:
    """The module around the blocks whose output the head is fed."""
    parts = blocks.split(".")
    for size in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:size])
        calls = [one for one in seen.heard if one.path == path]
        if len(calls) == 1 and _equal(calls[0].leaving, fed.entering):
            return path
    raise Unclear("something stands between its stack of blocks and its head.")


def _tail(seen: _Pass, body: str, last: str, fed: _Heard) -> tuple[str, ...]:
    """What the last block's output passes through, one module after another, up to the head."""
    begun = next(n for n, one in enumerate(seen.heard) if one.path == last)
    state = seen.heard[begun].leaving
    tail: list[str] = []
    for one in seen.heard[begun + 1 :]:
        inside = (last, *tail)
        if not one.path.startswith(f"{body}.") or one.path.startswith(
            tuple(f"{p}." for p in inside)
        ):
            continue
        if one.leaving is not None and _equal(one.entering, state):
            tail.append(one.path)
            state = one.leaving
    if not _equal(state, fed.entering):
        raise Unclear("what it does between the last block and the head is not a chain of modules.")
    return tuple(tail)


def _shaping(model: "PreTrainedModel", seen: _Pass, fed: _Heard) -> str | None:
    """The config's value that makes the model's logits of what the head gives."""
    given, logits = cast("Tensor", fed.leaving), cast("Tensor", seen.logits)
    for name in (None, *SHAPINGS):
        made = shaped(given, model.config, name)
        if made.shape == logits.shape and torch.allclose(made, logits.to(made.dtype), rtol=1e-5):
            return name
    raise Unclear("its logits are not what its head gives, nor any known function of it.")


def _writers(model: nn.Module, seen: _Pass, blocks: str, layers: int) -> Writers:
    found: list[Writers] = []
    for number in sorted({0, layers // 2, layers - 1}):
        path = f"{blocks}.{number}"
        one = cast("_Heard", seen.once(path))
        try:
            found.append(
                writers_of(model.get_submodule(path), one.call, cast("Tensor", one.entering))
            )
        except Unclear:
            raise
        except Exception as error:  # foreign code may raise anything
            raise Unclear(f"its block {number} cannot be run by itself: {error}") from error
    shapes = [_shape(model, f"{blocks}.{n}.{found[0].down_proj}") for n in range(layers)]
    if len(set(found)) > 1 or len(set(shapes)) > 1:
        names = [one.down_proj for one in found]
        raise Unclear("its blocks are of different kinds.", names)
    return found[0]


def _shape(model: nn.Module, path: str) -> tuple[int, ...]:
    try:
        weight = getattr(model.get_submodule(path), "weight", None)
    except AttributeError:
        return ()
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return False
    return one is other or (one.shape == other.shape and torch.equal(one, other))
