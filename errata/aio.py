"""The client for programs that do other things meanwhile: `errata.Client`, awaited.

    async with errata.AsyncClient() as client:
        fact = {"subject": "France", "prompt": "The capital of {} is", "target_new": "Lyon"}
        order = await client.edit(**fact)

For asyncio. The methods are those of `Client`, one by one; a test compares them.
"""

# ruff: noqa: ASYNC109 - a timeout is a parameter here because it is one of Client's

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from errata import calls, given, wire
from errata.aio_measuring import AsyncMeasures
from errata.calls import Call, Fact, Page, Terms
from errata.client import LONG, PATIENCE, TIMEOUT
from errata.errors import ErrataError, Refused
from errata.following import BROKEN, SILENCE, OnProgress, Tail, Waiting, applied
from errata.results import (
    Diff,
    Editor,
    Model,
    Order,
    Probe,
    RestorePlan,
    Snapshot,
)
from errata.sse import Event

T = TypeVar("T")


class AsyncClient(AsyncMeasures):
    """A connection to one server. The address is given, or ERRATA_URL, or this machine's."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = wire.address(base_url)
        self.base_url = str(url)
        self._timeout = timeout
        self._patience = given.seconds("patience", patience)
        self._http = httpx.AsyncClient(**wire.options(url, timeout), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --- models ----------------------------------------------------------------------------------

    async def models(self) -> list[Model]:
        """List the registered models."""
        return [each async for each in self._each(calls.models)]

    async def model(self, model: str) -> Model:
        """Look at one model: its source, status, head and fingerprint."""
        return await self._send(calls.model(model))

    async def model_if_moved(self, model: str, head: str) -> Model | None:
        """Look at one model; None when its head is `head` still."""
        return await self._send(calls.model_if_moved(model, head))

    async def register_model(
        self,
        source: str | Mapping[str, Any],
        *,
        id: str | None = None,  # noqa: A002 - the API's word
        guard: Mapping[str, Any] | None = None,
    ) -> Model:
        """Register a model: a name, `hub:org/name@revision`, a folder, or a GGUF file."""
        return await self._send(calls.register_model(source, id, guard))

    async def remove_model(self, model: str) -> None:
        """Take a model out of service."""
        await self._send(calls.remove_model(model))

    async def editors(self) -> list[Editor]:
        """List the editors, each with its paper and a JSON schema of its hparams."""
        return await self._send(calls.editors())

    async def probe(
        self,
        model: str,
        prompts: str | Sequence[str],
        *,
        targets: Sequence[str] | None = None,
        snapshot: str | None = None,
        compare: str | None = None,
        answer: str | None = None,
        edit: str | None = None,
        top_k: int | None = None,
        max_tokens: int | None = None,
    ) -> list[Probe]:
        """Ask the model, one answer for each prompt; also as it was at an older snapshot.

        With `answer`, of one prompt: how that answer hangs together with `edit`, or with the last
        live ones, as `gradsim` and `ripple`.
        """
        asked = {
            "targets": list(targets) if targets else None,
            "snapshot": snapshot,
            "compare": compare,
            "edit": edit,
            "top_k": top_k,
            "max_tokens": max_tokens,
        }
        return await self._send(calls.probe(model, prompts, answer, asked))

    # --- orders ----------------------------------------------------------------------------------

    async def edit(
        self,
        *,
        model: str | None = None,
        editor: str | None = None,
        requests: Sequence[Mapping[str, Any]] | None = None,
        hparams: Mapping[str, Any] | None = None,
        guard: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout: float = LONG,
        on_progress: OnProgress | None = None,
        **fact: Unpack[Fact],
    ) -> Order:
        """Write a fact, given by keyword, or several as one batch, given as `requests`.

        `guard` says what of the model's guard is different for it. `dry_run` measures the edit and
        writes nothing. Without `wait` the order is given as soon as it is in the journal. Raises
        OrderFailed, WaitTimeout.
        """
        asked = {
            "model": model,
            "editor": editor,
            "hparams": calls.hparams(hparams),
            "guard": calls.guard(guard),
            "dry_run": dry_run or None,
        }
        waiting = Waiting(timeout, on_progress, holds=wait)
        terms = Terms(if_match=if_match, key=idempotency_key, hold=waiting.hold)
        order = await self._send(calls.edit(asked, fact, requests, terms))
        return applied(await self._wait(order, waiting)) if wait else order

    async def restore(
        self,
        snapshot: str,
        *,
        model: str | None = None,
        cancel_queued: bool = False,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout: float = LONG,
        on_progress: OnProgress | None = None,
    ) -> Order:
        """Make the content of an older snapshot the head again, after what is queued already.

        `cancel_queued` cancels what is queued instead. Raises OrderFailed, WaitTimeout.
        """
        asked = {"model": model, "cancel_queued": cancel_queued or None}
        waiting = Waiting(timeout, on_progress, holds=wait)
        terms = Terms(if_match=if_match, key=idempotency_key, hold=waiting.hold)
        order = await self._send(calls.restore(snapshot, asked, terms))
        return applied(await self._wait(order, waiting)) if wait else order

    async def retract(
        self,
        edit: str,
        *,
        dry_run: bool = False,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout: float = LONG,
        on_progress: OnProgress | None = None,
    ) -> Order:
        """Take one edit out of the model and keep the later ones. Raises OrderFailed, WaitTimeout.

        Its report says how: `exact`, what there would be without it, or `dropped`.
        """
        waiting = Waiting(timeout, on_progress, holds=wait)
        terms = Terms(if_match=if_match, key=idempotency_key, hold=waiting.hold)
        order = await self._send(calls.retract(edit, {"dry_run": dry_run or None}, terms))
        return applied(await self._wait(order, waiting)) if wait else order

    async def compact(
        self,
        model: str,
        *,
        hparams: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout: float = LONG,
        on_progress: OnProgress | None = None,
    ) -> Order:
        """Solve all live facts of the ledger anew, as one delta. Raises OrderFailed, WaitTimeout.

        The edits stay live. The report says what that gained: `report["compact"]`.
        """
        asked = {"hparams": calls.hparams(hparams), "dry_run": dry_run or None}
        waiting = Waiting(timeout, on_progress, holds=wait)
        terms = Terms(if_match=if_match, key=idempotency_key, hold=waiting.hold)
        order = await self._send(calls.compact(model, asked, terms))
        return applied(await self._wait(order, waiting)) if wait else order

    async def plan_restore(
        self, snapshot: str, *, model: str | None = None, cancel_queued: bool = False
    ) -> RestorePlan:
        """Ask what a restore would undo and bring back (its `dry_run`). Nothing is ordered."""
        asked = {"model": model, "cancel_queued": cancel_queued or None}
        return await self._send(calls.plan_restore(snapshot, asked))

    async def statistics(
        self,
        model: str,
        *,
        editor: str | None = None,
        hparams: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout: float = LONG,
        on_progress: OnProgress | None = None,
    ) -> Order:
        """Prepare what an editor needs ahead of its first edit. Raises OrderFailed, WaitTimeout."""
        asked = {"editor": editor, "hparams": calls.hparams(hparams)}
        waiting = Waiting(timeout, on_progress, holds=wait)
        terms = Terms(key=idempotency_key, hold=waiting.hold)
        order = await self._send(calls.statistics(model, asked, terms))
        return applied(await self._wait(order, waiting)) if wait else order

    async def cancel(self, edit: str, *, wait: bool = True, timeout: float = LONG) -> Order:
        """Take an order back: at once if it is queued, between two steps if it runs.

        Gives the order as it ended: it may have been applied before the worker heard of it.
        Refused with `order-settled` when it ended otherwise before. Raises WaitTimeout.
        """
        waiting = Waiting(timeout, None, holds=wait)
        asked = False
        while True:
            try:
                order = await self._send(calls.cancel(edit, waiting.hold_briefly()))
            except Refused as error:
                if not (calls.settled_before(error) if asked else calls.cancelled_before(error)):
                    raise
                order = await self.order(edit)
            if not wait or waiting.over(order):
                return order
            # Asked again: its worker may have died with it in hand, and then asking cancels it.
            asked = True
            await asyncio.sleep(waiting.pause())

    async def order(self, edit: str) -> Order:
        """Look at one order."""
        return await self._send(calls.order(edit))

    def edits(
        self,
        *,
        model: str | None = None,
        status: str | None = None,
        subject: str | None = None,
    ) -> AsyncIterator[Order]:
        """Go through the orders, newest first, page by page."""
        filters = {"model": model, "status": status, "subject": subject}
        return self._each(lambda after: calls.edits(filters, after))

    async def wait(
        self, edit: str, *, timeout: float = LONG, on_progress: OnProgress | None = None
    ) -> Order:
        """Wait until an order is settled, however it ends, and give it. Raises WaitTimeout."""
        waiting = Waiting(timeout, on_progress)
        return await self._wait(await self.order(edit), waiting)

    async def events(self, edit: str) -> AsyncIterator[Event]:
        """Follow an order: its events as they happen, until it is settled.

        A connection that breaks is made again, and goes on where it broke.
        """
        tail = Tail(self.base_url, edit, self._patience)
        while not tail.finished:
            ended: httpx.HTTPError | None = None
            try:
                async with aclosing(self._listen(tail, wire.timeouts(SILENCE))) as events:
                    async for event in events:
                        yield event
            except BROKEN as error:
                ended = error
            if not tail.finished:
                await asyncio.sleep(tail.ended(ended))

    # --- snapshots -------------------------------------------------------------------------------

    async def snapshots(self, model: str) -> list[Snapshot]:
        """List the snapshots of a model, newest first."""
        return [each async for each in self._each(lambda after: calls.snapshots(model, after))]

    async def snapshot(self, snapshot: str) -> Snapshot:
        """Look at one snapshot."""
        return await self._send(calls.snapshot(snapshot))

    async def label(self, snapshot: str, label: str | None) -> Snapshot:
        """Name a snapshot; None takes its name away."""
        return await self._send(calls.label(snapshot, label))

    async def diff(self, snapshot: str, to: str | None = None) -> Diff:
        """Tell which edits lie between two snapshots; the second is the head when left out."""
        return await self._send(calls.diff(snapshot, to))

    # --- the network -----------------------------------------------------------------------------

    async def _send(self, call: Call[T]) -> T:
        attempts = wire.Attempts(self.base_url, self._patience, repeatable=call.repeatable)
        request = wire.request(self._http, call, self._timeout)
        while True:
            try:
                response = await self._http.send(request)
            except httpx.HTTPError as error:
                pause = attempts.after(error)
            else:
                if wire.good(response):
                    return wire.answer(call, response, self.base_url)
                pause = attempts.refused(response)
            await asyncio.sleep(pause)

    async def _each(self, page: Callable[[str | None], Call[Page[T]]]) -> AsyncIterator[T]:
        after: str | None = None
        pages = wire.Pages(self.base_url)
        while True:
            part = await self._send(page(after))
            for each in part.data:
                yield each
            if (after := pages.after(part)) is None:
                return

    async def _wait(self, order: Order, waiting: Waiting) -> Order:
        tail = Tail(self.base_url, order.id, self._patience)
        while not waiting.over(order):
            try:
                async with aclosing(self._listen(tail, waiting.timeouts())) as events:
                    async for event in events:
                        if not waiting.hears(event):
                            break
            except (*BROKEN, ErrataError) as error:
                waiting.silent(error)
            await asyncio.sleep(waiting.pause())
            order = await self.order(order.id)
        return order

    async def _listen(self, tail: Tail, timeout: httpx.Timeout) -> AsyncGenerator[Event]:
        """Give the events of one connection, until it ends."""
        wire.require_open(self._http)
        async with self._http.stream(
            "GET", tail.path, headers=tail.headers(), timeout=timeout
        ) as response:
            if not response.is_success:
                await response.aread()
                await asyncio.sleep(tail.refused(response))
                return
            async for line in response.aiter_lines():
                if event := tail.feed(line):
                    yield event
