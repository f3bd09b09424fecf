"""Knobs of the methods that find a vector by search and write it by a closed form."""

from dataclasses import dataclass
from typing import Literal

from .blocks import Contexts, Search, Statistics, knob, layer_band, maybe, one_layer, option

KeySite = Literal["subject_last", "prompt_last", "dual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sited:
    """Where a fact's key is read."""

    key_site: KeySite = option(
        "subject_last",
        "the token whose key is written: the subject's last, the prompt's last (in `late_layers`), "
        "or half of the change at the one and the rest at the other",
    )
    late_layers: tuple[int, ...] | None = option(
        None, "the layers written at the prompt's last token; null = by the rule of depth"
    )

    @property
    def may_write_late(self) -> bool:
        """Whether the late layers may be written."""
        return self.key_site != "subject_last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched(Sited):
    """What happens to facts of one batch whose keys are (nearly) equal."""

    merge_above: float | None = knob(
        0.98,
        "facts of a batch whose keys have at least this cosine share one change, searched for all "
        "of them together; null = each on its own, as published",
        low=0,
        high=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RomeHparams(Sited):
    """ROME: one fact, one layer, one rank."""

    layers: tuple[int, ...] = one_layer()
    search: Search = Search()
    contexts: Contexts = Contexts(prefixes=20)
    statistics: Statistics = Statistics()
    keys: Literal["context", "mean"] = option(
        "context", "'context': each context's own key; 'mean': one mean key everywhere"
    )
    legacy_keys: bool = option(
        False,
        "as the published code: the mean key gives the direction, the bare prompt's key what is "
        "missing and the divisor",
    )
    damping: float = knob(
        0.01,
        "with 'context': rho, as a share of the keys' mean leverage; 0 = exact",
        low=0,
        high=100,
    )
    bare_weight: float = knob(0.5, "with a mean key: share of the bare prompt", low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RRomeHparams(Sited):
    """R-ROME: one fact, one layer, one mean key everywhere."""

    layers: tuple[int, ...] = one_layer()
    search: Search = Search()
    contexts: Contexts = Contexts(prefixes=20)
    statistics: Statistics = Statistics()
    bare_weight: float = knob(0.5, "share of the bare prompt in the mean key", low=0, high=1)


def _second_moment_weight() -> float | None:
    return maybe(
        "lambda: how heavily everyday keys count; null = by the rule of scale", low=1e-6, high=1e9
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmmetHparams(Batched):
    """EMMET: many facts, one layer, written under (nearly) equality."""

    layers: tuple[int, ...] = one_layer()
    search: Search = Search()
    contexts: Contexts = Contexts()
    statistics: Statistics = Statistics()
    second_moment_weight: float | None = _second_moment_weight()
    damping: float = knob(
        0.1, "rho: how much of what is missing may stay unwritten; 0 = equality", low=0, high=100
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemitHparams(Batched):
    """MEMIT with and without history: many facts, a band of layers, a soft write."""

    layers: tuple[int, ...] = layer_band()
    search: Search = Search()
    contexts: Contexts = Contexts()
    statistics: Statistics = Statistics()
    second_moment_weight: float | None = _second_moment_weight()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHparams(MemitHparams):
    """The ledger: MEMIT with history, where facts that share a key share a value."""

    key_site: KeySite = option(
        "subject_last",
        "the token whose key carries a fact; what cannot be written there is written at its "
        "prompt's last token, in late_layers",
        choices=("subject_last",),
    )
    written_share: float = knob(
        0.5,
        "where lambda is left to the rule of scale: the share of its residual that a key of "
        "average leverage gets written in a layer; many edits need a lower one than few",
        low=0.01,
        high=0.99,
    )
    norm_anchor: bool = option(
        True, "what a layer is asked to answer is held to the length of the lineage's first answers"
    )
    filter_after: int | None = knob(
        3000,
        "from so many edits on, changes leave the weights' dominant directions alone, and what "
        "that cuts is made up for; null = never",
        low=0,
        high=1e9,
    )
    filtered_energy: float = knob(
        0.3, "the share of a weight's energy that its dominant directions hold", low=0, high=1
    )
    joint_probability: float = knob(
        0.5,
        "facts that share a key are written apart where a joint search ends below this probability",
        low=0,
        high=1,
    )

    @property
    def may_write_late(self) -> bool:
        """Facts that no joint value says are written there."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class PmetHparams(Batched):
    """PMET: attention and MLP are searched together, and one or both are written."""

    layers: tuple[int, ...] = layer_band()
    search: Search = Search()
    contexts: Contexts = Contexts()
    statistics: Statistics = Statistics()
    second_moment_weight: float | None = _second_moment_weight()
    write: Literal["mlp", "both"] = option("mlp", "'mlp' as published; 'both': attention as well")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionHparams:
    """RaKE's proposal: attention and MLP written at the relation's last token."""

    layers: tuple[int, ...] = layer_band()
    search: Search = Search()
    contexts: Contexts = Contexts()
    statistics: Statistics = Statistics()
    second_moment_weight: float | None = _second_moment_weight()
    sites: Literal["mlp", "attention", "both"] = option("both", "what is written")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaEditHparams(Batched):
    """AlphaEdit: a band of layers, changed only where everyday keys do not look."""

    layers: tuple[int, ...] = layer_band()
    search: Search = Search()
    contexts: Contexts = Contexts()
    statistics: Statistics = Statistics()
    null_mass: float = knob(
        0.02,
        "share of C's trace that the null space may hold: its smallest eigenvalues up to that sum",
        low=0,
        high=1,
    )
    threshold: float | None = maybe(
        "as published instead: eigenvalues of C below this count as null", low=0, high=1e9
    )
    damping: float | None = maybe(
        "lambda_2, the weight of the change's own size; null = by the rule of scale",
        low=1e-9,
        high=1e9,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneHparams(MemitHparams):
    """PRUNE over MEMIT: large singular values of the whole change are held down."""

    compensate: bool = option(
        True, "carry what was cut to the next edit, so that it does not add up"
    )
    log_base: float = knob(
        2.718281828459045, "base of the logarithm by which they grow", low=1.01, high=1000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RectHparams(MemitHparams):
    """RECT over MEMIT: only the entries that change most, relative to the weight, are written."""

    compensate: bool = option(
        True, "carry what was cut to the next edit, so that it does not add up"
    )
    keep: float = knob(0.4, "share of the entries that are written", low=1e-4, high=1)
