"""What a ripple benchmark asks: an edit, and tests that should follow from it or stay as they were.

A case is one edit with its tests; a test is one or more queries of one criterion, which count under
conditions that the unedited model must answer. Standard library only.
"""

from dataclasses import dataclass, field
from typing import Literal

from editing.errors import BadRecord
from editing.request import EditRequest

PROPAGATE = (
    "logical_generalization",
    "compositionality_i",
    "compositionality_ii",
    "subject_aliasing",
)
PRESERVE = ("preservation", "relation_specificity")
CRITERIA = (*PROPAGATE, *PRESERVE)
REASONING = "reasoning"  # either compositionality, where a record does not say which
UNNAMED = "unnamed"  # of a query in a request that names no criterion
DATASET = "ripple"

Condition = Literal["and", "or"]
Form = Literal["native", "knowedit", "request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RippleQuery:
    """A question, and what answers it: groups, each one value with its aliases, value first."""

    prompt: str
    answers: tuple[tuple[str, ...], ...]

    @property
    def answer(self) -> str:
        """The first value's own name."""
        return self.answers[0][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RippleTest:
    """Passed where all ("and") or any ("or") of its queries are answered.

    It counts only where the unedited model answers every one of its conditions.
    """

    criterion: str  # of CRITERIA, or REASONING, or UNNAMED
    queries: tuple[RippleQuery, ...]
    condition: Condition = "or"
    conditions: tuple[RippleQuery, ...] = ()

    @property
    def preserves(self) -> bool:
        """Whether it asks for what must stay, not for what should follow."""
        return self.criterion in PRESERVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """What a record holds and nothing can be measured by, and why."""

    why: str
    criterion: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RippleCase:
    """One edit with its tests.

    `edit` is None where the record's edit cannot be told (`why` says so): `request` then raises,
    so that the case is counted as failed and the others go on.
    """

    number: int  # of the record, from 0
    form: Form
    edit: EditRequest | None
    why: str = ""
    tests: tuple[RippleTest, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    split: str | None = None  # RippleEdits' popular, random, recent
    aliases: tuple[str, ...] = field(default=())  # other names of the new target

    @property
    def request(self) -> EditRequest:
        """The edit. Raises BadRecord where it cannot be told."""
        if self.edit is None:
            raise BadRecord(self.number, why=self.why, dataset=DATASET)
        return self.edit
