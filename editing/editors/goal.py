"""What a band of layers is to bring about, and each write's share of it. Columns are keys.

at_the_block     MEMIT: block L is to answer h + d; every write takes its share of what is missing
                 in the residual stream
at_the_modules   PMET: the modules of layer L are to answer v + d; every layer is asked for what is
                 missing there by the root of the layers left
under_the_moves  RaKE's attention: block L is to answer what it does when its modules are moved

Where a norm follows a write, d is added before it and R is what brings about its share behind it
(docs/decisions/0012).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from editing.stats.store import SiteKind

from .keys import KeyReader, Reading
from .site import Spot

if TYPE_CHECKING:
    from editing.model.view import ModelView


class Goal(Protocol):
    """What is still missing, as a change of what one weight answers."""

    def residual(self, spot: Spot, reading: Reading, left: int) -> Tensor:
        """R [d_v, n] at a spot, when `left` writes are left with this one."""
        ...


# (view, reader at the lowest layer, moves [n, kinds, d_v], kinds) -> the goal
MakeGoal = Callable[["ModelView", KeyReader, Tensor, tuple[SiteKind, ...]], Goal]


@dataclass(frozen=True, slots=True)
class AtTheBlock:
    """What block L is to answer.

    entering [d_v, n]: what is to enter the step behind the last layer's write; hidden [d_v, n]:
    what the block answers then; rest [d_v, n]: the part of it that is not layer L's write.
    """

    view: "ModelView"
    last: int
    entering: Tensor
    hidden: Tensor
    rest: Tensor

    def residual(self, spot: Spot, reading: Reading, left: int) -> Tensor:
        """What this layer is asked for: its share, and the last layer all that is missing."""
        _, layer = spot
        landing = self.view.landing(layer)
        if layer == self.last:
            # What lower layers brought is in `rest` now, and no longer wanted of this one.
            rest = reading.hidden - landing(reading.last)
            return landing.before(self.entering, self.rest - rest) - reading.last
        missing = (self.hidden - reading.hidden) / left
        return landing.before(reading.entering, missing) - reading.entering


def at_the_block(
    view: "ModelView", reader: KeyReader, moves: Tensor, _: tuple[SiteKind, ...]
) -> Goal:
    """R = (H_0 + d - H) / (layers left), in the residual stream behind block L."""
    reading, last = reader.read(), reader.stop - 1
    landing = view.landing(last)
    entering = reading.last + moves[:, 0].mT.double()
    rest = reading.hidden - landing(reading.last)
    return AtTheBlock(view, last, entering, rest + landing(entering), rest)


@dataclass(frozen=True, slots=True)
class _Modules:
    """wanted [d_v, n]: what each kind of module is to answer in the last layer."""

    wanted: dict[SiteKind, Tensor]
    kinds: int  # written in every layer

    def residual(self, spot: Spot, reading: Reading, left: int) -> Tensor:
        kind, _ = spot
        layers_left = -(-left // self.kinds)
        return (self.wanted[kind] - reading.last_values) / layers_left**0.5


def at_the_modules(written: tuple[SiteKind, ...]) -> MakeGoal:
    """R = (V_0 + d - V) / root of the layers left, V what the modules of layer L answer."""

    def make(_: "ModelView", reader: KeyReader, moves: Tensor, kinds: tuple[SiteKind, ...]) -> Goal:
        wanted: dict[SiteKind, Tensor] = {
            kind: reader.read(kind).last_values + moves[:, number].mT.double()
            for number, kind in enumerate(kinds)
        }
        return _Modules(wanted, len(written))

    return make


@dataclass(frozen=True, slots=True)
class _Hidden:
    """hidden [d_v, n]: what block L is to answer."""

    view: "ModelView"
    hidden: Tensor

    def residual(self, spot: Spot, reading: Reading, left: int) -> Tensor:
        kind, layer = spot
        missing = (self.hidden - reading.hidden) / left
        landing = self.view.landing(layer, kind)
        return landing.before(reading.entering, missing) - reading.entering


def under_the_moves(
    view: "ModelView", reader: KeyReader, moves: Tensor, kinds: tuple[SiteKind, ...]
) -> Goal:
    """R = (Z - H) / (writes left), Z what block L answers with its modules moved."""
    return _Hidden(view, reader.moved(kinds, moves))
