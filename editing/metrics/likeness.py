"""Cheap ways to say how alike two facts are, which GradSim has to beat (METRICS 1.3).

Each compares an edit (its prompt with the new target behind it) with a query and its answer:

embedding   cosine of the mean input embeddings of all tokens
hidden      cosine of the last block's output, normed, at the last token of the questions
key         largest cosine of the edit's key with the key at any token of the query's question, in
            the layers that the editor writes (mean over the layers): how much the write is met
attention   cosine of where the last token of the questions looks to: for each head of each layer,
            the weight in eight equal stretches of the question, the first token (on which heads
            rest) left out. The papers do not say how patterns of different lengths compare.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from editing.model.partial import by_row, positions_of, right_padded
from editing.model.tokens import Continuation, subject_last
from editing.step import Step

from .gradients.passes import rows_of
from .gradsim import Fact

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

MEASURES = ("embedding", "hidden", "key", "attention")
_STRETCHES = 8
_ROWS = 16  # texts side by side


@dataclass(slots=True)
class _Text:
    """What is compared of one text; keys [tokens of the question, d_k] of each layer."""

    embedding: Tensor
    hidden: Tensor
    keys: list[Tensor]
    attention: Tensor | None


def likeness(
    view: "ModelView", request: "EditRequest", facts: Sequence[Fact], layers: Sequence[int]
) -> Generator[Step, None, dict[str, list[float | None]]]:
    """Each measure of the edit with each fact; None where it cannot be taken.

    `layers` are those whose down-projections the editor writes; none: no `key`.
    """
    rows = rows_of(view, [(request.question, request.target_new), *facts])
    texts: list[_Text] = []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        texts += _read(view, part, layers)
        yield Step("measure", len(texts), len(rows))
    edit, *others = texts
    at = _subject(view, request)
    found: dict[str, list[float | None]] = {name: [] for name in MEASURES}
    for other in others:
        found["embedding"].append(_cosine(edit.embedding, other.embedding))
        found["hidden"].append(_cosine(edit.hidden, other.hidden))
        met = [
            float(torch.cosine_similarity(mine[at][None], theirs).max())
            for mine, theirs in zip(edit.keys, other.keys, strict=True)
        ]
        found["key"].append(sum(met) / len(met) if met else None)
        if edit.attention is None or other.attention is None:
            found["attention"].append(None)
        else:
            found["attention"].append(_cosine(edit.attention, other.attention))
    return found


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))


def _subject(view: "ModelView", request: "EditRequest") -> int:
    """Position of the subject's last token in the edit's question as it is asked."""
    lead = len(view.current.preface)
    end = lead + request.prompt.index("{}") + len(request.subject.rstrip())
    return subject_last(view.tokenizer, view.asked(request.question), end, request.subject)


@torch.no_grad()
def _read(view: "ModelView", rows: Sequence[Continuation], layers: Sequence[int]) -> list[_Text]:
    """What is compared of each text, in one pass."""
    ids, mask = right_padded(view, [row.ids for row in rows])
    last = [row.start - 1 for row in rows]  # of the question
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions_of(mask)}
    embedded = view.model.get_input_embeddings()(ids)
    looking = _Looking(last)
    with _keys(view, layers) as keys, looking:
        hidden = view.body(**inputs, use_cache=False)[0]
    own = view.tokenizer.bos_token_id
    return [
        _Text(
            embedding=embedded[n, int(row.ids[0] == own) : len(row.ids)].float().mean(0),
            hidden=hidden[n, at],
            keys=[by_row(keys[layer], len(rows))[n, : at + 1].double() for layer in layers],
            attention=looking.pattern(n, at),
        )
        for n, (row, at) in enumerate(zip(rows, last, strict=True))
    ]


@contextmanager
def _keys(view: "ModelView", layers: Sequence[int]) -> Generator[dict[int, Tensor]]:
    """What enters the down-projections of some layers in one pass."""
    found: dict[int, Tensor] = {}

    def listener(layer: int):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            found[layer] = args[0]

        return hook

    modules = {layer: view.module(view.down_proj(layer)) for layer in layers}
    hooks = [m.register_forward_pre_hook(listener(layer)) for layer, m in modules.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class _Looking(TorchFunctionMode):
    """Attention weights [B, heads, S] of one token of each row, taken down wherever they are made.

    Where a family makes them in a way that is not heard here, nothing is taken down.
    """

    def __init__(self, at: Sequence[int]) -> None:
        super().__init__()
        self.at = at
        self.layers: list[Tensor] = []

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - any function of torch
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        named = dict(kwargs or {})
        out = func(*args, **named)
        if func is functional.scaled_dot_product_attention:
            self.layers.append(_weights(self.at, *args, **named))
        elif func in _SOFTMAXES and _is_attention(out, len(self.at)):
            rows = torch.arange(len(self.at), device=out.device)
            self.layers.append(out[rows, :, torch.tensor(self.at, device=out.device)].float())
        return out

    def pattern(self, row: int, at: int) -> Tensor | None:
        """Where the token `at` of a row looks to [layers, heads, stretches]; None: not heard."""
        if not self.layers or at < 1:
            return None
        looked = torch.stack([layer[row, :, 1 : at + 1] for layer in self.layers])
        looked = looked / looked.sum(-1, keepdim=True).clamp(min=1e-12)
        stretch = (torch.arange(at, device=looked.device) * _STRETCHES) // at
        size = (*looked.shape[:2], _STRETCHES)
        return looked.new_zeros(size).index_add_(2, stretch, looked)


_SOFTMAXES = (functional.softmax, torch.softmax, Tensor.softmax)


def _is_attention(out: object, rows: int) -> bool:
    return isinstance(out, Tensor) and out.dim() == 4 and len(out) == rows  # noqa: PLR2004


def _weights(  # noqa: PLR0917 - as torch has it
    at: Sequence[int],
    query: Tensor,
    key: Tensor,
    value: Tensor,  # noqa: ARG001 - part of the call
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001
    is_causal: bool = False,  # noqa: ARG001, FBT001, FBT002
    scale: float | None = None,
    **_: object,
) -> Tensor:
    """Weights [B, heads, S] with which the token `at` of each row looks at those before it."""
    rows = torch.arange(len(at), device=query.device)
    where = torch.tensor(at, device=query.device)
    asking = query[rows, :, where].float()  # [B, heads, d]
    heads = key.repeat_interleave(query.shape[1] // key.shape[1], 1).float()
    scores = torch.einsum("bhd,bhsd->bhs", asking, heads)
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    behind = torch.arange(key.shape[2], device=query.device) > where[:, None]
    scores = scores.masked_fill(behind[:, None], float("-inf"))
    if attn_mask is not None:
        mask = attn_mask.expand(len(at), -1, -1, -1)[rows, :, where]  # [B, heads or 1, S]
        shut = float("-inf")
        scores = scores.masked_fill(~mask, shut) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)
