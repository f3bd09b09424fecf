"""What `AsyncClient` can have measured: the methods of `errata.measuring`, awaited."""

# ruff: noqa: ASYNC109 - a timeout is a parameter here because it is one of Client's

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from errata import eval_calls
from errata.calls import Call, Page
from errata.errors import Refused, Unreachable
from errata.eval_results import Eval, Forecast, Suite
from errata.health_results import Health
from errata.measuring import DAY, Looks, OnEval
from errata.results import Json, Model


class AsyncMeasures:
    """The methods of an async client that measure."""

    _send: Callable[[Call[Any]], Awaitable[Any]]
    _each: Callable[[Callable[[str | None], Call[Page[Any]]]], AsyncIterator[Any]]

    async def health(
        self, model: str, *, after: str | None = None, limit: int | None = None
    ) -> Health:
        """Tell how a model does, from what its promotions have measured.

        Lists are of at most `limit` edits and snapshots; `after`, an edit, shows older edits.
        """
        return await self._send(eval_calls.health(model, after, limit))

    async def set_guard(
        self, model: str, guard: Mapping[str, Any] | None, *, if_match: str | None = None
    ) -> Model:
        """Say what differs from the default guard of promotions; None: nothing does."""
        return await self._send(eval_calls.set_guard(model, guard, if_match))

    async def suites(self) -> list[Suite]:
        """List the kinds of measurement, each with a JSON schema of its options."""
        return await self._send(eval_calls.suites())

    async def evaluate(
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
        found = await self._send(eval_calls.evaluate(asked, records, idempotency_key))
        if not wait:
            return found
        found = await self.wait_eval(found.id, timeout=timeout, on_progress=on_progress)
        return eval_calls.finished(found)

    async def wait_eval(
        self, eval_id: str, *, timeout: float = DAY, on_progress: OnEval | None = None
    ) -> Eval:
        """Wait until an eval has ended, however it does. Raises EvalUnfinished."""
        looks = Looks(timeout, on_progress)
        while True:
            try:
                if looks.over(found := await self.eval(eval_id)):
                    return found
            except (Unreachable, Refused) as error:
                looks.away(error)
            await asyncio.sleep(looks.pause())

    async def eval(self, eval_id: str) -> Eval:
        """Look at one eval."""
        return await self._send(eval_calls.look(eval_id))

    def evals(
        self, *, model: str | None = None, suite: str | None = None, status: str | None = None
    ) -> AsyncIterator[Eval]:
        """Go through the evals, newest first, page by page."""
        filters = {"model": model, "suite": suite, "status": status}
        return self._each(lambda after: eval_calls.evals(filters, after))

    def eval_rows(
        self, eval_id: str, *, match: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Json]:
        """Go through what an eval has found; with `match`, only rows with these fields."""
        return self._each(lambda after: eval_calls.rows(eval_id, match, after))

    async def cancel_eval(self, eval_id: str) -> Eval:
        """Stop an eval between two of its steps; what it has measured stays."""
        try:
            return await self._send(eval_calls.cancel(eval_id))
        except Refused as error:
            if not eval_calls.cancelled_before(error):
                raise
            return await self.eval(eval_id)  # cancelled, perhaps by a try whose answer was lost

    async def plot(
        self,
        eval_id: str,
        name: str,
        *,
        format: str = "png",  # noqa: A002 - the API's word
        snapshot: str | None = None,
    ) -> bytes:
        """Draw one picture of an eval, as PNG or SVG; of the first of several snapshots."""
        return await self._send(eval_calls.plot(eval_id, name, format, snapshot))

    async def eval_report(self, eval_id: str) -> str:
        """Tell all of an eval on one HTML page."""
        return await self._send(eval_calls.report(eval_id))

    async def forecast(
        self,
        model: str,
        request: Mapping[str, Any],
        ripples: Sequence[Mapping[str, Any]] = (),
        *,
        snapshot: str | None = None,
    ) -> Forecast:
        """Say, before an edit is made, which questions it would move and which edits it meets."""
        return await self._send(eval_calls.forecast(model, request, ripples, snapshot))
