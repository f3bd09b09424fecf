"""How the blocks of a model want to be called: taken down from a pass, and cut to some of its rows.

Which argument has an entry for each row of the batch is not to be told from one pass: four heads
look like four rows, and ALiBi's biases may have an entry for each head of each row. Two short
passes over two and three rows tell it, once for a model.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .view import ModelView

Place = tuple[object, ...]  # where an argument stands: its name or number, then the way inside it


class Halt(Exception):  # a signal, not an error
    """Raised by a hook to end a forward pass that has given all that was wanted."""


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one block besides the hidden state."""

    args: tuple[object, ...]
    named: Mapping[str, object]

    def mapped(self, change: Callable[[Place, object], object]) -> "Call":
        """The call with every argument changed, containers entered."""
        args = tuple(_mapped((n,), value, change) for n, value in enumerate(self.args))
        named = {name: _mapped((name,), value, change) for name, value in self.named.items()}
        return Call(args, named)

    def tensors(self) -> Iterator[tuple[Place, Tensor]]:
        """All tensors among the arguments."""
        found: list[tuple[Place, Tensor]] = []

        def note(place: Place, value: object) -> object:
            if isinstance(value, Tensor):
                found.append((place, value))
            return value

        self.mapped(note)
        return iter(found)


def _mapped(place: Place, value: object, change: Callable[[Place, object], object]) -> object:
    if isinstance(value, tuple):
        parts = cast("tuple[object, ...]", value)
        return tuple(_mapped((*place, n), part, change) for n, part in enumerate(parts))
    if type(value) is dict:
        items = cast("dict[str, object]", value).items()
        return {name: _mapped((*place, name), part, change) for name, part in items}
    return change(place, value)


@contextmanager
def taking_down(blocks: list[nn.Module]) -> Generator[tuple[list[Tensor], list[Call]]]:
    """Hidden states and other arguments that blocks are called with; the last halts the pass."""
    hidden: list[Tensor] = []
    calls: list[Call] = []

    def take(_: nn.Module, args: tuple[object, ...], named: dict[str, object]) -> None:
        plain = dict(named)
        state = args[0] if args else plain.pop("hidden_states")
        hidden.append(cast("Tensor", state))
        calls.append(Call(tuple(args[1:]), plain))
        if len(calls) == len(blocks):
            raise Halt

    hooks = [block.register_forward_pre_hook(take, with_kwargs=True) for block in blocks]
    try:
        yield hidden, calls
    except Halt:
        pass
    finally:
        for hook in hooks:
            hook.remove()


def per_text(view: "ModelView") -> Mapping[Place, int]:
    """How many entries each argument's first dimension has for one row; none: it is shared."""
    small, large = (_sizes(view, rows) for rows in (2, 3))
    return {place: large[place] - small[place] for place in small}


@torch.no_grad()
def _sizes(view: "ModelView", rows: int) -> dict[Place, int]:
    ids = torch.zeros(rows, 5, dtype=torch.long, device=view.device)
    mask = torch.ones_like(ids)
    mask[:, 0] = 0  # padding, or a mask may be left out
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with taking_down([view.blocks[0]]) as (_, calls):
        view.body(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return {place: tensor.shape[0] for place, tensor in calls[0].tensors() if tensor.dim() > 1}


def cut(value: Tensor, entries: int, index: Tensor, rows: int) -> Tensor:
    """The entries of some rows, where a tensor has `entries` for each of `rows` rows."""
    if not entries or value.shape[0] != entries * rows:
        return value
    return value.unflatten(0, (rows, entries))[index].flatten(0, 1)
