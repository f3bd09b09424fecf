"""Everything that can go wrong in an edit.

EditingError
  BadRequest                      the caller can mend it
    SubjectSlotMissing
    EmptyField
    TargetTooLong
    TextTooLong
    NonFiniteValue
    SubjectNotFound
    NotInWeights
    TooManyRequests
    UnknownEditor
    UnknownHparam
    InvalidHparam
    InvalidGuard
    UnknownSuite
    UnknownDataset
    BadRecord
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

from .asked import (
    BadRecord,
    BadSource,
    EmptyField,
    InvalidGuard,
    InvalidHparam,
    NonFiniteValue,
    NotInWeights,
    SubjectNotFound,
    SubjectSlotMissing,
    TargetTooLong,
    TextTooLong,
    TooManyRequests,
    UnknownDataset,
    UnknownEditor,
    UnknownHparam,
    UnknownSuite,
    UnsupportedArchitecture,
)
from .base import (
    BadRequest,
    BlobUnreadable,
    EditFailed,
    EditingError,
    StatsMissing,
)
from .failed import (
    AlreadyTraining,
    FactsInConflict,
    FingerprintMismatch,
    HypernetworkDamaged,
    HypernetworkMissing,
    LossDiverged,
    NoNeurons,
    NonFiniteDelta,
    NullSpaceTooSmall,
    NumericOverflow,
    SearchDiverged,
    SingularSystem,
    TargetNotReached,
    TrainingDiverged,
)

__all__ = [
    "AlreadyTraining",
    "BadRecord",
    "BadRequest",
    "BadSource",
    "BlobUnreadable",
    "EditFailed",
    "EditingError",
    "EmptyField",
    "FactsInConflict",
    "FingerprintMismatch",
    "HypernetworkDamaged",
    "HypernetworkMissing",
    "InvalidGuard",
    "InvalidHparam",
    "LossDiverged",
    "NoNeurons",
    "NonFiniteDelta",
    "NonFiniteValue",
    "NotInWeights",
    "NullSpaceTooSmall",
    "NumericOverflow",
    "SearchDiverged",
    "SingularSystem",
    "StatsMissing",
    "SubjectNotFound",
    "SubjectSlotMissing",
    "TargetNotReached",
    "TargetTooLong",
    "TextTooLong",
    "TooManyRequests",
    "TrainingDiverged",
    "UnknownDataset",
    "UnknownEditor",
    "UnknownHparam",
    "UnknownSuite",
    "UnsupportedArchitecture",
]
