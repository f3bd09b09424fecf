"""What happens to a down-projection's output on its way into the residual stream.

    x  [d_v, n]  what enters the step behind the write: the down-projection's output u, or in a
                 block that ends in a norm the residual stream and u together; W adds to it freely
    y  [d_v, n]  what comes out of that step and adds to the block's output (or is it)

In most models nothing happens and y = x. Where a norm follows, a residual in y cannot be written by
W as it is: y lies on an ellipsoid whatever x is. `before` says what x should become instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Directions that the norm shrinks to less than about this share of its mean gain are left alone:
# to move y along them x would have to move out of all proportion.
_WEAK = 0.1
_EPS = ("eps", "variance_epsilon", "epsilon")  # what norms call it


class Landing(Protocol):
    """The step behind the write of one layer; columns are keys, float64."""

    def __call__(self, x: Tensor) -> Tensor:
        """What x [d_v, n] becomes."""
        ...

    def before(self, base: Tensor, move: Tensor) -> Tensor:
        """An x near `base` for which y is `move` further than at `base`, as far as x can bring it.

        Without a move it is `base` itself, exactly.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scaled:
    """y = scale * x: the plain sum of most models, or Granite's multiplied one."""

    scale: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:  # noqa: D102 - see Landing
        return self.scale * x

    def before(self, base: Tensor, move: Tensor) -> Tensor:  # noqa: D102 - see Landing
        return base + move / self.scale


@dataclass(frozen=True, slots=True)
class Normed:
    """y = gain * x / rms(x) + bias, with the mean taken off x first where `centred`.

    gain, bias [d_v]. Only the direction of x matters to y, so x keeps its length.
    """

    gain: Tensor
    bias: Tensor
    centred: bool
    eps: float

    def __call__(self, x: Tensor) -> Tensor:  # noqa: D102 - see Landing
        flat = self._off_mean(x)
        return self.gain[:, None] * flat / self._rms(flat) + self.bias[:, None]

    def held(self, x: Tensor, like: Tensor) -> Tensor:
        """What x becomes where the norm divides by the size of `like` instead: linear in x."""
        return (
            self.gain[:, None] * self._off_mean(x) / self._rms(self._off_mean(like))
            + (self.bias[:, None])
        )

    def before(self, base: Tensor, move: Tensor) -> Tensor:
        """As in Landing: the move is divided by the gain, damped where that is weak.

        What would make x longer or shorter is taken out, since y would not hear of it.
        """
        flat = self._off_mean(base)
        rms = self._rms(flat)
        gain = self.gain[:, None]
        floor = _WEAK**2 * self.gain.square().mean()
        turned = flat / rms + self._off_mean(gain * move / (gain.square() + floor))
        turned = turned * (flat / rms).norm(dim=0) / turned.norm(dim=0).clamp(min=1e-12)
        return torch.where(move.any(0), base - flat + rms * turned, base)

    def _off_mean(self, x: Tensor) -> Tensor:
        return x - x.mean(0) if self.centred else x

    def _rms(self, x: Tensor) -> Tensor:
        return (x.square().mean(0) + self.eps).sqrt()


def normed_of(norm: Callable[[Tensor], Tensor], d_model: int, like: Tensor) -> Normed | None:
    """The formula of a norm, found by asking it; None where it is neither RMS nor layer norm.

    like: any weight of the model, for the format and device that the norm wants to be asked in.
    """
    signs = torch.ones(d_model, dtype=like.dtype, device=like.device)
    signs[1::2] = -1  # no mean, and a root mean square of one: any such norm leaves it alone
    above, below = norm(signs[None])[0].double(), norm(-signs[None])[0].double()
    gain, bias = (above - below) / 2 * signs.double(), (above + below) / 2
    eps = next((float(getattr(norm, name)) for name in _EPS if hasattr(norm, name)), 1e-6)
    gain = gain * (1 + eps) ** 0.5
    x = torch.linspace(-1, 2, d_model, dtype=like.dtype, device=like.device) ** 3
    answer = norm(x[None])[0].double()
    close = 0.02 * answer.abs().max()  # half precision rounds, another formula is far off
    for centred in (False, True):
        found = Normed(gain, bias, centred, eps)
        if bool(((found(x.double()[:, None])[:, 0] - answer).abs() <= close).all()):
            return found
    return None
