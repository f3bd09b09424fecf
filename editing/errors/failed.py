"""What a method, or the training of one, could not do."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import ClassVar

from .base import EditFailed


class SearchDiverged(EditFailed):
    """The search for z never made the model say the target."""

    code = "search-diverged"
    mend: ClassVar[str] = (
        "Raise search.steps or search.max_norm, or choose later layers; where it is nan, lower "
        "search.lr or search.max_norm."
    )

    def __init__(self, *, subject: str, target: str, reached: float, steps: int) -> None:
        super().__init__(
            f"After {steps} steps p({target!r} | {subject!r}) is {reached:.3g}. {self.mend}",
            subject=subject,
            target=target,
            reached=reached if isfinite(reached) else None,  # JSON knows no NaN
            steps=steps,
        )


class LossDiverged(EditFailed):
    """A loss that is not finite any more while weights are trained."""

    code = "loss-diverged"

    def __init__(self, *, steps: int) -> None:
        super().__init__(
            f"After {steps} optimiser steps the loss or its gradient is not finite. The weights "
            "were left as they were. Lower the learning rate (lr in the editor's hparams).",
            steps=steps,
        )


class TargetNotReached(SearchDiverged):
    """Training that ended with the target less likely than was asked for."""

    code = "target-not-reached"
    mend = "Raise epochs, lr or bound, choose other layers, or lower min_probability."


class NoNeurons(EditFailed):
    """No neuron expresses the fact in enough of its prompts."""

    code = "no-neurons"


class FactsInConflict(EditFailed):
    """No value says all facts that share a key, and none of its own was found for the new one."""

    code = "facts-in-conflict"

    def __init__(self, questions: Sequence[str], conflict: Sequence[Mapping[str, str]]) -> None:
        others = "; ".join(f"{one['question']!r} says {one['says']!r}" for one in conflict)
        super().__init__(
            f"{', '.join(map(repr, questions))} cannot be written beside what is live: {others}. "
            "Retract what is wrong among these, or word the question otherwise.",
            questions=list(questions),
            conflict=[dict(one) for one in conflict],
        )


class SingularSystem(EditFailed):
    """A metric that is not positive definite, even after jitter."""

    code = "singular-system"

    def __init__(self, *, size: int, jitter: float) -> None:
        super().__init__(
            f"A {size} x {size} system stays singular after a jitter of {jitter:.1e}. "
            "Collect the second moment from more tokens, or raise second_moment_weight.",
            size=size,
            jitter=jitter,
        )


class NullSpaceTooSmall(EditFailed):
    """A null space with too few dimensions for the facts to be written in it."""

    code = "null-space-too-small"

    def __init__(self, *, layer: int, rank: int, facts: int, room: int) -> None:
        super().__init__(
            f"The null space of layer {layer} has {rank} dimensions; {facts} facts need at least "
            f"{room} each. Raise null_mass (or threshold), or write fewer facts at once.",
            layer=layer,
            rank=rank,
            facts=facts,
        )


class NonFiniteDelta(EditFailed):
    """A delta with NaN or infinity; it is refused before it touches a weight."""

    code = "non-finite-delta"

    def __init__(self, *, weight: str) -> None:
        super().__init__(
            f"The delta for {weight} holds values that are not finite. The weights were left as "
            "they were. Lower search.lr or raise second_moment_weight.",
            weight=weight,
        )


class NumericOverflow(EditFailed):
    """Numbers beyond the range of the format that the model is served in."""

    code = "numeric-overflow"

    def __init__(self, what: str, *, dtype: str) -> None:
        super().__init__(
            f"{what} cannot be held in {dtype}: infinity or NaN came of it. The weights were left "
            "as they were. Serve the model in bfloat16 or float32; where it did answer before, "
            "restore an earlier snapshot.",
            what=what,
            dtype=dtype,
        )


class FingerprintMismatch(EditFailed):
    """Weights that are not, bit for bit, what they should be."""

    code = "fingerprint-mismatch"

    def __init__(self, *, expected: str, found: str, what: str) -> None:
        super().__init__(
            f"The weights of {what} have the fingerprint {found}, expected {expected}. "
            "Check that the model's files and the stored deltas are those it was made from.",
            expected=expected,
            found=found,
            what=what,
        )


class HypernetworkMissing(EditFailed):
    """A method whose editor has to be trained, and was not for this model and these layers."""

    code = "hypernetwork-missing"

    def __init__(
        self, *, model: str, layers: Sequence[int], wanted: str | None, known: Sequence[str]
    ) -> None:
        which = "network" if wanted is None else f"network {wanted!r}"
        there = f" There is {', '.join(known)}; leave out `net` for the newest." if known else ""
        super().__init__(
            f"No trained {which} of mend is there for {model!r} and its layers "
            f"{', '.join(map(str, layers))}.{there} Train one with `errata train mend --model "
            f"SOURCE --data DIR`, with the cache folder of this worker.",
            model=model,
            layers=list(layers),
            net=wanted,
            known=list(known),
        )


class HypernetworkDamaged(EditFailed):
    """A trained network on disk that is not what was written there."""

    code = "hypernetwork-damaged"

    def __init__(self, *, net: str, path: str, why: str) -> None:
        super().__init__(
            f"The trained network {net} cannot be read: {why}. Remove {path}, and run the "
            "`errata train mend` again that made it, or name another one with `net`.",
            net=net,
            path=path,
        )


class TrainingDiverged(EditFailed):
    """A training whose gradients are not finite any more."""

    code = "training-diverged"

    def __init__(self, *, iteration: int) -> None:
        super().__init__(
            f"At iteration {iteration} the gradient of the network is not finite. Lower lr or "
            "alpha_lr of the recipe and train again.",
            iteration=iteration,
        )


class AlreadyTraining(EditFailed):
    """A network that another process is training."""

    code = "already-training"

    def __init__(self, *, run: str) -> None:
        super().__init__(
            f"Another process trains {run} already. Wait for it, or train another network by "
            "another recipe, seed or data.",
            run=run,
        )
