"""What wakes the model thread when it rests."""

import threading


class Bell:
    """Rung by listeners, by the lease and by signals; waited for by the model thread alone.

    A Condition over a re-entrant lock: a signal handler runs in the model thread itself, perhaps
    while that thread holds the lock, and must be able to ring.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._rung = False
        self._order = False
        self._cancels = 0
        self._heard: dict[str, int] = {}
        self.stopping = False  # asked to put the work down

    def ring(self) -> None:
        """Something happened: a probe came, the lease is lost."""
        with self._condition:
            self._rung = True
            self._condition.notify_all()

    def ring_order(self) -> None:
        """Perhaps there is an order in the journal."""
        with self._condition:
            self._order = True
            self.ring()

    def ring_cancel(self) -> None:
        """Somebody wants an order or an eval to stop; perhaps that which is in hand, and waits."""
        with self._condition:
            self._cancels += 1
            self.ring_order()

    def ring_stop(self) -> None:
        """The process is asked to end."""
        self.stopping = True
        self.ring()

    def wait(self, seconds: float) -> None:
        """Rest until rung, or until the time is over."""
        with self._condition:
            if not self._rung:
                self._condition.wait(seconds)
            self._rung = False

    def take_order(self) -> bool:
        """Whether an order was announced since the last call."""
        with self._condition:
            order, self._order = self._order, False
            return order

    def take_cancel(self, listener: str = "orders") -> bool:
        """Whether a cancel was announced since this listener asked last."""
        with self._condition:
            heard, self._heard[listener] = self._heard.get(listener, 0), self._cancels
            return heard < self._cancels
