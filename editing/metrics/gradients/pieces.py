"""From what was heard in one piece of a pass to the terms of each part's gradient.

A matrix gives outer products, a table rows that were looked up, and whatever works on each entry by
itself (a norm's gain, a bias) one vector a fact. What a gain is multiplied with is found by asking
its module anew, so that no family's norm is spelled out here. Any other module is refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from editing.model.partial import by_row

from .heard import Args, Use
from .scope import Part, Scope, refused
from .terms import Looked, Outer, Term, Whole

if TYPE_CHECKING:
    from editing.model.view import ModelView

Terms = dict[tuple[Part, str], Term]  # the text tells terms of one part apart

_LINEAR = (nn.Linear.forward, Conv1D.forward)
_ROUNDED = {torch.float32: 1e-4, torch.float64: 1e-4}  # of a formula in other formats: 0.05


@dataclass(frozen=True, slots=True)
class Places:
    """Which entries of the activations of one piece belong to which fact.

    mask [B, S]: the tokens of each row, where activations are [B, S, d]; None where they are
    [P, d]. owner [P]: the fact of each token. facts [B]: all of them, in order.
    """

    mask: Tensor | None
    owner: Tensor
    facts: Tensor

    def tokens(self, activation: Tensor) -> Tensor | None:
        """An activation's rows [P, d] in float32; None where it is not laid out by token."""
        if self.mask is None:
            fits = activation.dim() == 2 and len(activation) == len(self.owner)  # noqa: PLR2004
            return activation.detach().float() if fits else None
        laid = self._by_row(activation.detach(), self.mask)
        return laid[self.mask].float() if laid.shape[:2] == self.mask.shape else None

    def by_fact(self, entries: Tensor, dims: int) -> Tensor | None:
        """Entries [..., *p] added up for each fact: [facts, p], p being the last `dims` sizes."""
        flat = entries.detach().float().flatten(entries.dim() - dims)
        if self.mask is not None:
            flat = self._by_row(flat, self.mask)
            fits = len(flat) == len(self.mask) and flat.dim() > 2  # noqa: PLR2004
            return flat.flatten(1, -2).sum(1) if fits else None
        if len(flat) != len(self.owner):
            return None
        own = self.owner - self.facts[0]
        return flat.new_zeros(len(self.facts), flat.shape[-1]).index_add_(0, own, flat)

    @staticmethod
    def _by_row(activation: Tensor, mask: Tensor) -> Tensor:
        """OPT's MLP sees the tokens of all rows in one line."""
        flat = activation.dim() == 2 and len(activation) == mask.numel()  # noqa: PLR2004
        return by_row(activation, len(mask)) if flat else activation


@dataclass(slots=True)
class Collector:
    """Makes terms of uses, and keeps account of which parameters were used, and where."""

    view: "ModelView"
    scope: Scope
    used: dict[str, str] = field(default_factory=dict[str, str])  # parameter: the module's path
    _names: dict[int, str] = field(init=False)
    _owners: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        model = self.view.model
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._owners = {
            path: module
            for path, module in model.named_modules(remove_duplicate=False)
            if any(self._name(p) in self.scope.parts for p in module._parameters.values())  # noqa: SLF001
        }

    def modules(
        self, prefixes: Sequence[str], *, without: Sequence[str] = ()
    ) -> dict[str, nn.Module]:
        """The modules at or below these paths that own a parameter of the scope."""
        return {
            path: module
            for path, module in self._owners.items()
            if any(_below(path, prefix) for prefix in prefixes)
            and not any(_below(path, prefix) for prefix in without)
        }

    def terms(self, uses: Sequence[Use], gradients: Sequence[Tensor | None], at: Places) -> Terms:
        """The terms of one piece of one batch. Raises UnsupportedArchitecture."""
        found: Terms = {}
        outers: dict[tuple[Part, int], list[tuple[Use, Tensor]]] = {}
        vectors: dict[Part, list[Tensor]] = {}
        here: set[str] = set()
        for use, given in zip(uses, gradients, strict=True):
            gradient = torch.zeros_like(use.leaving) if given is None else given
            self._note(use, here)
            if isinstance(use.entering, Tensor):
                self._add_lookup(found, use, gradient, at)
            elif _linear(use):
                weight = self._part(use, "weight")
                if weight is not None:
                    outers.setdefault((weight, id(use.entered)), []).append((use, gradient))
                bias = self._part(use, "bias")
                if bias is not None:
                    vectors.setdefault(bias, []).append(self._summed(use, gradient, 1, at))
            else:
                for part, vector in self._entrywise(use, gradient, at):
                    vectors.setdefault(part, []).append(vector)
        for (part, _), group in outers.items():
            entered = self._tokens(group[0][0], group[0][0].entered, at)
            answers = [self._tokens(use, gradient, at) for use, gradient in group]
            found[part, group[0][0].path] = Outer(at.owner, torch.cat(answers, dim=1), entered)
        for part, columns in vectors.items():
            found[part, "vectors"] = Whole(at.facts, torch.cat(columns, dim=1))
        return found

    def _add_lookup(self, found: Terms, use: Use, gradient: Tensor, at: Places) -> None:
        part = self._part(use, "weight")
        ids = use.entered
        same = at.mask is not None and ids.shape == at.mask.shape
        if part is None or not same:
            raise refused(self.view, use.path, "what is looked up in it is not laid out by token")
        flat = ids[at.mask]
        rows = self._tokens(use, gradient, at)
        skipped = getattr(use.module, "padding_idx", None)  # a row that autograd never moves
        if skipped is not None:
            rows = rows * (flat != skipped)[:, None]
        found[part, use.path] = Looked(at.owner, flat, rows)

    def _entrywise(self, use: Use, gradient: Tensor, at: Places) -> list[tuple[Part, Tensor]]:
        """The gradients of parameters that are multiplied with, or added to, entry by entry."""
        asked = _Asked(use)
        why = asked.refusal()
        if why:
            raise refused(self.view, use.path, why)
        found: list[tuple[Part, Tensor]] = []
        for name, parameter in use.parameters():
            part = self._part(use, name)
            if part is not None:
                moved = gradient * asked.slopes[name]
                found.append((part, self._summed(use, moved, parameter.dim(), at)))
        return found

    def _tokens(self, use: Use, activation: Tensor, at: Places) -> Tensor:
        found = at.tokens(activation)
        if found is None:
            raise refused(self.view, use.path, "its activations are not laid out by token")
        return found

    def _summed(self, use: Use, entries: Tensor, dims: int, at: Places) -> Tensor:
        found = at.by_fact(entries, dims)
        if found is None:
            raise refused(self.view, use.path, "its activations are not laid out by text")
        return found

    def _part(self, use: Use, own: str) -> Part | None:
        parameter = use.module._parameters.get(own)  # noqa: SLF001 - None where there is none
        return None if parameter is None else self.scope.parts.get(self._name(parameter))

    def _name(self, parameter: nn.Parameter | None) -> str:
        return self._names.get(id(parameter), "")

    def _note(self, use: Use, here: set[str]) -> None:
        """Refuse a parameter whose terms would have to be multiplied with those of elsewhere."""
        for _, parameter in use.parameters():
            name = self._name(parameter)
            tied = {name} <= {self._name(m._parameters.get("weight")) for m in self._ends()}  # noqa: SLF001
            before = self.used.setdefault(name, use.path)
            if name in here or (before != use.path and not tied):
                raise refused(self.view, name, "it is used more than once in a pass")
            here.add(name)

    def _ends(self) -> list[nn.Module]:
        """The two modules that may share a weight: what tokens enter, and the head."""
        head = self.view.model.get_submodule(self.view.layout.head)
        return [self.view.model.get_input_embeddings(), head]


class _Asked:
    """What a module makes of its input when its parameters are set to 0, and each in turn to 1."""

    def __init__(self, use: Use) -> None:
        self.use = use
        self.parts = dict(use.parameters())
        self.slopes: dict[str, Tensor] = {}
        self.near = False
        if next(use.module.children(), None) is None:
            self._ask()

    @torch.no_grad()
    def _ask(self) -> None:
        args, named = cast("Args", self.use.entering)
        nothing = {name: torch.zeros_like(p) for name, p in self.parts.items()}

        def out(changed: Mapping[str, Tensor]) -> Tensor:
            return functional_call(self.use.module, {**nothing, **changed}, args, dict(named))

        empty = out({})
        whole = empty
        for name, parameter in self.parts.items():
            if empty.shape[-parameter.dim() :] != parameter.shape:
                return
            self.slopes[name] = out({name: torch.ones_like(parameter)}) - empty
            whole = whole + parameter * self.slopes[name]
        close = _ROUNDED.get(whole.dtype, 0.05)
        self.near = float((whole - self.use.leaving).norm()) <= close * float(whole.norm())

    def refusal(self) -> str | None:
        """Why this is no module of gains and biases; None where it is."""
        return None if self.near else "it belongs to a module of another kind than is known here"


def _linear(use: Use) -> bool:
    """Whether a module answers as a plain linear layer does; families write their own."""
    if type(use.module).forward in _LINEAR:
        return True
    if not isinstance(use.module, nn.Linear):
        return False
    with torch.no_grad():
        plain = nn.functional.linear(use.entered, use.module.weight, use.module.bias)
    return bool(torch.allclose(plain, use.leaving.to(plain.dtype), rtol=1e-2, atol=1e-4))


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.") or not prefix
