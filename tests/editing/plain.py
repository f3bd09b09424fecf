"""The methods as their papers state them, slowly: one text at a time, all layers, all positions.

The judge of the fast code. It shares with it the texts, the statistics and nothing else.
"""
# ruff: noqa: N806 - the notation of the papers

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from editing.hparams import Search
from editing.model.tokens import continued, place, place_text
from editing.model.view import ModelView
from editing.request import EditRequest


def full_logits(
    view: ModelView, ids: Sequence[int], layer: int, at: int, delta: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Logits [S, V] of a text with `delta` added to what a layer writes at one position, and h.

    h is what the sum stands in for: the block's output, or what enters the norm behind the write.
    """
    seen: list[Tensor] = []
    norm = view.layout.post_norm

    def add(_: nn.Module, __: object, out: object) -> object:
        whole = out[0] if isinstance(out, tuple) else out
        hidden = whole.view(1, len(ids), -1)  # OPT's MLP drops the batch
        seen.append(hidden[0, at].detach())
        if delta is None:
            return None
        moved = hidden.clone()
        moved[0, at] = moved[0, at] + delta.to(hidden.dtype)
        moved = moved.view(whole.shape)
        return (moved, *out[1:]) if isinstance(out, tuple) else moved

    def enter(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[:] = [args[0][0, at].detach()]

    block = view.blocks[layer]
    hooks = [
        (block.get_submodule(view.layout.down_proj) if norm else block).register_forward_hook(add)
    ]
    if norm:
        hooks.append(block.get_submodule(norm).register_forward_pre_hook(enter))
    try:
        logits = view.model(input_ids=torch.tensor([list(ids)])).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    return logits.float(), seen[0]


@dataclass
class PlainFound:
    delta: Tensor
    probability: float
    steps: int


def search(
    view: ModelView,
    request: EditRequest,
    *,
    layer: int,
    search: Search,
    prefixes: Sequence[str],
    reference: Tensor | None = None,
) -> PlainFound:
    """The search for one fact's delta, as a loop over contexts inside a loop over steps."""
    contexts = [
        (placed.subject, continued(view.tokenizer, placed.text, request.target_new))
        for placed in (place(view.tokenizer, request, prefix) for prefix in ("", *prefixes))
    ]
    essence = place_text(view.tokenizer, "{} is a", request.subject)
    bare_at, bare = contexts[0]
    _, h = full_logits(view, bare.ids, layer, bare_at, None)
    scale = (h if reference is None else reference).float().norm()
    plain, _ = full_logits(view, essence.ids, layer, essence.subject, None)
    p_0 = plain[-1].log_softmax(-1).detach()

    delta = torch.zeros(len(h), requires_grad=True)
    adam = torch.optim.Adam([delta], lr=search.lr)
    in_a_row = 0
    probability = 0.0
    for step in range(search.steps):
        losses, firsts = [], []
        for at, text in contexts:
            logits, _ = full_logits(view, text.ids, layer, at, delta)
            rows = logits[text.start - 1 : len(text.ids) - 1].log_softmax(-1)
            gold = torch.tensor(text.targets)
            losses.append(-rows[torch.arange(len(gold)), gold].mean())
            firsts.append(bool((rows.argmax(-1) == gold).all()))
        probability = float((-losses[0].detach()).exp())
        moved, _ = full_logits(view, essence.ids, layer, essence.subject, delta)
        p = moved[-1].log_softmax(-1)
        kl = (p.exp() * (p - p_0)).sum()
        loss = (
            torch.stack(losses).mean()
            + search.kl_factor * kl
            + search.weight_decay * delta.norm() / scale**2
        )
        in_a_row = in_a_row + 1 if all(firsts) else 0
        early = float(loss.detach()) < search.stop_loss
        early |= bool(search.rank_one_steps) and in_a_row >= search.rank_one_steps
        if early or step == search.steps - 1:
            return PlainFound(delta.detach(), probability, step + 1)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            limit = search.max_norm * scale
            if delta.norm() > limit:
                delta *= limit / delta.norm()
    raise AssertionError


@torch.no_grad()
def keys_of(view: ModelView, text: str, layer: int) -> Tensor:
    """Keys [S, d_k] of a layer at every token of one text."""
    found: list[Tensor] = []

    def hear(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0].view(-1, args[0].shape[-1]))

    hook = view.module(view.down_proj(layer)).register_forward_pre_hook(hear)
    view.model(input_ids=torch.tensor([view.tokenizer(text)["input_ids"]]))
    hook.remove()
    return found[0].double()


@torch.no_grad()
def read(view: ModelView, text: str, at: int, layer: int, last: int) -> tuple[Tensor, ...]:
    """Key and value of a layer's down-projection, and block `last`'s output, at one token."""
    found = dict[str, Tensor]()

    def mlp(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        found["k"], found["v"] = (x.view(-1, x.shape[-1])[at] for x in (args[0], out))

    def block(_: nn.Module, __: object, out: object) -> None:
        found["h"] = (out[0] if isinstance(out, tuple) else out)[0, at]

    module = view.module(view.down_proj(layer))
    hooks = [module.register_forward_hook(mlp), view.blocks[last].register_forward_hook(block)]
    try:
        ids = view.tokenizer(text)["input_ids"]
        view.model(input_ids=torch.tensor([ids]))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found[name].double() for name in ("k", "v", "h"))


def columns(
    view: ModelView,
    requests: Sequence[EditRequest],
    prefixes: Sequence[str],
    layer: int,
    last: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """K, V and H with one column a (request, context), contexts inner."""
    found = [
        read(view, placed.text, placed.subject, layer, last)
        for request in requests
        for placed in (place(view.tokenizer, request, prefix) for prefix in ("", *prefixes))
    ]
    K, V, H = (torch.stack(part, dim=1) for part in zip(*found, strict=True))
    return K, V, H


def gemma_norm(view: ModelView, layer: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Gain [d_v, 1] and formula of the norm behind a write of Gemma; columns are keys."""
    norm = view.blocks[layer].get_submodule("post_feedforward_layernorm")
    gain = 1 + norm.weight.double()[:, None]
    return gain, lambda x: gain * x / (x.square().mean(0) + norm.eps).sqrt()
