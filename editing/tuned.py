"""What the papers tuned, and the rules for every model that nobody tuned. Standard library only.

A row holds only what differs from the default (values: the authors' published hparams files). A
model is recognised by its shape, never by its name: names are chosen by whoever saved it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the choice of hparams depends on; all of it is in a model's config."""

    model_type: str
    layers: int
    d_model: int
    d_key: int  # width of the down-projection's input
    normed: bool = False  # a norm stands between the down-projection and the residual stream


# (model_type, layers, d_key) -> the name under which its rows stand below
SHAPES: Mapping[tuple[str, int, int], str] = {
    ("gpt2", 24, 4096): "gpt2-medium",
    ("gpt2", 36, 5120): "gpt2-large",
    ("gpt2", 48, 6400): "gpt2-xl",
    ("gpt_neox", 44, 24576): "gpt-neox-20b",
    ("gptj", 28, 16384): "gpt-j-6b",
    ("llama", 32, 11008): "llama-2-7b",
    ("llama", 32, 14336): "llama-3-8b",
    ("llama", 28, 8192): "llama-3.2-3b",
    ("qwen2", 28, 18944): "qwen2.5-7b",
}

_ROME: Mapping[str, Mapping[str, object]] = {
    "gpt2-medium": {"layers": (8,)},
    "gpt2-large": {"layers": (12,)},
    "gpt-neox-20b": {"layers": (15,)},
    "gpt2-xl": {"layers": (17,), "search.steps": 20, "search.weight_decay": 0.5},
    "gpt-j-6b": {"layers": (5,), "search.steps": 20, "search.weight_decay": 0.5},
    "llama-2-7b": {"layers": (5,)},
    "llama-3-8b": {"layers": (5,)},
}
_CLAMPED = {"search.max_norm": 0.75, "search.weight_decay": 0.5}
_MEMIT: Mapping[str, Mapping[str, object]] = {
    "gpt2-xl": {
        "layers": (13, 14, 15, 16, 17),
        "second_moment_weight": 20_000.0,
        "search.steps": 20,
        "search.rank_one_steps": 4,
        **_CLAMPED,
    },
    "gpt-j-6b": {"layers": (3, 4, 5, 6, 7, 8), "second_moment_weight": 15_000.0, **_CLAMPED},
    "llama-2-7b": {"layers": (4, 5, 6, 7, 8), "second_moment_weight": 15_000.0},
    "llama-3-8b": {
        "layers": (4, 5, 6, 7, 8),
        "second_moment_weight": 15_000.0,
        "search.lr": 0.1,
        "search.rank_one_steps": 2,
        **_CLAMPED,
    },
    "llama-3.2-3b": {"layers": (2, 3, 4, 5, 6)},
    "qwen2.5-7b": {"layers": (7, 8, 9, 10, 11)},
}


_EMMET: Mapping[str, Mapping[str, object]] = {
    "gpt2-xl": {
        "layers": (17,),
        "second_moment_weight": 10_000.0,
        "search.steps": 20,
        **_CLAMPED,
    },
    "gpt-j-6b": {"layers": (5,), "second_moment_weight": 100_000.0, "search.steps": 20, **_CLAMPED},
    "llama-2-7b": {"layers": (5,), "second_moment_weight": 100_000.0},
    "llama-3-8b": {"layers": (5,), "second_moment_weight": 100_000.0, **_CLAMPED},
}


def _searched(row: Mapping[str, object], **more: object) -> Mapping[str, object]:
    """What MEMIT's row says of layers and search, for a method with another metric."""
    return {n: v for n, v in row.items() if n != "second_moment_weight"} | more


# A memory stands where MEMIT's band ends, and its vectors are searched as MEMIT's are.
_MEMORY = {
    model: {
        **{name: value for name, value in row.items() if name.startswith("search.")},
        "layers": cast("tuple[int, ...]", row["layers"])[-1:],
    }
    for model, row in _MEMIT.items()
}

_PUBLISHED_SOLVE = {"threshold": 2e-2, "damping": 10.0}
_ALPHAEDIT = {model: _searched(row, **_PUBLISHED_SOLVE) for model, row in _MEMIT.items()}
_PMET: Mapping[str, Mapping[str, object]] = {
    "gpt2-xl": _MEMIT["gpt2-xl"],
    "gpt-j-6b": {
        **_MEMIT["gpt-j-6b"],
        "search.steps": 30,
        "search.lr": 0.2,
        "search.kl_factor": 1.0,
    },
    "llama-2-7b": {
        **_MEMIT["llama-2-7b"],
        "search.steps": 20,
        "search.max_norm": 1.0,
    },
}

_FT: Mapping[str, Mapping[str, object]] = {
    "gpt2-medium": {"layers": (0,), "bound": 2e-3},
    "gpt2-large": {"layers": (0,), "bound": 1e-3},
    "gpt2-xl": {"layers": (0,), "bound": 5e-4},
    "gpt-j-6b": {"layers": (0,), "bound": 5e-5},
    "llama-2-7b": {"layers": (21,), "bound": None},
    "llama-3-8b": {"layers": (21,), "bound": None},
}
_LORA: Mapping[str, Mapping[str, object]] = {
    "gpt2-xl": {"epochs": 30, "lr": 5e-3},
    "gpt-j-6b": {"epochs": 50, "lr": 5e-3, "targets": "mlp"},
    "llama-2-7b": {"lr": 5e-3},
    "llama-3-8b": {"lr": 5e-3},
}

_ULTRA: Mapping[str, Mapping[str, object]] = {
    "gpt-j-6b": {"layers": tuple(range(18, 27)), "eta": 1e-6},
    "qwen2.5-7b": {"layers": tuple(range(18, 27)), "matrices": "gate_up", "eta": 1e-6},
}

# method -> model -> dotted hparam -> value
TUNED: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "rome": _ROME,
    "r-rome": _ROME,
    "emmet": _EMMET,
    "memit": _MEMIT,
    "memit-history": _MEMIT,
    "ledger": _MEMIT,
    "prune": _MEMIT,
    "rect": _MEMIT,
    "alphaedit": _ALPHAEDIT,
    "pmet": _PMET,
    "attention": {},
    "ft-l": _FT,
    "ft-m": _FT,
    "full-c": {},  # nobody published a bound for whole MLPs
    "locft": {"llama-3-8b": {"layers": (22,)}, "qwen2.5-7b": {"layers": (6,)}},
    "lora": _LORA,
    "kn": {"gpt-j-6b": {"threshold": 0.1}},
    "ike": {},
    "memory": _MEMORY,
    "ctp": {},  # one setting for all models
    "mend": {},  # placed by rule as published
    "ultraedit": _ULTRA,
    "ultra-rls": _ULTRA,
}

# model_type -> (depth of ROME's layer, depth of the last edited layer of a band), as shares of all
# layers: the published placements, averaged by family (EDITORS 0.4). A family for which nothing is
# published stands with the one it was derived from: OPT with GPT-2, Mistral and Phi-3 with Llama.
_GPT = (0.35, 0.35)
_LLAMA = (0.16, 0.25)
_QWEN = (0.30, 0.39)
DEPTHS: Mapping[str, tuple[float, float]] = {
    "gpt2": _GPT,
    "gpt_neox": _GPT,
    "opt": _GPT,
    "gptj": (0.18, 0.29),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "phi3": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "qwen2": _QWEN,
    "qwen3": _QWEN,
}
_BAND = 0.16
_LATE = 0.6  # the end of a band written at the prompt's last token: the subject has moved there
_MEND = 3  # the last blocks, as published for every family
_RELATION = (0.21, 0.42)  # where RaKE traces relations in attention

# Bounded fine-tuning is published at layer 0. Of LocFT's two published depths, 0.69 and 0.21, this
# is the one that keeps more neighbors in a small model.
_TRAINED_AT = {"ft-l": 0.0, "ft-m": 0.0, "locft": 0.21}

# Which rule places a method's layers; the others edit a band.
_ONE_LAYER = {"rome", "r-rome", "emmet"}
_BAND_END = {"memory"}
# From which depth up to below which one a method edits, as shares of all layers. Every layer where
# the method itself finds out which of them matter; UltraEdit as published for GPT-J and Qwen 2.5.
_ALL = (0.0, 1.0)
_ULTRA_AT = (0.64, 0.96)
_SPANS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("ctp", "full-c", "lora", "kn"), _ALL),
    **dict.fromkeys(("ultraedit", "ultra-rls"), _ULTRA_AT),
}


def placement(method: str, facts: ModelFacts) -> tuple[int, ...]:
    """The layers that `method` edits in a model that nobody tuned, lowest first."""
    rome, end = DEPTHS.get(facts.model_type, _LLAMA)
    if method in _ONE_LAYER:
        return _ending(rome, 1, facts)
    if method == "mend":
        return tuple(range(max(0, facts.layers - _MEND), facts.layers))
    if method in _SPANS:
        first, stop = (round(share * facts.layers) for share in _SPANS[method])
        return tuple(range(min(first, stop - 1), stop))
    if method in _TRAINED_AT:
        return (round(_TRAINED_AT[method] * facts.layers),)
    if method == "attention":
        low, high = (round(share * facts.layers) for share in _RELATION)
        return _ending(_RELATION[1], high - low, facts)
    width = 1 if method in _BAND_END else round(_BAND * facts.layers)
    return _ending(end, width, facts)


def late_placement(method: str, facts: ModelFacts) -> tuple[int, ...]:
    """The layers that `method` writes at the prompt's last token, lowest first."""
    one = method in _ONE_LAYER | _BAND_END
    return _ending(_LATE, 1 if one else round(_BAND * facts.layers), facts)


def _ending(depth: float, width: int, facts: ModelFacts) -> tuple[int, ...]:
    """So many layers up to a depth, a share of all; at most six, below the last layer."""
    last = min(round(depth * facts.layers), facts.layers - 2)  # a search needs one above
    first = last - min(max(width, 1), 6, last + 1) + 1
    return tuple(range(first, last + 1))


# Only the direction of what enters a norm counts. A delta as long as what it is added to turns it
# far enough; a longer one moves every key that is like its own (docs/decisions/0012).
_NORMED: Mapping[str, object] = {"search.max_norm": 1.0}


def behind_a_norm(facts: ModelFacts) -> Mapping[str, object]:
    """What every method searches differently where a norm follows the write."""
    return _NORMED if facts.normed else {}


def bounded(method: str, facts: ModelFacts) -> Mapping[str, object]:
    """How far fine-tuning may move an entry in a model that nobody tuned.

    A power of the width, which gives each of the four published bounds (widths 1024, 1280, 1600 and
    4096, all of them at layer 0) within a fifth.
    """
    width = facts.d_model / 1600
    return {"bound": 5e-4 * width**-2.65} if TUNED.get(method) is _FT else {}


def published(method: str, facts: ModelFacts) -> Mapping[str, object]:
    """The row tuned for this shape of model, empty where there is none."""
    name = SHAPES.get((facts.model_type, facts.layers, facts.d_key))
    return TUNED.get(method, {}).get(name, {}) if name else {}
