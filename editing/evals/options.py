"""What can be chosen of each suite, as blocks of knobs. Standard library only."""

from dataclasses import dataclass
from typing import Literal

from editing.hparams.blocks import knob, maybe, option


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingOptions:
    """Causal tracing."""

    corrupt: Literal["subject", "relation"] = option(
        "subject", "whose tokens are corrupted: the subject's (ROME) or the relation's (RaKE)"
    )
    copies: int = knob(10, "corrupted copies, each with noise of its own", low=1, high=100)
    noise: float = knob(
        3.0,
        "size of the noise, in standard deviations of the subjects' embeddings",
        low=0,
        high=100,
    )
    window: int | None = maybe(
        "layers in which an MLP's or attention's output is restored; null = a fifth, at least 3",
        low=1,
        high=1000,
    )
    severed: bool = option(
        default=False, says="trace states with the later MLPs, or attention, cut off as well"
    )
    every: int = knob(1, "trace every n-th layer", low=1, high=1000)
    seed: int = knob(0, "of the noise", low=0, high=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RippleOptions:
    """Ripples of an edit."""

    max_tokens: int = knob(20, "tokens of a greedy answer", low=1, high=200)
    several: Literal["auto", "any", "all"] = option(
        "auto",
        "of an answer with several values: any one, or all; auto = all where a logical consequence "
        "is asked for in the plural, else any",
    )
    names: int = knob(3, "names of an answer whose probability is taken", low=1, high=50)
    in_context: bool = option(
        default=True, says="ask also with the new fact before the prompt, in words"
    )
    untestable: bool = option(
        default=False, says="ask also what does not count, because a condition is not met"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOptions:
    """How records are edited together."""

    mode: Literal["single", "batch", "consecutive"] = option(
        "single", "each record alone, or sets of them: in one order, or one order after another"
    )
    size: int | None = maybe("records of a set; null = all of them in one", low=1, high=100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficacyOptions(SetOptions):
    """Edit requests, before and after."""

    max_tokens: int = knob(20, "tokens of a generated answer; 0 = none is", low=0, high=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterFactOptions(SetOptions):
    """CounterFact."""

    max_tokens: int = knob(10, "tokens of a generated answer; 0 = none is", low=0, high=200)
    text_tokens: int = knob(40, "tokens of a free text (authors: 100); 0 = none", low=0, high=100)
    texts: int = knob(5, "free texts of a record (authors: 10)", low=1, high=50)
    seed: int = knob(0, "of the free texts", low=0, high=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZsreOptions(SetOptions):
    """zsRE."""

    target: Literal["alt", "answers"] = option(
        "alt", "what is written: another answer, or the right one (MEMIT, AlphaEdit)"
    )
    max_tokens: int = knob(20, "tokens of a generated answer; 0 = none is", low=0, high=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbationOptions:
    """Edits of one subject against edits of several."""

    design: Literal["homogeneous", "all-same", "density"] = option(
        "homogeneous",
        "of k edits the first and the last share the subject; or all do; or three of a subject, "
        "against two and one",
    )
    k: int = knob(2, "edits of a set", low=2, high=60)
    commits: Literal["sequential", "batch"] = option(
        "sequential", "one order after another, or all edits in one"
    )
    subjects: int = knob(20, "cases at most, drawn by the seed; 0 = all", low=0, high=100_000)
    neighbors: int = knob(5, "neighbors asked of an edit, at most", low=0, high=50)
    known: bool = option(
        default=False, says="edit only facts that the model answers as the data has them"
    )
    max_tokens: int = knob(10, "tokens of a generated answer; 0 = none is", low=0, high=200)
    seed: int = knob(0, "of what is drawn: subjects, matches, new objects", low=0, high=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradsimOptions:
    """Facts compared with each other."""

    scope: Literal["all", "mlp", "down_proj"] = option("all", "parameters that are compared")
    target: Literal["new", "true"] = option("new", "answer of a record that says two")
    block: int = knob(40, "facts of a block; one case is a block with another", low=2, high=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForetellingOptions:
    """How GradSim of an edit with its queries is taken."""

    scope: Literal["all", "mlp", "down_proj", "edited_layers"] = option(
        "all", "parameters that are compared; edited_layers = the matrices the editor writes"
    )
    weights: Literal["pre", "post"] = option("pre", "of the model before, or after the edit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationOptions(ForetellingOptions):
    """GradSim against what an edit moves."""

    queries: int = knob(4, "queries of a criterion, the first ones; 0 = all", low=0, high=1000)
    samples: int = knob(50, "sampled answers of a query; 0 = none", low=0, high=1000)
    temperature: float = knob(0.7, "of the samples", low=0.01, high=10)
    max_tokens: int = knob(15, "tokens of an answer, sampled or greedy", low=1, high=200)
    seed: int = knob(0, "of the samples", low=0, high=2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailuresOptions(ForetellingOptions):
    """Where GradSim misleads."""

    kinds: Literal["all", "negation", "over_ripple", "cross_lingual"] = option(
        "all", "kinds of queries that are generated"
    )
    queries: int = knob(6, "ripple queries of a record; 0 = all", low=0, high=1000)
    max_tokens: int = knob(20, "tokens of a greedy answer", low=1, high=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationOptions:
    """The same change edited and asked from both ends."""

    max_tokens: int = knob(10, "tokens of a generated answer; 0 = none is", low=0, high=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysOptions:
    """Keys of live edits."""

    key_at: Literal["subject_last", "prompt_last"] = option(
        "subject_last", "the token at which a new request would be written"
    )
    edits: int = knob(50, "live edits compared with each other, the newest", low=1, high=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftOptions:
    """Distance of a state from base."""

    tokens: int = knob(64, "tokens that are read of a given text, its first", low=2, high=4096)
