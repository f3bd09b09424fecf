"""The light client of Errata, which corrects facts inside a language model.

It keeps every state the model was in, and says what each correction moved. `errata up` starts the
server that this client talks to. docs/client.md is the guide.
"""

from errata.aio import AsyncClient
from errata.calls import Fact
from errata.client import Client
from errata.errors import (
    ErrataError,
    EvalFailed,
    OrderFailed,
    Refused,
    ServerNotRunning,
    WaitTimeout,
)
from errata.eval_results import Collision, Eval, Forecast, Foreseen, Suite
from errata.health_results import Health, Member, Promotion
from errata.results import (
    Diff,
    Editor,
    Model,
    Order,
    OrderBrief,
    Probe,
    Progress,
    RestorePlan,
    Snapshot,
    Target,
    Token,
)
from errata.sse import Event

__all__ = [
    "AsyncClient",
    "Client",
    "Collision",
    "Diff",
    "Editor",
    "ErrataError",
    "Eval",
    "EvalFailed",
    "Event",
    "Fact",
    "Forecast",
    "Foreseen",
    "Health",
    "Member",
    "Model",
    "Order",
    "OrderBrief",
    "OrderFailed",
    "Probe",
    "Progress",
    "Promotion",
    "Refused",
    "RestorePlan",
    "ServerNotRunning",
    "Snapshot",
    "Suite",
    "Target",
    "Token",
    "WaitTimeout",
]
