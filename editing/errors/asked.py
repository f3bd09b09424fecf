"""What the caller can mend: errors of requests, hparams and models."""

from collections.abc import Sequence

from .base import BadRequest


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


class NotInWeights(BadRequest):
    """A state that says more than its weights, where only weights can be taken along."""

    code = "not-in-weights"

    def __init__(self, *, entries: int, preface: int) -> None:
        beside = [
            *([f"{entries} entries of a memory"] if entries else []),
            *([f"a preface of {preface} characters"] if preface else []),
        ]
        super().__init__(
            f"Beside the weights stand {' and '.join(beside)}, which no file of weights can hold. "
            "Retract the edits of `memory` and `ike` and write their facts with an editor that "
            "changes weights, or export an earlier snapshot.",
            entries=entries,
            preface=preface,
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


class UnknownSuite(BadRequest):
    """An eval of a kind that is not in the catalogue."""

    code = "unknown-suite"

    def __init__(self, suite: str, *, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no suite {suite!r}. Known: {', '.join(known)}.",
            suite=suite,
            known=list(known),
        )


class UnknownDataset(BadRequest):
    """A dataset that is not in the catalogue."""

    code = "unknown-dataset"

    def __init__(self, dataset: str, *, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no dataset {dataset!r}. Known: {', '.join(known)}.",
            dataset=dataset,
            known=list(known),
        )


class BadRecord(BadRequest):
    """A record of a dataset that cannot be read, or that says nothing that could be measured."""

    code = "bad-record"

    def __init__(self, number: int, *, why: str, dataset: str) -> None:
        super().__init__(
            f"Record {number} is no record of {dataset}: {why} "
            "Mend it, leave it out, or name the dataset that it is of.",
            record=number,
            dataset=dataset,
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


class InvalidGuard(BadRequest):
    """A guard with a word that it does not have, or a threshold that it cannot take."""

    code = "invalid-guard"

    def __init__(self, why: str, *, field: str, known: Sequence[str]) -> None:
        super().__init__(
            f"The guard cannot be used. {why}. It has {', '.join(known)}: mend it, or leave it "
            "out for the defaults (docs/guard.md).",
            field=field,
            known=list(known),
        )


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
