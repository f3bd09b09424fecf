"""What a client can have measured: evals, and forecasts of edits that were not made yet."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from errata import eval_calls, given
from errata.calls import Call, Page
from errata.errors import EvalUnfinished, Refused, Unreachable
from errata.eval_results import Eval, Forecast, Suite
from errata.health_results import Health
from errata.results import Json, Model
from errata.wire import BUSY, GATEWAYS

OnEval = Callable[[Eval], None]

DAY = 86_400.0  # seconds that one waits for an eval
RESTART = 300.0  # seconds for which one who waits takes a server that is away for one that restarts
FIRST_LOOK, LAST_LOOK = 0.2, 2.0  # seconds between two looks


class Looks:
    """When to look at an eval again, and when to give up."""

    def __init__(self, seconds: float, on_progress: OnEval | None) -> None:
        self._seconds = given.seconds("timeout", seconds)
        self._deadline = time.monotonic() + seconds
        self._tell = on_progress
        self._pause = FIRST_LOOK
        self._away_since: float | None = None

    def over(self, found: Eval) -> bool:
        """Say whether it has ended. Raises EvalUnfinished when it has not, and the time is over."""
        self._away_since = None
        if self._tell:
            self._tell(found)
        if not found.settled and time.monotonic() >= self._deadline:
            raise EvalUnfinished(found, self._seconds)
        return found.settled

    def away(self, error: Unreachable | Refused) -> None:
        """Take that nobody answered: an eval outlives its server. Raises the error in the end.

        A refusal counts as no answer where it says so: Postgres away, a proxy without a server.
        """
        if isinstance(error, Refused) and error.status not in {*BUSY, *GATEWAYS}:
            raise error
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since >= RESTART or now >= self._deadline:
            raise error

    def pause(self) -> float:
        """Give the pause before the next look."""
        pause = min(self._pause, max(self._deadline - time.monotonic(), 0))
        self._pause = min(self._pause * 1.5, LAST_LOOK)
        return pause


class Measures:
    """The methods of a client that measure."""

    _send: Callable[[Call[Any]], Any]
    _each: Callable[[Callable[[str | None], Call[Page[Any]]]], Iterator[Any]]

    def health(self, model: str, *, after: str | None = None, limit: int | None = None) -> Health:
        """Tell how a model does, from what its promotions have measured.

        Lists are of at most `limit` edits and snapshots; `after`, an edit, shows older edits.
        """
        return self._send(eval_calls.health(model, after, limit))

    def set_guard(
        self, model: str, guard: Mapping[str, Any] | None, *, if_match: str | None = None
    ) -> Model:
        """Say what differs from the default guard of promotions; None: nothing does."""
        return self._send(eval_calls.set_guard(model, guard, if_match))

    def suites(self) -> list[Suite]:
        """List the kinds of measurement, each with a JSON schema of its options."""
        return self._send(eval_calls.suites())

    def evaluate(
        self,
        suite: str,
        *,
        model: str | None = None,
        snapshot: str | None = None,
        snapshots: Sequence[str] | None = None,
        editor: str | None = None,
        hparams: Mapping[str, Any] | None = None,
        data: str | Mapping[str, Any] | None = None,
        records: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout: float = DAY,
        on_progress: OnEval | None = None,
    ) -> Eval:
        """Have a snapshot measured: on a dataset of the server, `data`, or on `records`.

        Changes nothing. Raises EvalFailed, EvalUnfinished.
        """
        asked = eval_calls.order_of(
            suite,
            model=model,
            snapshot=snapshot,
            snapshots=snapshots,
            editor=editor,
            hparams=hparams,
            data=data,
            options=options,
        )
        found = self._send(eval_calls.evaluate(asked, records, idempotency_key))
        if not wait:
            return found
        found = self.wait_eval(found.id, timeout=timeout, on_progress=on_progress)
        return eval_calls.finished(found)

    def wait_eval(
        self, eval_id: str, *, timeout: float = DAY, on_progress: OnEval | None = None
    ) -> Eval:
        """Wait until an eval has ended, however it does. Raises EvalUnfinished."""
        looks = Looks(timeout, on_progress)
        while True:
            try:
                if looks.over(found := self.eval(eval_id)):
                    return found
            except (Unreachable, Refused) as error:
                looks.away(error)
            time.sleep(looks.pause())

    def eval(self, eval_id: str) -> Eval:
        """Look at one eval."""
        return self._send(eval_calls.look(eval_id))

    def evals(
        self, *, model: str | None = None, suite: str | None = None, status: str | None = None
    ) -> Iterator[Eval]:
        """Go through the evals, newest first, page by page."""
        filters = {"model": model, "suite": suite, "status": status}
        return self._each(lambda after: eval_calls.evals(filters, after))

    def eval_rows(self, eval_id: str, *, match: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """Go through what an eval has found; with `match`, only rows with these fields."""
        return self._each(lambda after: eval_calls.rows(eval_id, match, after))

    def cancel_eval(self, eval_id: str) -> Eval:
        """Stop an eval between two of its steps; what it has measured stays."""
        try:
            return self._send(eval_calls.cancel(eval_id))
        except Refused as error:
            if not eval_calls.cancelled_before(error):
                raise
            return self.eval(eval_id)  # cancelled, perhaps by a try whose answer was lost

    def plot(
        self,
        eval_id: str,
        name: str,
        *,
        format: str = "png",  # noqa: A002 - the API's word
        snapshot: str | None = None,
    ) -> bytes:
        """Draw one picture of an eval, as PNG or SVG; of the first of several snapshots."""
        return self._send(eval_calls.plot(eval_id, name, format, snapshot))

    def eval_report(self, eval_id: str) -> str:
        """Tell all of an eval on one HTML page."""
        return self._send(eval_calls.report(eval_id))

    def forecast(
        self,
        model: str,
        request: Mapping[str, Any],
        ripples: Sequence[Mapping[str, Any]] = (),
        *,
        snapshot: str | None = None,
    ) -> Forecast:
        """Say, before an edit is made, which questions it would move and which edits it meets."""
        return self._send(eval_calls.forecast(model, request, ripples, snapshot))
