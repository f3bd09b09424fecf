"""The light client of Errata, which corrects facts inside a language model.

It keeps every state the model was in, and says what each correction moved. `errata up` starts the
server that this client talks to. docs/client.md is the guide.
"""

from errata.aio import AsyncClient
from errata.calls import Fact
from errata.client import Client
from errata.errors import ErrataError, OrderFailed, Refused, ServerNotRunning, WaitTimeout
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
    "Diff",
    "Editor",
    "ErrataError",
    "Event",
    "Fact",
    "Model",
    "Order",
    "OrderBrief",
    "OrderFailed",
    "Probe",
    "Progress",
    "Refused",
    "RestorePlan",
    "ServerNotRunning",
    "Snapshot",
    "Target",
    "Token",
    "WaitTimeout",
]
