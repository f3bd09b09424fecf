"""The light client of Errata, which corrects facts inside a language model.

It keeps every state the model was in, and says what each correction moved. `errata up` starts the
server that this client talks to.
"""

from errata.client import Client
from errata.errors import ErrataError, OrderFailed, ServerNotRunning, WaitTimeout
from errata.sse import Event

__all__ = ["Client", "ErrataError", "Event", "OrderFailed", "ServerNotRunning", "WaitTimeout"]
