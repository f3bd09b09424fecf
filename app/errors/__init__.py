"""Everything that can go wrong in the service, beside what `editing.errors` says.

ServiceError
  NotFound
    ModelNotFound  EditNotFound  SnapshotNotFound  EvalNotFound  PlotNotFound
    SnapshotNotMeasured
  WrongInput                          the caller can mend it
    ModelRequired  NoRequests  KeyReused  BadHeader  UnknownParameter
    SnapshotOfAnotherModel  EditOfAnotherModel  SourceNotAllowed  SourceNotFound  BadModelId
    CannotCompact
    NoRecords  DataNotAllowed  DataNotFound  NoEditorNeeded  BadMatch  AnswerRequired
  Conflict                            true of the world, not of the request alone
    ModelExists  ModelFailed  KeyInFlight  OrderSettled  EditNotLive  NothingToCompact
    LabelTaken  GuardBreached
    EvalSettled  NothingMeasured  CasesChanged  TooManyRows
  HeadMoved                           If-Match names another snapshot than the head
  Poisoned                            the worker died in every attempt at an order
  QueueFull                           too many orders wait already
  Unavailable                         try again
    ModelNotReady  QueueUnavailable  ProbeTimedOut
  UnknownQuestion                     the worker is older than the API
  Refused                             a worker's own no, with the code it gave
  BlobMissing  BlobDamaged            the store lost or changed what was put into it

An error carries its fields and says what to do next. No error here knows a status code:
app/api/problems.py gives each of them one.
"""

from .asked import (
    AnswerRequired,
    BadHeader,
    BadModelId,
    CannotCompact,
    EditNotFound,
    EditOfAnotherModel,
    KeyReused,
    ModelNotFound,
    ModelRequired,
    NoRequests,
    SnapshotNotFound,
    SnapshotOfAnotherModel,
    SourceNotAllowed,
    SourceNotFound,
    UnknownParameter,
)
from .base import (
    Conflict,
    Json,
    NotFound,
    ServiceError,
    Unavailable,
    WrongInput,
    as_error,
)
from .of_evals import (
    BadMatch,
    CasesChanged,
    DataNotAllowed,
    DataNotFound,
    EvalNotFound,
    EvalSettled,
    NoEditorNeeded,
    NoRecords,
    NothingMeasured,
    PlotNotFound,
    SnapshotNotMeasured,
    TooManyRows,
)
from .world import (
    BlobDamaged,
    BlobMissing,
    EditNotLive,
    GuardBreached,
    HeadMoved,
    KeyInFlight,
    LabelTaken,
    ModelExists,
    ModelFailed,
    ModelNotReady,
    NothingToCompact,
    OrderSettled,
    Poisoned,
    ProbeTimedOut,
    QueueFull,
    QueueUnavailable,
    Refused,
    UnknownQuestion,
)

__all__ = [
    "AnswerRequired",
    "BadHeader",
    "BadMatch",
    "BadModelId",
    "BlobDamaged",
    "BlobMissing",
    "CannotCompact",
    "CasesChanged",
    "Conflict",
    "DataNotAllowed",
    "DataNotFound",
    "EditNotFound",
    "EditNotLive",
    "EditOfAnotherModel",
    "EvalNotFound",
    "EvalSettled",
    "GuardBreached",
    "HeadMoved",
    "Json",
    "KeyInFlight",
    "KeyReused",
    "LabelTaken",
    "ModelExists",
    "ModelFailed",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRequired",
    "NoEditorNeeded",
    "NoRecords",
    "NoRequests",
    "NotFound",
    "NothingMeasured",
    "NothingToCompact",
    "OrderSettled",
    "PlotNotFound",
    "Poisoned",
    "ProbeTimedOut",
    "QueueFull",
    "QueueUnavailable",
    "Refused",
    "ServiceError",
    "SnapshotNotFound",
    "SnapshotNotMeasured",
    "SnapshotOfAnotherModel",
    "SourceNotAllowed",
    "SourceNotFound",
    "TooManyRows",
    "Unavailable",
    "UnknownParameter",
    "UnknownQuestion",
    "WrongInput",
    "as_error",
]
