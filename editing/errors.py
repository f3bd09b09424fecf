"""Everything that can go wrong in an edit.

EditingError
  BadRequest                      the caller can mend it
    SubjectSlotMissing
    EmptyField
    TargetTooLong
    TextTooLong
    NonFiniteValue
    SubjectNotFound
    TooManyRequests
    UnknownEditor
    UnknownHparam
    InvalidHparam
    BadSource
    UnsupportedArchitecture
  EditFailed                      the method could not do it
    SearchDiverged
      TargetNotReached
    LossDiverged
    NoNeurons
    SingularSystem
    NullSpaceTooSmall
    NonFiniteDelta
    NumericOverflow
    FingerprintMismatch
    HypernetworkMissing
    HypernetworkDamaged
    TrainingDiverged
    AlreadyTraining
  StatsMissing                    the operator can mend it: collect C for this model first
  BlobUnreadable                  bytes that are not what their name says

Every error carries a stable `code` and its `fields`; its text says what to do next. The core knows
no status codes: the service's one map gives each of these its own.
"""

from collections.abc import Sequence
from math import isfinite
from typing import ClassVar


class EditingError(Exception):
    """Base of every error raised by `editing`."""

    code: ClassVar[str] = "editing-error"

    def __init__(self, detail: str, **fields: object) -> None:
        super().__init__(detail)
        self.fields = fields


class BadRequest(EditingError):
    """The caller sent something that can be mended."""

    code = "bad-request"


class SubjectSlotMissing(BadRequest):
    """A prompt without exactly one `{}`."""

    code = "subject-slot-missing"

    def __init__(self, *, prompt: str) -> None:
        super().__init__(
            f"The prompt {prompt!r} has {prompt.count('{}')} slots for the subject. "
            "Write it with exactly one {}, for example '{} plays the sport of'.",
            prompt=prompt,
        )


class EmptyField(BadRequest):
    """A text that must say something says nothing."""

    code = "empty-field"

    def __init__(self, *, field: str) -> None:
        super().__init__(f"{field} is empty. Send a text with at least one letter.", field=field)


class TargetTooLong(BadRequest):
    """A target longer than the search can write."""

    code = "target-too-long"

    def __init__(self, *, target: str, length: int, limit: int, unit: str) -> None:
        super().__init__(
            f"The target {target[:40]!r}... has {length} {unit}; at most {limit} can be written. "
            "Shorten it to the words that carry the fact.",
            length=length,
            limit=limit,
            unit=unit,
        )


class TextTooLong(BadRequest):
    """A text with more tokens than the model has positions."""

    code = "text-too-long"

    def __init__(self, *, tokens: int, limit: int, preface: int = 0) -> None:
        behind = (
            f" {preface} of them are the preface that in-context edits put before every prompt: "
            "restore a snapshot with fewer of them, or write them into the weights."
        )
        super().__init__(
            f"The text and what should follow it take {tokens} tokens; this model has room for "
            f"{limit}. Shorten the text or ask for fewer tokens.{behind if preface else ''}",
            tokens=tokens,
            limit=limit,
            **({"preface": preface} if preface else {}),
        )


class NonFiniteValue(BadRequest):
    """NaN or infinity where a number was expected."""

    code = "non-finite-value"

    def __init__(self, *, field: str) -> None:
        super().__init__(f"{field} is not a finite number. Send a plain number.", field=field)


class SubjectNotFound(BadRequest):
    """The tokenizer lost the subject, so no position can be named."""

    code = "subject-not-found"

    def __init__(self, *, subject: str, text: str) -> None:
        super().__init__(
            f"No token of {text!r} covers the end of the subject {subject!r}. "
            "Check for characters that this model's tokenizer drops.",
            subject=subject,
        )


class TooManyRequests(BadRequest):
    """More facts in one order than a batch takes."""

    code = "too-many-requests"

    def __init__(self, *, count: int, limit: int) -> None:
        super().__init__(
            f"{count} requests in one order; at most {limit} are taken. Split them into orders.",
            count=count,
            limit=limit,
        )


class UnknownEditor(BadRequest):
    """A method that is not in the catalogue."""

    code = "unknown-editor"

    def __init__(self, name: str, *, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no editor {name!r}. Choose one of: {', '.join(known)}.",
            editor=name,
            known=list(known),
        )


class UnknownHparam(BadRequest):
    """A knob that the method does not have."""

    code = "unknown-hparam"

    def __init__(self, name: str, *, editor: str, known: Sequence[str]) -> None:
        super().__init__(
            f"The editor {editor!r} has no hparam {name!r}. It has: {', '.join(known)}.",
            hparam=name,
            editor=editor,
            known=list(known),
        )


class InvalidHparam(BadRequest):
    """A knob set to what it cannot be."""

    code = "invalid-hparam"

    def __init__(self, name: str, *, value: object, must: str) -> None:
        super().__init__(f"{name} = {value!r}: it must be {must}.", hparam=name, must=must)


class BadSource(BadRequest):
    """A model source that cannot be read."""

    code = "bad-source"

    def __init__(self, source: str, *, why: str) -> None:
        super().__init__(f"The model source {source!r} cannot be used: {why}", source=source)


class UnsupportedArchitecture(BadRequest):
    """A model in which nobody, and no inspection, found the one matrix to edit in each layer."""

    code = "unsupported-architecture"

    def __init__(self, model_type: str, *, why: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(
            f"Models of type {model_type!r} cannot be edited: {why} "
            "Use another model, or map this one by a row in editing/model/layout.py "
            "(docs/architectures.md says how).",
            model_type=model_type,
            candidates=list(candidates),
        )


class EditFailed(EditingError):
    """The method could not do what it was asked; the weights are as they were."""

    code = "edit-failed"


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


class StatsMissing(EditingError):
    """The second moment of a layer was never collected."""

    code = "stats-missing"

    def __init__(self, *, layer: int) -> None:
        super().__init__(
            f"The second moment of layer {layer} has not been collected for this model. "
            "Run editing.walk.prepare first.",
            layer=layer,
        )


class BlobUnreadable(EditingError):
    """Bytes that cannot be read as a delta or a checkpoint."""

    code = "blob-unreadable"

    def __init__(self, why: str) -> None:
        super().__init__(f"The stored bytes cannot be read: {why}. Restore them from a backup.")
