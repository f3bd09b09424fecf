"""The second moment of a model's keys, C = E[k kT], all layers in one pass (EDITORS 0.2).

Streaming: a sum in float64 and a count. The first position of every text is left out, since it is
where attention sinks and its keys are 10 to 1000 times longer; so is padding. Partial sums are
written down after every batch, with what made them, so that a killed collection goes on where it
was and gives the same bits as one that was never killed.
"""

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from editing.errors import EmptyField, StatsMissing
from editing.hparams import OWN_TEXT, Statistics
from editing.model.generate import Decoder, draw
from editing.model.partial import by_row, positions_of, right_padded
from editing.step import Step

from .store import MomentKey, SiteKind

if TYPE_CHECKING:
    from editing.model.view import ModelView

_ROWS = 64  # texts sampled side by side
_LENGTH = 48  # tokens sampled for each
_TOP_K = 50
_BATCH_TOKENS = 2048
_LARGE = 1 << 28  # bytes of partial sums that are no longer saved after every batch
_SAVINGS = 20  # of large ones, in one collection
_WINDOW = 256  # a longer text is cut into windows of so many tokens


@dataclass(slots=True)
class _Sums:
    """Sums over keys seen so far, one for each layer, and how far the source was read."""

    moments: dict[int, Tensor]
    tokens: int = 0
    batches: int = 0
    path: Path | None = None
    every: int = 1  # batches between two savings

    @classmethod
    def resumed(
        cls, view: "ModelView", layers: Sequence[int], size: int, path: Path | None
    ) -> "_Sums":
        fresh = {
            n: torch.zeros(size, size, dtype=torch.float64, device=view.device) for n in layers
        }
        if path is None or not path.exists():
            return cls(fresh, path=path)
        try:
            saved = load_file(path)
            moments = {n: saved[str(n)].to(view.device) for n in layers}
            return cls(moments, int(saved["tokens"]), int(saved["batches"]), path)
        except (SafetensorError, KeyError):  # cut off while being written, or of other layers
            return cls(fresh, path=path)

    @property
    def nbytes(self) -> int:
        return sum(moment.nbytes for moment in self.moments.values())

    def add(self, keys: dict[int, Tensor]) -> None:
        for layer, found in keys.items():
            exact = found.double()  # [tokens, d_k]
            self.moments[layer].addmm_(exact.mT, exact)
        self.tokens += len(next(iter(keys.values())))

    def save(self) -> None:
        self.batches += 1
        if self.path is None or self.batches % self.every:
            return
        counts = {"tokens": torch.tensor(self.tokens), "batches": torch.tensor(self.batches)}
        moments = {str(n): moment.cpu() for n, moment in self.moments.items()}
        partial = self.path.with_suffix(f".{os.getpid()}.part")
        save_file({**moments, **counts}, partial)
        partial.replace(self.path)


def ensure_moments(
    view: "ModelView",
    layers: Sequence[int],
    recipe: Statistics,
    base_fingerprint: str,
    texts: Iterable[str] | None = None,
    *,
    site: SiteKind = "mlp",
) -> Generator[Step, None, None]:
    """Collect C of a site for the layers that lack it.

    The caller shows the untouched model meanwhile. `recipe.text` is "self" for text sampled from
    the model, or the name and revision of the corpus that `texts` iterates. Raises EmptyField when
    that has no token to count.
    """
    template = MomentKey.of(base_fingerprint, layers[0], recipe, site)
    keys = [replace(template, layer=layer) for layer in layers]
    wanted = [key for key in keys if not view.stats.find_moment(key, view.device)]
    if not wanted:
        return
    if texts is None and recipe.text != OWN_TEXT:
        raise StatsMissing(layer=wanted[0].layer)
    numbers = [key.layer for key in wanted]
    kind = f"partial-{_joined(numbers)}" if site == "mlp" else f"partial-{site}-{_joined(numbers)}"
    path = view.stats.path(replace(template, layer=-1, kind=kind), "sums")
    weights = {n: view.written_at(n, site) for n in numbers}
    size = view.weight(weights[numbers[0]]).shape[1]
    sums = _Sums.resumed(view, numbers, size, path)
    total = round(recipe.tokens_per_dimension * size)
    if sums.nbytes > _LARGE:
        sums.every = max(1, total // (_SAVINGS * _BATCH_TOKENS))
    source = (
        _from_samples(view, weights, sums, total, template.seed)
        if texts is None
        else _from_texts(view, weights, sums, total, texts)
    )
    yield from source
    if not sums.tokens:
        raise EmptyField(field="texts")
    for number, moment in sums.moments.items():
        view.require_finite(moment, f"The keys of layer {number}")
    for key in wanted:
        view.stats.keep_moment(key, sums.moments[key.layer] / sums.tokens, sums.tokens)
    if path is not None:
        path.unlink(missing_ok=True)


def _from_samples(
    view: "ModelView", weights: Mapping[int, str], sums: _Sums, total: int, seed: int
) -> Generator[Step, None, None]:
    """The model writes, and its keys are counted in the same passes that write."""
    vocabulary = len(view.tokenizer)
    lead: list[int] = view.tokenizer("")["input_ids"]  # type: ignore[assignment]
    special = set(view.tokenizer.all_special_ids)
    openers = torch.tensor([i for i in range(vocabulary) if i not in special])
    while sums.tokens < total:
        # Every batch has its own seed, so that a resumed collection samples what it would have.
        chance = torch.Generator().manual_seed(seed * 1_000_003 + sums.batches)
        picks = torch.randint(len(openers), (_ROWS,), generator=chance)
        decoder = Decoder(view, [[*lead, opener] for opener in openers[picks].tolist()])
        written: dict[int, list[Tensor]] = {n: [] for n in sums.moments}
        for length in range(_LENGTH):
            with _listening(view, weights, len(picks)) as heard:
                logits = decoder.logits()
            # The first position is the sink: the start token, or without one the opener.
            for n, keys in heard.items():
                written[n].append(keys[:, 0 if length else 1 :].flatten(0, 1))
            decoder.append(draw(view, logits, _TOP_K, chance))
            done = sums.tokens + sum(map(len, next(iter(written.values()))))
            yield Step("statistics", min(done, total), total)
        # One product a batch: each writes all of C, which is far larger than one token's keys.
        sums.add({n: torch.cat(keys) for n, keys in written.items()})
        sums.save()


def _from_texts(
    view: "ModelView", weights: Mapping[int, str], sums: _Sums, total: int, texts: Iterable[str]
) -> Generator[Step, None, None]:
    """The model reads, only up to the highest layer asked for."""
    last = max(sums.moments)
    done = sums.batches
    for number, batch in enumerate(_batches(view, texts)):
        if number < done:
            continue
        if sums.tokens >= total:
            break
        ids, mask = right_padded(view, batch)
        positions = positions_of(mask)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        seen = mask.bool()
        seen[:, 0] = False
        with torch.no_grad(), _listening(view, weights, len(ids), until=last) as heard:
            view.body(**inputs, use_cache=False)
        sums.add({layer: keys[seen] for layer, keys in heard.items()})
        sums.save()
        yield Step("statistics", min(sums.tokens, total), total)


class _Enough(Exception):  # a signal, not an error
    """The highest wanted layer was heard; what lies above it need not run."""


@contextmanager
def _listening(
    view: "ModelView", weights: Mapping[int, str], rows: int, *, until: int | None = None
) -> Generator[dict[int, Tensor]]:
    """Take down the inputs [B, S, d_k] of one weight a layer during one pass."""
    heard: dict[int, Tensor] = {}

    def listener(layer: int):  # noqa: ANN202 - a hook
        def hook(_: nn.Module, args: tuple[object, ...]) -> None:
            heard[layer] = by_row(cast("Tensor", args[0]).detach(), rows)
            if layer == until:
                raise _Enough

        return hook

    hooks = [
        view.module(name).register_forward_pre_hook(listener(layer))
        for layer, name in weights.items()
    ]
    try:
        yield heard
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()


def _batches(view: "ModelView", texts: Iterable[str]) -> Iterator[list[list[int]]]:
    """Windows of the texts' tokens, gathered until a batch is full."""
    size = min(_WINDOW, view.positions or _WINDOW)
    batch: list[list[int]] = []
    for text in texts:
        ids: list[int] = view.tokenizer(text)["input_ids"]  # type: ignore[assignment]
        for start in range(0, len(ids), size):
            window = ids[start : start + size]
            if len(window) < 2:  # noqa: PLR2004 - a lone token is all sink
                continue
            if (len(batch) + 1) * max(len(window), *map(len, batch), 1) > _BATCH_TOKENS:
                yield batch
                batch = []
            batch.append(window)
    if batch:
        yield batch


def read_texts(source: Path) -> Iterator[str]:
    """Paragraphs of a text file, or of every .txt file of a folder, in a fixed order."""
    files = sorted(source.rglob("*.txt")) if source.is_dir() else [source]
    for file in files:
        with file.open(encoding="utf-8") as lines:
            yield from (line.strip() for line in lines if line.strip())


def _joined(layers: Sequence[int]) -> str:
    return "-".join(map(str, layers))
