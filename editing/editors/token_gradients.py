"""The gradient of a text's loss in its raw form: for each matrix, one rank-one term a token.

    - dL/dW = sum over tokens t of  delta_t u_tT

u_t is what enters the matrix at token t and delta_t the direction in which its answer there should
move for the loss to fall: the negative gradient with respect to the answer. Both are read in one
backward pass through the blocks from the lowest such matrix on; no weight's gradient is formed.
Every token has a term (`token_gradients`), or only those at which the target is predicted are asked
for (`target_gradients`).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from editing.model.partial import by_row

if TYPE_CHECKING:
    from editing.model.view import ModelView

    from .lessons import Lessons


@dataclass(frozen=True, slots=True)
class TokenGradient:
    """The tokens at which a matrix is asked to answer otherwise, float32.

    u     [t, d_in]   what enters the matrix
    delta [t, d_out]  which way its answer should move
    """

    u: Tensor
    delta: Tensor

    @classmethod
    def of(cls, u: Tensor, gradient: Tensor) -> "TokenGradient":
        """From all tokens of a batch; those without gradient (padding among them) are dropped."""
        u, delta = u.detach().flatten(0, -2).float(), -gradient.flatten(0, -2).float()
        kept = (u != 0).any(1) & (delta != 0).any(1)
        return cls(u[kept], delta[kept])

    def then(self, more: "TokenGradient") -> "TokenGradient":
        """The tokens of both."""
        return TokenGradient(torch.cat([self.u, more.u]), torch.cat([self.delta, more.delta]))

    def matrix(self) -> Tensor:
        """The whole negative gradient [d_out, d_in], for tests and reports."""
        return self.delta.mT @ self.u


def token_gradients(
    view: "ModelView", lessons: "Lessons", names: Sequence[str]
) -> tuple[dict[str, TokenGradient], float]:
    """Token gradients of each named matrix for the summed losses of `lessons`, and the mean loss.

    A sum, so that what a text asks for does not depend on which others stand beside it.
    """
    passed, loss = _passed(view, lessons, names)
    return {name: TokenGradient.of(*one) for name, one in passed.items()}, loss


def target_gradients(
    view: "ModelView", lessons: "Lessons", names: Sequence[str]
) -> tuple[dict[str, TokenGradient], float]:
    """The same of the tokens at which a target is predicted, text after text; none is dropped.

    Raises NumericOverflow where the pass left the range of the format that the model serves in.
    """
    passed, loss = _passed(view, lessons, names)
    row, at = lessons.where.unbind(1)
    found: dict[str, TokenGradient] = {}
    for name, (u, gradient) in passed.items():
        u, gradient = (by_row(part, len(lessons))[row, at].float() for part in (u, gradient))  # noqa: PLW2901
        for part in (u, gradient):
            view.require_finite(part, f"What {name} is asked")
        found[name] = TokenGradient(u.detach(), -gradient)
    return found, loss


def _passed(
    view: "ModelView", lessons: "Lessons", names: Sequence[str]
) -> tuple[dict[str, tuple[Tensor, Tensor]], float]:
    """What entered each matrix, and the gradient of its answers; the mean loss."""
    with torch.enable_grad(), _hearing(view, names) as (entered, answered):
        # No parameter wants a gradient: what enters the lowest block carries it.
        hidden = lessons.paused.hidden.detach().requires_grad_()
        graded = replace(lessons, paused=replace(lessons.paused, hidden=hidden)).graded()
        gradients = torch.autograd.grad(graded.nll.sum(), [answered[name] for name in names])
    found = {
        name: (entered[name], gradient) for name, gradient in zip(names, gradients, strict=True)
    }
    return found, float(graded.nll.detach().mean())


@contextmanager
def _hearing(
    view: "ModelView", names: Sequence[str]
) -> Generator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Take down what enters and what leaves the matrices during one pass."""
    entered: dict[str, Tensor] = {}
    answered: dict[str, Tensor] = {}

    def listener(name: str):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            entered[name], answered[name] = args[0], out

        return hook

    hooks = [view.module(name).register_forward_hook(listener(name)) for name in names]
    try:
        yield entered, answered
    finally:
        for hook in hooks:
            hook.remove()
