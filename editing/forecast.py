"""What an edit would move, said before it is made.

Ripples: GradSim of the edit with each answer that should follow from it. Collisions: live edits
that wrote at a key close to the one that the new edit would write at, in the same matrix.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .editors.asking import Asking, KeyAt
from .editors.keys import KeyReader
from .editors.solution import spot_of
from .errors import EmptyField
from .metrics.answers import sayable
from .metrics.correlation import LIKELY
from .metrics.gradsim import Fact, similarities
from .step import Step

if TYPE_CHECKING:
    from torch import Tensor

    from .history import Entry
    from .model.view import ModelView
    from .outcome import Written
    from .request import EditRequest
    from .stats.store import SiteKind

Json = dict[str, Any]

# From what cosine on two keys are told. The same subject in other words lies above it, another one
# far below.
COLLIDES = 0.5
_READ = 16  # live edits read in one step


def forecast(
    view: "ModelView",
    request: "EditRequest",
    ripples: Sequence[tuple[str, Sequence[str]]],
    live: Sequence["Entry"] = (),
    *,
    key_at: KeyAt = "subject_last",
) -> Generator[Step, None, Json]:
    """What `request` would do to the answers of `ripples` and to the edits of `live`.

    ripples: (prompt, names of its answer); the first name that this model can say is compared, and
    told as `answer`. Runs under the state that would be edited. Raises BadRequest.
    """
    facts = [_fact(view, prompt, answers) for prompt, answers in ripples]
    cosines: list[float] = []
    if facts:
        found = yield from similarities(view, [(request.question, request.target_new)], facts)
        cosines = found.cosine[0].tolist()
    return {
        "ripples": [
            {"prompt": prompt, "answer": answer, "gradsim": cosine, "likely": cosine >= LIKELY}
            for (prompt, answer), cosine in zip(facts, cosines, strict=True)
        ],
        "collisions": (yield from collisions(view, request, live, key_at)),
    }


def _fact(view: "ModelView", prompt: str, answers: Sequence[str]) -> Fact:
    if not answers:
        raise EmptyField(field="ripples.answers")
    said = sayable(view, prompt, answers, 1, room=0)
    return prompt, said[0] if said else answers[0]  # which is then refused by what it lacks


def collisions(
    view: "ModelView", request: "EditRequest", live: Sequence["Entry"], key_at: KeyAt
) -> Generator[Step, None, list[Json]]:
    """The live edits whose written keys lie close to the new edit's, the nearest first.

    The cosine of an edit is its largest one, over the matrices that it wrote and all its keys
    there. An edit without written keys (one of a gradient method) meets none, nor does one of
    matrices that read the residual stream: what enters there is alike for unrelated texts.
    """
    written: dict[str, dict[str, Written]] = {}
    for number, entry in enumerate(live):
        pairs = entry.load().written
        written[entry.id] = {
            weight: pair for weight, pair in pairs.items() if spot_of(view, weight)[0] != "mlp_in"
        }
        if number % _READ == _READ - 1:
            yield Step("keys", number + 1, len(live))
    weights = {weight for pairs in written.values() for weight in pairs}
    keys = yield from _keys(view, request, weights, key_at)
    nearest = {
        name: max(_nearest(keys[weight], pair) for weight, pair in pairs.items())
        for name, pairs in written.items()
        if pairs
    }
    told = [{"edit": name, "cosine": near} for name, near in nearest.items() if near >= COLLIDES]
    return sorted(told, key=lambda one: -one["cosine"])


def _nearest(key: "Tensor", pair: "Written") -> float:
    """The largest cosine between a new edit's keys [d_k, n] and stored ones."""
    old = pair.keys.to(key.device).double()
    return float((torch.nn.functional.normalize(old, dim=0).mT @ key).max())


def _keys(
    view: "ModelView", request: "EditRequest", weights: set[str], key_at: KeyAt
) -> Generator[Step, None, Mapping[str, "Tensor"]]:
    """The keys [d_k, n], of length one, that a request has at these weights."""
    kinds: dict[int, list[tuple[SiteKind, str]]] = {}
    for weight in weights:
        kind, layer = spot_of(view, weight)
        kinds.setdefault(layer, []).append((kind, weight))
    found: dict[str, Tensor] = {}
    if not kinds:
        return found
    layers = sorted(kinds)
    reader = KeyReader(view, [request], Asking(key_at=key_at), layers)
    yield from reader.start()
    for layer in range(layers[0], layers[-1] + 1):
        for kind, weight in kinds.get(layer, ()):
            found[weight] = torch.nn.functional.normalize(reader.read(kind).keys, dim=0)
        if layer < layers[-1]:
            reader.climb({})
    return found
