"""Following an order to its end: what to ask next, and when to give up. Sends nothing."""

import time
from collections.abc import Callable
from dataclasses import replace

import httpx

from errata import given
from errata.calls import LONGEST_HOLD, events_path
from errata.errors import OrderFailed, WaitTimeout
from errata.results import Order, Progress
from errata.sse import Event, Parser
from errata.wire import CONNECTING, CUT_OFF, NOT_SENT, Attempts

OnProgress = Callable[[Order], None]

LAST = frozenset({"edit.settled", "edit.failed"})  # the events after which there are no more
SILENCE = 45.0  # seconds; the server says something every 15, so the connection is dead
AGAIN = 5.0  # seconds after which a cancel that has not come through is asked for again
GLANCE = 2.0  # seconds of silence after which one who waits looks at the order itself
FIRST_LOOK, LAST_LOOK = 0.05, 1.0  # seconds between two looks where events cannot be had
# What may end a stream without meaning anything but that it ended.
BROKEN = (*NOT_SENT, *CUT_OFF, httpx.TimeoutException)


def applied(order: Order) -> Order:
    """Give a settled order if it was applied. Raises OrderFailed."""
    if not order.applied:
        raise OrderFailed(order)
    return order


class Tail:
    """The events of one order over as many connections as it takes."""

    def __init__(self, url: str, edit: str, patience: float) -> None:
        self.path = events_path(edit)
        self.finished = False  # the last event was seen
        self._url = url
        self._patience = patience
        self._parser = Parser()
        self._attempts = Attempts(url, patience, repeatable=True)

    def headers(self) -> dict[str, str]:
        """Give the headers of the next connection: it goes on where the last one ended."""
        last = self._parser.last_id
        self._parser = Parser(last)  # half an event is sent again as a whole
        known = {"Last-Event-ID": last} if last and last.isdecimal() and last.isascii() else {}
        return {"Accept": "text/event-stream"} | known

    def feed(self, line: str) -> Event | None:
        """Take a line of the stream; give an event when it is whole."""
        event = self._parser.feed(line)
        if event:
            self.finished = event.name in LAST
            self._attempts = Attempts(self._url, self._patience, repeatable=True)
        return event

    def refused(self, response: httpx.Response) -> float:
        """Give the pause after a refused connection. Raises Refused when it is refused for good."""
        return self._attempts.refused(response)

    def ended(self, error: httpx.HTTPError | None) -> float:
        """Give the pause before the next connection. Raises Unreachable when patience ends."""
        ended = error or httpx.RemoteProtocolError("the server ended the stream: disconnected")
        if isinstance(ended, httpx.ReadTimeout):
            ended = httpx.ReadError("nothing was heard for too long")
        return self._attempts.after(ended)


class Waiting:
    """One wait for one order: tells of progress, and gives up in time."""

    def __init__(
        self, seconds: float, on_progress: OnProgress | None, *, holds: bool = False
    ) -> None:
        self._seconds = given.seconds("timeout", seconds)
        self._deadline = time.monotonic() + seconds
        self._on_progress = on_progress
        self._order: Order | None = None
        self._pause = FIRST_LOOK
        self._heard = False
        # Held back, the answer comes when the order is settled; but nothing tells of progress.
        self.hold = min(seconds, LONGEST_HOLD) if holds and not on_progress else 0.0

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._deadline - time.monotonic())

    def over(self, order: Order) -> bool:
        """Say whether it is settled. Raises WaitTimeout when it is not, and the time is over."""
        if order.settled:
            return True
        if not self.left:
            raise WaitTimeout(order, self._seconds)
        if self._on_progress and order != self._order:
            self._on_progress(order)
        self._order = order
        return False

    def hold_briefly(self) -> float:
        """Give for how long an answer may be held back when one asks again after it."""
        return min(self.left, AGAIN) if self.hold else 0.0

    def hears(self, event: Event) -> bool:
        """Take an event of the order; say whether to listen on."""
        self._heard = True
        if event.name == "edit.progress" and isinstance(event.data, dict) and self._order:
            self._order = replace(self._order, status="running", progress=Progress.of(event.data))
            if self._on_progress:
                self._on_progress(self._order)
        return event.name not in LAST and self.left > 0

    def silent(self, error: Exception) -> None:
        """Take that the stream broke, or that it was silent for a while."""
        self._heard = isinstance(error, httpx.ReadTimeout)

    def timeouts(self) -> httpx.Timeout:
        """Give the limits of the next connection to the events."""
        return httpx.Timeout(min(self.left, GLANCE) + 0.01, connect=CONNECTING)

    def pause(self) -> float:
        """Give the pause before the next look; none where a stream has said when to look."""
        if self._heard:
            self._heard, self._pause = False, FIRST_LOOK
            return 0.0
        pause = min(self._pause, self.left)
        self._pause = min(self._pause * 1.5, LAST_LOOK)
        return pause
