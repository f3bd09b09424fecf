"""The key and value vectors of a model's MLPs as nodes: traced by gradients, trained on copies.

    key vector    a row of the up-projection (behind a gate it is that one; the gate is frozen)
    value vector  a column of the down-projection

What training adds to a node is kept beside the weights and enters a pass as the small product that
it stands for, so that neither a whole gradient nor a whole copy of a weight is ever made for it.
Between passes nothing of it is on the model.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from editing.delta import Slices
from editing.hparams import NodeScore
from editing.model.state import State
from editing.step import Step

from .adam import NodeAdam
from .lessons import Lessons
from .paths import Selection, node_scores

if TYPE_CHECKING:
    from editing.model.view import ModelView

Kind = Literal["keys", "values"]


@dataclass(slots=True)
class Group:
    """The nodes of one weight: all of them, and those in training.

    index [n] names them as rows or columns of the weight; values [n, d] is what training added.
    """

    view: "ModelView"
    layer: int
    kind: Kind
    name: str
    first: int  # the row of the first node
    size: int  # M
    adam: NodeAdam
    index: Tensor
    values: Tensor
    chosen: dict[str, Tensor] = field(default_factory=dict[str, Tensor])  # [n] by side

    @classmethod
    def of(cls, view: "ModelView", layer: int, kind: Kind, *, legacy: bool) -> "Group":
        """All nodes of a layer's keys or values. Raises UnsupportedArchitecture."""
        name = view.up_proj(layer) if kind == "keys" else view.down_proj(layer)
        size = view.facts.d_key
        # A fused matrix holds the gate's rows before its own.
        first = size if kind == "keys" and view.layout.fused_gate else 0
        width = view.weight(name).shape[1 if kind == "keys" else 0]
        adam = NodeAdam.empty(width, view.device, legacy=legacy)
        index = torch.zeros(0, dtype=torch.long, device=view.device)
        values = torch.zeros(0, width, device=view.device, requires_grad=True)
        return cls(view, layer, kind, name, first, size, adam, index, values)

    def seen_as_nodes(self, matrix: Tensor) -> Tensor:
        """A matrix of the weight's shape as [d, M]: one column a node."""
        return matrix[self.first :].mT if self.kind == "keys" else matrix

    def trained(self) -> Tensor:
        """The nodes as they are now, float32 [d, M]."""
        weight = self.view.master(self.name)
        if delta := self.delta():
            weight = weight.clone()
            delta.add_to(weight)
        return self.seen_as_nodes(weight)

    def select(self, nodes: dict[str, list[int]]) -> None:
        """Train these nodes from now on, by side. What others have learned stays as it is."""
        known = set(self.index.tolist())
        wanted = dict.fromkeys(self.first + node for side in nodes.values() for node in side)
        new = [at for at in wanted if at not in known]
        self.index = torch.cat([self.index, self.index.new_tensor(new)])
        zeros = self.values.new_zeros(len(new), self.values.shape[1])
        self.values = torch.cat([self.values.detach(), zeros]).requires_grad_()
        self.adam.grow(len(new))
        for side, numbers in nodes.items():
            rows = self.index.new_tensor([self.first + number for number in numbers])
            self.chosen[side] = torch.isin(self.index, rows)

    def added(self, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """The module's output with what training added, as a forward hook would have it."""
        x, values = args[0], self.values
        if self.kind == "keys":
            return out.index_add(-1, self.index, (x.to(values.dtype) @ values.mT).to(out.dtype))
        return out + (x[..., self.index].to(values.dtype) @ values).to(out.dtype)

    def delta(self) -> Slices | None:
        """What training changed of the weight; None where that is nothing."""
        values = self.values.detach()
        moved = (values != 0).any(1).nonzero()[:, 0]
        if not len(moved):
            return None
        rows, columns = self.view.weight(self.name).shape
        order = moved[self.index[moved].argsort()]
        axis = 0 if self.kind == "keys" else 1
        return Slices(axis, self.index[order].clone(), values[order].clone(), (rows, columns))


@dataclass(frozen=True, slots=True)
class Nodes:
    """All groups of some layers, keys before values."""

    view: "ModelView"
    groups: Sequence[Group]

    @classmethod
    def of(cls, view: "ModelView", layers: Sequence[int], *, legacy: bool) -> "Nodes":
        """Nothing is in training yet. Raises UnsupportedArchitecture."""
        kinds: tuple[Kind, Kind] = ("keys", "values")
        groups = [Group.of(view, n, kind, legacy=legacy) for n in layers for kind in kinds]
        return cls(view, groups)

    @contextmanager
    def live(self) -> Generator[None]:
        """Passes compute with what training added; nothing is on the model afterwards."""
        with ExitStack() as stack:
            for group in self.groups:
                if len(group.index):
                    hook = self.view.module(group.name).register_forward_hook(_hook(group))
                    stack.callback(hook.remove)
            yield

    def trace(
        self, chunks: Sequence[Lessons], kind: NodeScore
    ) -> Generator[Step, None, list[Tensor]]:
        """Scores [M] of the nodes of every group, by the gradient of the targets' loss over chunks.

        A weight's gradient is scored and let go as soon as the last pass backward reaches it; only
        while there are further chunks are sums of them kept.
        """
        scores: dict[str, Tensor] = {}
        sums: dict[str, Tensor] = {}
        done, total = 0, sum(map(len, chunks))

        def take(group: Group, leaf: Tensor, *, last: bool) -> None:
            assert leaf.grad is not None  # noqa: S101 - the hook is called for it
            gradient = leaf.grad.float() + sums.pop(group.name, 0)
            leaf.grad = None
            if last:
                weight = group.trained() if kind == "gradxparam" else None
                scores[group.name] = node_scores(kind, group.seen_as_nodes(gradient), weight)
            else:
                sums[group.name] = gradient

        for number, lessons in enumerate(chunks):
            leaves: dict[str, Tensor] = {}
            for group in self.groups:
                leaf = self.view.weight(group.name).detach().requires_grad_()
                last = number == len(chunks) - 1
                leaf.register_post_accumulate_grad_hook(
                    lambda leaf, group=group, last=last: take(group, leaf, last=last)
                )
                leaves[group.name] = leaf
            with torch.enable_grad(), self.view.computing_with(leaves), self.live():
                lessons.graded().nll.sum().backward(inputs=list(leaves.values()))
            done += len(lessons)
            yield Step("trace", done, total)
        return [scores[group.name] for group in self.groups]

    def select(self, chosen: Selection) -> None:
        """Train the nodes of a selection from now on."""
        for group, positive, negative in zip(
            self.groups, chosen.positive, chosen.negative, strict=True
        ):
            group.select({"positive": positive, "negative": negative})

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Of a loss that was computed while they were live, one [n, d] a group."""
        return list(torch.autograd.grad(loss, [group.values for group in self.groups]))

    def step(self, gradients: Sequence[Tensor], side: str, rates: Sequence[float]) -> None:
        """One step of Adam on the nodes of one side."""
        with torch.no_grad():
            for group, gradient, lr in zip(self.groups, gradients, rates, strict=True):
                group.adam.step(group.values, gradient, group.chosen[side], lr)

    def clamp(self, limits: Sequence[float]) -> None:
        """Bring every entry back to within +- its group's limit."""
        with torch.no_grad():
            for group, limit in zip(self.groups, limits, strict=True):
                group.values.clamp_(-limit, limit)

    def deviations(self) -> list[float]:
        """The standard deviation of each group's untouched weight."""
        return [float(self.view.master(group.name, State()).std()) for group in self.groups]

    def deltas(self) -> dict[str, Slices]:
        """What training changed, by weight."""
        found = {group.name: group.delta() for group in self.groups}
        return {name: delta for name, delta in found.items() if delta is not None}


def _hook(group: Group) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    return lambda _, args, out: group.added(args, out)
