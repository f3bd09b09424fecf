"""The one door between an editor and the weights."""

import re
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from editing.catalogue import Matrix
from editing.delta import Delta, Memory, Preface
from editing.errors import NumericOverflow, TextTooLong, UnsupportedArchitecture
from editing.stats.store import SiteKind, StatsStore
from editing.tuned import ModelFacts

from .automap import mapped
from .calls import Place, per_text
from .fingerprint import beside, combine, memory_digest, tensor_digest, text_digest
from .head import shaped
from .landing import Landing, Scaled, normed_of
from .layout import Layout, known_layout
from .recall import recalling
from .rehearsal import rehearse
from .state import State
from .tokens import encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


_LIMITS = ("max_position_embeddings", "max_seq_len")  # what configs call the room for tokens


class ModelView:
    """A causal language model seen as layers of linear memories.

    Weights are always spoken of as [d_out, d_in], whatever the checkpoint stores (GPT-2 keeps them
    transposed). The served weights change only by `showing`, which puts them back, and by `adopt`;
    so do the memories beside them, which are hooks of the modules that own the weights.
    A model whose parts cannot be told apart raises UnsupportedArchitecture.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerFast",
        *,
        name: str = "model",
        stats_folder: Path | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self.name = name
        known = known_layout(model.config)
        self.layout: Layout = known or mapped(model)
        self.blocks: nn.ModuleList = model.get_submodule(self.layout.blocks)  # type: ignore[assignment]
        self.body = model.get_submodule(self.layout.body)
        self.current = State()
        self._parameters = dict(model.named_parameters())
        self._base: dict[str, Tensor] = {}  # served base tensors of weights that were ever changed
        self._recalling: dict[str, tuple[Memory, torch.utils.hooks.RemovableHandle]] = {}
        self.stats = StatsStore(stats_folder)
        self.remembered: dict[str, Tensor] = {}  # what was measured on the untouched model
        if known is None:
            rehearse(self)

    # ---- what the model is -----------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The format the model serves in."""
        return self.model.dtype

    @cached_property
    def facts(self) -> ModelFacts:
        """What the choice of hparams depends on."""
        d_model, d_key = self._shape_of(self.down_proj(0))
        model_type = self.model.config.model_type
        normed = self.layout.post_norm is not None
        return ModelFacts(model_type, len(self.blocks), d_model, d_key, normed)

    @property
    def info(self) -> dict[str, object]:
        """The model in a few JSON values, for reports."""
        return {
            "name": self.name,
            "model_type": self.facts.model_type,
            "layers": self.facts.layers,
            "d_model": self.facts.d_model,
            "d_key": self.facts.d_key,
            "parameters": sum(p.numel() for p in self._parameters.values()),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
        }

    @property
    def positions(self) -> int | None:
        """How many tokens the model has room for; None where nothing bounds it."""
        config = self.model.config.get_text_config()
        limits = (getattr(config, name, None) for name in _LIMITS)
        return next((limit for limit in limits if isinstance(limit, int)), None)

    def require_fits(self, tokens: int) -> None:
        """Raise TextTooLong where the model has no position for so many tokens."""
        if self.positions is not None and tokens > self.positions:
            preface = self.current.preface
            size = len(encode(self.tokenizer, preface)) if preface else 0
            raise TextTooLong(tokens=tokens, limit=self.positions, preface=size)

    # ---- weights ---------------------------------------------------------------------------------

    def down_proj(self, layer: int) -> str:
        """Name of the edited weight of a layer."""
        return self._inside(layer, self.layout.down_proj)

    def attention_out(self, layer: int) -> str:
        """Name of the weight that writes a layer's attention into the residual stream."""
        return self._inside(layer, self.layout.attention_out)

    def written_at(self, layer: int, site: SiteKind) -> str:
        """Name of the weight that writes a layer's MLP or its attention; of what the MLP reads."""
        if site == "mlp_in":
            return self.up_proj(layer)
        return self.down_proj(layer) if site == "mlp" else self.attention_out(layer)

    def up_proj(self, layer: int) -> str:
        """Name of the weight whose rows make a layer's keys, one each (behind a gate's, if fused).

        Raises UnsupportedArchitecture where inspection found none.
        """
        if self.layout.up_proj is None:
            why = "no single matrix was found that makes the entries of its keys."
            raise UnsupportedArchitecture(self.facts.model_type, why=why)
        return self._inside(layer, self.layout.up_proj)

    def gate_proj(self, layer: int) -> str | None:
        """Name of the weight that gates a layer's keys, where that is a matrix of its own."""
        gate = self.layout.gate_proj
        return None if gate is None else self._inside(layer, gate)

    def attention_in(self, layer: int) -> list[str]:
        """Names of the weights that make a layer's queries and values (or all, where fused)."""
        return [self._inside(layer, path) for path in self.layout.attention_in]

    def matrices(self, layer: int, kind: Matrix) -> list[str]:
        """Names of a layer's weights of one kind; none where the architecture has none."""
        if kind == "attention_in":
            return self.attention_in(layer)
        path = getattr(self.layout, kind)
        return [] if path is None else [self._inside(layer, path)]

    def _inside(self, layer: int, path: str) -> str:
        return f"{self.layout.blocks}.{layer}.{path}.weight"

    def module(self, weight: str) -> nn.Module:
        """The module that owns a weight."""
        return self.model.get_submodule(weight.removesuffix(".weight"))

    def weight(self, name: str) -> Tensor:
        """A served weight, seen as [d_out, d_in]."""
        served = self._parameters[name].data
        return served.T if self._transposed(name) else served

    def master(self, name: str, state: State | None = None) -> Tensor:
        """The float32 value [d_out, d_in] of a weight in a state (the current one by default)."""
        state = state or self.current
        if name in state.masters:
            return state.masters[name]
        base = self._base_tensor(name)
        return (base.T if self._transposed(name) else base).float()

    def after(self, deltas: Mapping[str, Delta], start: State | None = None) -> State:
        """The state `start` (the current one by default) with `deltas` added. Changes nothing."""
        start = start or self.current
        masters = dict(start.masters)
        memories = dict(start.memories)
        preface = start.preface
        for name, delta in deltas.items():
            if isinstance(delta, Preface):
                preface += delta.text
                continue
            if isinstance(delta, Memory):
                memories[name] = _grown(start.memories.get(name), delta.to(self.device))
                continue
            master = self.master(name, start).clone(memory_format=torch.contiguous_format)
            delta.add_to(master)
            masters[name] = master
        same = [name for name in start.masters if masters[name] is start.masters[name]]
        known = same + [beside(n) for n in memories if memories[n] is start.memories.get(n)]
        return State(
            masters,
            {name: start.served[name] for name in same if name in start.served},
            {name: start.digests[name] for name in known if name in start.digests},
            preface,
            {name: memory for name, memory in memories.items() if len(memory)},
        )

    @contextmanager
    def showing(self, state: State) -> Generator[None]:
        """The model as if `state` were served. Afterwards, bit for bit what it was."""
        before = self.current
        self.adopt(state)
        try:
            yield
        finally:
            self.adopt(before)

    def overlaid(self, deltas: Mapping[str, Delta]) -> AbstractContextManager[None]:
        """The current state with `deltas` on top, for the length of a `with`."""
        return self.showing(self.after(deltas))

    @contextmanager
    def computing_with(self, tensors: Mapping[str, Tensor]) -> Generator[None]:
        """Passes use these tensors [d_out, d_in] for the weights of these names; gradients flow in.

        The weights themselves are not touched, and are in place again afterwards. A tensor may be
        float32 whatever the model serves in; what its masters are, training copies should be.
        """
        before: dict[str, nn.Parameter] = {}
        try:
            for name, tensor in tensors.items():
                owned = self.module(name)._parameters  # noqa: SLF001 - as functional_call does
                before[name] = owned["weight"]  # pyright: ignore[reportArgumentType]
                oriented = tensor.T if self._transposed(name) else tensor
                owned["weight"] = oriented.to(self.device, self.dtype)  # pyright: ignore[reportArgumentType]
            yield
        finally:
            for name, weight in before.items():
                self.module(name)._parameters["weight"] = weight  # noqa: SLF001

    def adopt(self, state: State) -> None:
        """Serve `state` from now on. Swaps tensors, copies nothing that was served before.

        All or nothing: what may fail (a cast on a full device) comes before the first swap.
        """
        names = {*self.current.masters, *state.masters}
        for name in names:
            self._base_tensor(name)  # remember base before it is first replaced
        served = {name: self._served(name, state) for name in names}
        for name, tensor in served.items():
            self._parameters[name].data = tensor
        before, self.current = self.current, state
        for name in {*before.memories, *state.memories}:
            if before.memories.get(name) is not state.memories.get(name):
                self._recall(name, state.memories.get(name))

    def _recall(self, name: str, memory: Memory | None) -> None:
        """Have a memory stand beside a weight, or none."""
        if name in self._recalling:
            self._recalling.pop(name)[1].remove()
        if memory is not None:
            # The first of the module's hooks, so that all others see what the layer writes.
            hook = self.module(name).register_forward_hook(recalling(memory), prepend=True)
            self._recalling[name] = memory, hook

    def _served(self, name: str, state: State) -> Tensor:
        if name not in state.masters:
            return self._base[name]
        if name not in state.served:
            master = state.masters[name]
            oriented = master.T if self._transposed(name) else master
            served = oriented.to(self.device, self.dtype).contiguous()
            if self.dtype == torch.float16:  # the others hold whatever a finite master is
                self.require_finite(served, f"The weight {name}")
            state.served[name] = served
        return state.served[name]

    def require_finite(self, tensor: Tensor, what: str) -> None:
        """Raise NumericOverflow where `what` left the range of the format the model serves in."""
        if not bool(tensor.isfinite().all()):
            raise NumericOverflow(what, dtype=str(self.dtype).removeprefix("torch."))

    def _base_tensor(self, name: str) -> Tensor:
        if name not in self._base:
            self._base[name] = self._parameters[name].data
        return self._base[name]

    def _transposed(self, name: str) -> bool:
        # By the module's type, never by shape: a square matrix looks the same both ways.
        return isinstance(self.module(name), Conv1D)

    def _shape_of(self, name: str) -> tuple[int, int]:
        rows, columns = self.weight(name).shape
        return rows, columns

    # ---- fingerprints ----------------------------------------------------------------------------

    def fingerprint(self, state: State | None = None) -> str:
        """A name for all weights as served in `state`, made of their bits alone."""
        state = state or self.current
        digests = dict(self._base_digests)
        for name in state.masters:
            if name not in state.digests:
                self._base_tensor(name)
                state.digests[name] = tensor_digest(self._served(name, state))
            digests[name] = state.digests[name]
        for name, memory in state.memories.items():
            if beside(name) not in state.digests:
                state.digests[beside(name)] = memory_digest(memory)
            digests[beside(name)] = state.digests[beside(name)]
        return combine(digests | text_digest(state.preface))

    @cached_property
    def _base_digests(self) -> dict[str, str]:
        tensors = {name: self._base.get(name, p.data) for name, p in self._parameters.items()}
        return {name: tensor_digest(tensor) for name, tensor in tensors.items()}

    def audit(self, *, everything: bool = True) -> str:
        """The fingerprint of the bits that lie in the weights now, not of what they should be.

        everything=False reads only the weights that were ever changed and trusts the others to be
        as they were when first read.
        """
        digests = {} if everything else dict(self._base_digests)
        for name in self._parameters if everything else self._base:
            digests[name] = tensor_digest(self._parameters[name].data)
        for name, (memory, _) in self._recalling.items():
            digests[beside(name)] = memory_digest(memory)
        return combine(digests | text_digest(self.current.preface))

    # ---- running ---------------------------------------------------------------------------------

    def asked(self, prompt: str) -> str:
        """What the model is asked for a prompt in the state it serves: the preface, then it."""
        return self.current.preface + prompt

    def head(self, normed: Tensor) -> Tensor:
        """The body's output [..., d_model] to float32 logits [..., vocabulary]."""
        output: Tensor = self.model.get_submodule(self.layout.head)(normed)
        return shaped(output, self.model.config, self.layout.shaping).float()

    def logits(self, hidden: Tensor) -> Tensor:
        """The last block's output [..., d_model], before the final norm, to logits."""
        for path in self.layout.tail:
            if step := _module_at(self.model, path):
                hidden = step(hidden)
        return self.head(hidden)

    @cached_property
    def per_text(self) -> Mapping[Place, int]:
        """How many entries each argument of a block has for one row of a batch."""
        return per_text(self)

    # ---- between the edited weight and the residual stream ---------------------------------------

    @property
    def direct(self) -> bool:
        """Whether a down-projection's output is added to the residual stream as it is."""
        return self.layout.post_norm is None and self.layout.write_scale == 1

    def post_norm(self, layer: int, site: SiteKind = "mlp") -> nn.Module | None:
        """The norm behind a write of a layer, None where there is none."""
        behind = {"mlp": self.layout.post_norm, "attention": self.layout.attention_post_norm}
        path = behind.get(site)
        return None if path is None else self.blocks[layer].get_submodule(path)

    def landing(self, layer: int, site: SiteKind = "mlp") -> Landing:
        """What a layer's write meets before it counts. Raises UnsupportedArchitecture."""
        norm = self.post_norm(layer, site)
        if norm is None:
            mlp = site == "mlp"
            return Scaled(self.layout.write_scale if mlp else self.layout.attention_scale)
        with torch.no_grad():
            like = self.weight(self.written_at(layer, site))
            found = normed_of(norm, self.facts.d_model, like)
        if found is None:
            why = "what stands behind the write is no RMS or layer norm."
            raise UnsupportedArchitecture(self.facts.model_type, why=why)
        return found


def _grown(memory: Memory | None, delta: Memory) -> Memory:
    """The entries of a state with those that come and without those that go."""
    return (delta if memory is None else memory.then(delta)).standing


def _module_at(model: nn.Module, path: str) -> nn.Module | None:
    found: object = model
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, nn.Module) else None


def layer_of(weight: str) -> int:
    """The layer that a weight's name speaks of."""
    found = re.search(r"\.(\d+)\.", weight)
    if found is None:
        raise ValueError(weight)
    return int(found[1])
