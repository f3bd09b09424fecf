"""Integrated gradients: how much each neuron of a layer adds to the probability of a text.

    attr_j = k_j / S * sum over s = 1..S of dP(o | k := s/S k) / dk_j

at the last token of a question, with k the whole key of a layer, so that over a layer's neurons
they add up to P(o) - P(o | k := 0) as S grows. A text of several tokens is fed token by token, and
its tokens' attributions are added. All points of a path run side by side, and of them only what
lies behind the key: earlier positions and lower layers do not depend on the point.

A norm behind the write (Gemma) hears only its direction, so that P would not change along the path;
there the norm goes on dividing by the size of the whole write. The sum stays what it is.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from editing.model.landing import Normed
from editing.model.partial import Paused, pause_after
from editing.model.tokens import Continuation
from editing.step import Step

if TYPE_CHECKING:
    from editing.model.view import ModelView

_ROWS = 512  # points of paths run side by side


def attributions(
    view: "ModelView", rows: Sequence[Continuation], layers: Sequence[int], steps: int
) -> Generator[Step, None, Tensor]:
    """Integrated gradients [rows, layers, d_key] of P(target) for every neuron of some layers."""
    paths = [
        _Path(number, row.ids[: row.start + at], token)
        for number, row in enumerate(rows)
        for at, token in enumerate(row.targets)
    ]
    side = max(1, _ROWS // steps)
    chunks = [paths[start : start + side] for start in range(0, len(paths), side)]
    found = torch.zeros(len(rows), len(layers), view.facts.d_key, device=view.device)
    for done, chunk in enumerate(chunks):
        walk = _Walk.of(view, chunk, steps, layers[0])
        for layer in range(layers[0], layers[-1] + 1):
            key, above = walk.key()
            if layer in layers:
                owner = torch.tensor([path.row for path in chunk], device=view.device)
                found[:, layers.index(layer)].index_add_(0, owner, walk.integrated(key))
            walk.paused = above
            at = done * len(layers) + sum(one <= layer for one in layers)
            yield Step("trace", at, len(chunks) * len(layers))
    return found


@dataclass(frozen=True, slots=True)
class _Path:
    """One token of one row's target, asked for behind what stands before it."""

    row: int
    ids: list[int]
    token: int


@dataclass(slots=True)
class _Walk:
    """Some paths on their way up, each `steps` times side by side, halted at their last token."""

    view: "ModelView"
    paused: Paused  # [paths * steps, 1, d_model]
    tokens: Tensor  # [paths]
    steps: int

    @classmethod
    def of(cls, view: "ModelView", chunk: Sequence[_Path], steps: int, first: int) -> "_Walk":
        ids = [path.ids for path in chunk]
        last = [len(one) - 1 for one in ids]
        paused = pause_after(view, ids, last, first=first, stop=len(view.blocks))
        copies = torch.arange(len(ids), device=view.device).repeat_interleave(steps)
        tokens = torch.tensor([path.token for path in chunk], device=view.device)
        return cls(view, paused.rows(copies), tokens, steps)

    @torch.no_grad()
    def key(self) -> tuple[Tensor, Paused]:
        """The keys [paths, d_key] of the layer at which it is halted, and the walk above it."""
        heard: list[Tensor] = []

        def hear(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            heard.append(args[0])

        with self._before_the_write(hear):
            above = self.paused.advanced()
        return heard[0].reshape(-1, self.view.facts.d_key)[:: self.steps].float(), above

    @torch.enable_grad()
    def integrated(self, key: Tensor) -> Tensor:
        """k_j times the mean over the path's points of dP / dk_j: [paths, d_key]."""
        layer = self.paused.first
        share = torch.arange(1, self.steps + 1, device=key.device) / self.steps
        points = (
            (key[:, None] * share[:, None]).flatten(0, 1).requires_grad_()
        )  # [paths * S, d_key]

        def replace(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (points.view(args[0].shape).to(args[0].dtype), *args[1:])

        with self._before_the_write(replace), _norm_held(self.view, layer, self.steps):
            out = self.paused.run()
        wanted = self.tokens.repeat_interleave(self.steps)
        likely = self.view.logits(out[:, 0]).softmax(-1).gather(1, wanted[:, None])
        (gradient,) = torch.autograd.grad(likely.sum(), points)
        return key * gradient.unflatten(0, (-1, self.steps)).mean(1)

    @contextmanager
    def _before_the_write(self, hook: object) -> Generator[None]:
        name = self.view.down_proj(self.paused.first)
        handle = self.view.module(name).register_forward_pre_hook(hook)  # pyright: ignore[reportArgumentType]
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def _norm_held(view: "ModelView", layer: int, steps: int) -> Generator[None]:
    """The norm behind a layer's write divides by the size of each path's last point, the whole key.

    A norm that hears more than the write (opt-350m's) is left alone: there the path counts.
    """
    norm, landing = view.post_norm(layer), view.landing(layer)
    if norm is None or not isinstance(landing, Normed):
        yield
        return
    written: list[Tensor] = []

    def hear(_: nn.Module, __: object, out: Tensor) -> None:
        written.append(out)

    def hold(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if not torch.equal(args[0].flatten(), written[0].flatten()):
            return out
        x = args[0].reshape(-1, out.shape[-1]).mT.double()  # columns are points
        whole = x.detach()[:, steps - 1 :: steps].repeat_interleave(steps, dim=1)
        return landing.held(x, whole).mT.view(out.shape).to(out.dtype)

    handles = [
        view.module(view.down_proj(layer)).register_forward_hook(hear),
        norm.register_forward_hook(hold),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
