"""Keys of edits, and how alike they are: where they are, edits disturb each other (S2RKE, 5).

A key is the input of the matrix that is written, at the token whose key counts: for a request the
mean over its contexts, for a live edit every one that it wrote.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.editors.asking import Asking, KeyAt
from editing.editors.site import Spot, hearing
from editing.model.partial import by_row, pause
from editing.step import Step

if TYPE_CHECKING:
    from editing.hparams import Hparams
    from editing.model.view import ModelView
    from editing.request import EditRequest

SAME = 1 - 1e-5  # a cosine from which two keys are one
_POSITIONS = 2048  # run side by side, padding included


@dataclass(frozen=True, slots=True)
class Sites:
    """Where a method's keys are: matrices, and the token at which they are read."""

    spots: tuple[Spot, ...]
    key_at: KeyAt


def sites_of(hparams: "Hparams") -> list[Sites]:
    """The sites of a method by its hparams, as it writes; its layers' MLPs where it says nothing.

    None for a method that writes no layer.
    """
    layers: tuple[int, ...] = getattr(hparams, "layers", ())
    if hasattr(hparams, "sites"):  # RaKE's proposal: the prompt's end
        kinds = ("attention", "mlp") if hparams.sites == "both" else (hparams.sites,)
        return [Sites(tuple((kind, layer) for layer in layers for kind in kinds), "prompt_last")]
    late: tuple[int, ...] = getattr(hparams, "late_layers", None) or layers
    chosen: dict[str, list[tuple[KeyAt, tuple[int, ...]]]] = {
        "subject_last": [("subject_last", layers)],
        "prompt_last": [("prompt_last", layers)],
        "dual": [("subject_last", layers), ("prompt_last", late)],
    }
    found = chosen[getattr(hparams, "key_site", "subject_last")]
    return [Sites(tuple(("mlp", n) for n in some), at) for at, some in found if some]


def prefixes_of(view: "ModelView", hparams: "Hparams") -> tuple[str, ...]:
    """The texts that a method puts before a prompt, as it was prepared; none for most."""
    contexts = getattr(hparams, "contexts", None)
    return () if contexts is None else view.stats.prefixes(contexts)


def keys_of(
    view: "ModelView",
    requests: Sequence["EditRequest"],
    sites: Sites,
    prefixes: Sequence[str] = (),
) -> Generator[Step, None, dict[Spot, Tensor]]:
    """Mean key [n, d_k] of each request at each spot, float32. One pass, up to the highest layer.

    Raises SubjectNotFound, EmptyField or TargetTooLong.
    """
    asking = Asking(prefixes, sites.key_at)
    rows = [[row.asked for row in asking.rows(view, request)] for request in requests]
    flat = [ids for mine in rows for ids in mine]
    owner = torch.tensor([number for number, mine in enumerate(rows) for _ in mine])
    layers = sorted({layer for _, layer in sites.spots})
    parts: dict[Spot, list[Tensor]] = {spot: [] for spot in sites.spots}
    done = 0
    while done < len(flat):
        some = flat[done : done + max(1, _POSITIONS // max(map(len, flat)))]
        paused = pause(view, some, first=layers[0], stop=layers[-1] + 1)
        with torch.no_grad(), hearing(view, sites.spots) as heard:
            paused.run()
        for spot, one in heard.items():
            parts[spot].append(by_row(one.key, len(some))[:, -1].float().cpu())
        done += len(some)
        yield Step("keys", done, len(flat))
    return {spot: _means(torch.cat(found), owner) for spot, found in parts.items()}


def _means(keys: Tensor, owner: Tensor) -> Tensor:
    """Mean of the rows [m, d] of each owner."""
    sums = keys.new_zeros(int(owner.max()) + 1, keys.shape[1]).index_add_(0, owner, keys)
    return sums / owner.bincount()[:, None]


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosines [n, m] of rows [n, d] and [m, d], in float64."""
    left, right = (torch.nn.functional.normalize(part.double(), dim=1) for part in (one, other))
    return left @ right.mT


def nearest(written: Sequence[Tensor]) -> Tensor:
    """For keys [d, n_i] of some edits: the largest cosine between those of any two, [edits, edits].

    An edit has several keys, one a fact and context; with itself its cosine is 1.
    """
    unit = torch.cat([torch.nn.functional.normalize(keys.double(), dim=0) for keys in written], 1)
    ends = torch.tensor([keys.shape[1] for keys in written]).cumsum(0).tolist()
    rows = [
        (unit[:, end - keys.shape[1] : end].mT @ unit).amax(0)
        for keys, end in zip(written, ends, strict=True)
    ]
    columns = torch.stack(rows).split([keys.shape[1] for keys in written], dim=1)
    return torch.stack([part.amax(1) for part in columns], dim=1)
