"""The one thread that touches the model.

    the next step of the order in hand -> waiting probes, as a batch -> the next step -> ...

With no order in hand it measures, a step of an eval at a time; an order that is announced comes
first, in the middle of whatever is measured. With no eval either it rests on a bell that the
listeners ring; after `poll_s` it looks into the journal by itself, so a Redis that forgets
everything costs at most that.
"""

import math
import time

from app.services.work import Fenced
from editing.step import Step
from workers.bell import Bell
from workers.evaluator import Evaluator
from workers.foreman import Foreman
from workers.herald import Herald
from workers.lease import Lease
from workers.patience import Pause
from workers.probes import Prober
from workers.pulse import Budgets, Pulse


class Loop:
    """Serves one model until it is asked to stop."""

    def __init__(
        self,
        *,
        foreman: Foreman,
        evaluator: Evaluator,
        prober: Prober,
        herald: Herald,
        lease: Lease,
        pulse: Pulse,
        bell: Bell,
        budgets: Budgets,
    ) -> None:
        self._foreman = foreman
        self._evaluator = evaluator
        self._evals = evaluator.evals()
        self._evals_rest_until = 0.0
        self._prober = prober
        self._herald = herald
        self._lease = lease
        self._pulse = pulse
        self._bell = bell
        self._budgets = budgets

    def run(self) -> None:
        """Return once asked to stop. Raises Fenced, and ModelNotFound when it was removed.

        The order and the eval in hand are left where they are: `put_back` gives each to the next
        worker.
        """
        orders = self._foreman.orders()
        budget = self._budgets.solve
        try:
            while not self._bell.stopping:
                self._hold()
                self._pulse.tick(budget)
                began = time.monotonic()
                said = next(orders)
                took = time.monotonic() - began
                # Behind the last step of a stage something longer may come; every step of a solve
                # may factor a metric or read the keys of a whole lineage.
                inside = isinstance(said, Step) and said.done < said.total and said.stage != "solve"
                budget = self._budgets.step if inside else self._budgets.solve
                self._tell(said)
                if isinstance(said, Pause):
                    self._answer(math.inf)
                    self._rest(said.seconds)
                else:
                    self._answer(took)
                    self._hear_a_stop()
        finally:
            orders.close()
            self._evals.close()

    def _rest(self, seconds: float) -> None:
        """Measure and answer probes until an order is announced or the time is over."""
        until = time.monotonic() + seconds
        self._evals_rest_until = 0.0  # perhaps it was an eval that was announced
        while not self._bell.stopping and not self._bell.take_order():
            self._hold()
            if time.monotonic() >= until:
                return
            if self._measured():
                continue
            left = max(min(until, self._evals_rest_until) - time.monotonic(), 0)
            self._pulse.tick(left + self._budgets.step)
            if not self._prober.busy:
                self._bell.wait(left)
            self._answer(math.inf)

    def _hear_a_stop(self) -> None:
        """Go on with the eval that an order has interrupted, if it is to stop: that is soon done.

        Else whoever cancels it would wait for the end of the order, and of those behind it.
        """
        announced = self._bell.take_cancel("interrupted evals")
        if announced:  # perhaps that of the eval in hand
            self._evals_rest_until = 0.0
        if self._evaluator.in_hand and (announced or self._evaluator.stopping):
            self._measured()

    def _measured(self) -> bool:
        """Do one step of an eval, and answer the probes behind it; False where there is none."""
        if time.monotonic() < self._evals_rest_until:
            return False
        self._pulse.tick(self._budgets.solve)
        began = time.monotonic()
        said = next(self._evals)
        if isinstance(said, Pause):
            self._evals_rest_until = time.monotonic() + said.seconds
            return False
        self._answer(time.monotonic() - began)
        return True

    def _answer(self, seconds: float) -> None:
        """Answer probes; an order waits for one batch, and for more as long as its step took."""
        self._pulse.tick(self._budgets.solve)
        self._prober.answer(seconds)
        self._prober.go_on(0 if seconds == math.inf else seconds)

    def _tell(self, said: Step | Pause) -> None:
        order = self._foreman.in_hand
        if order is None:
            return
        if isinstance(said, Step):
            self._herald.progress(order.id, self._lease.epoch, said)
        elif said.why:
            self._herald.waiting(order.id, self._lease.epoch, said.why)

    def _hold(self) -> None:
        """Stop before anything else happens once the lease is another's."""
        if self._lease.lost.is_set():
            raise Fenced(self._lease.epoch)
