"""Where statistics lie, in memory and on disk; each artefact is named by what made it."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from editing.errors import StatsMissing
from editing.hparams import Contexts, Statistics
from editing.solve import Metric

_SEED = 0

# Whose keys: inputs of down-projections, of W_o, or of what makes and gates an MLP's entries.
SiteKind = Literal["mlp", "attention", "mlp_in"]
_KINDS: dict[SiteKind, str] = {
    "mlp": "second-moment-1",
    "attention": "second-moment-attention-1",
    "mlp_in": "second-moment-mlp-in-1",
}


@dataclass(frozen=True, slots=True)
class MomentKey:
    """What a second moment depends on."""

    weights: str  # fingerprint of the base model, not its name
    layer: int
    recipe: Statistics
    seed: int = _SEED
    kind: str = "second-moment-1"

    @classmethod
    def of(cls, weights: str, layer: int, recipe: Statistics, site: SiteKind) -> "MomentKey":
        """Name the second moment of one site of a layer."""
        return cls(weights, layer, recipe, kind=_KINDS[site])

    @property
    def place(self) -> tuple[str, int, Statistics]:
        """What the moments of one model are told apart by."""
        return self.kind, self.layer, self.recipe


@dataclass(frozen=True, slots=True)
class PrefixKey:
    """What the sampled prefixes depend on."""

    weights: str
    contexts: Contexts
    seed: int = _SEED
    kind: str = "prefixes-1"


class StatsStore:
    """Second moments, factored metrics and prefixes of one model. Without a folder: memory only."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._moments: dict[tuple[str, int, Statistics], Tensor] = {}
        self._metrics: dict[tuple[str, int, Statistics], Metric] = {}
        self._prefixes: dict[Contexts, tuple[str, ...]] = {}

    def second_moment(self, layer: int, recipe: Statistics, site: SiteKind = "mlp") -> Tensor:
        """C [d_k, d_k], float64. Raises StatsMissing when it was never collected."""
        try:
            return self._moments[_KINDS[site], layer, recipe]
        except KeyError:
            raise StatsMissing(layer=layer) from None

    def metric(self, layer: int, recipe: Statistics, site: SiteKind = "mlp") -> Metric:
        """C as a metric, factored once. Raises StatsMissing or SingularSystem."""
        place = (_KINDS[site], layer, recipe)
        if place not in self._metrics:
            self._metrics[place] = Metric.of(self.second_moment(layer, recipe, site))
        return self._metrics[place]

    def keep_moment(self, key: MomentKey, C: Tensor, tokens: int) -> None:
        """Hold a second moment from now on, and write it down."""
        self._moments[key.place] = C
        if path := self.path(key, "safetensors"):
            about = {"key": json.dumps(asdict(key)), "tokens": str(tokens)}
            partial = path.with_suffix(f".{os.getpid()}.part")
            save_file({"C": C.cpu()}, partial, metadata=about)
            partial.replace(path)

    def find_moment(self, key: MomentKey, device: torch.device) -> bool:
        """Whether a second moment is at hand, in memory or on disk."""
        if key.place in self._moments:
            return True
        path = self.path(key, "safetensors")
        if path is None or not path.exists():
            return False
        try:
            self._moments[key.place] = load_file(path)["C"].to(device)
        except (SafetensorError, KeyError):  # cut off by a crash of the machine: made anew
            return False
        return True

    def prefixes(self, contexts: Contexts) -> tuple[str, ...]:
        """The sampled prefixes. Raises KeyError before `keep_prefixes` or `find_prefixes`."""
        return self._prefixes[contexts]

    def keep_prefixes(self, key: PrefixKey, prefixes: tuple[str, ...]) -> None:
        """Hold prefixes from now on, and write them down."""
        self._prefixes[key.contexts] = prefixes
        if path := self.path(key, "json"):
            partial = path.with_suffix(f".{os.getpid()}.part")
            partial.write_text(json.dumps({"key": asdict(key), "prefixes": prefixes}, indent=1))
            partial.replace(path)

    def find_prefixes(self, key: PrefixKey) -> bool:
        """Whether the prefixes are at hand, in memory or on disk."""
        if key.contexts in self._prefixes:
            return True
        path = self.path(key, "json")
        if path is None or not path.exists():
            return False
        try:
            self._prefixes[key.contexts] = tuple(json.loads(path.read_text())["prefixes"])
        except (ValueError, KeyError):
            return False
        return True

    def path(self, key: MomentKey | PrefixKey, ending: str) -> Path | None:
        """Where the artefact of a key lies; None without a folder."""
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / f"{key.kind}-{name}.{ending}"
