"""The client: what a Python program imports to correct facts in a model that a server holds.

    with errata.Client() as client:
        client.edit(model="smollm2-135m", editor="memit", subject="France",
                    prompt="The capital of {} is", target_new="Lyon")

Answers are the JSON of the API, as dictionaries. It knows nothing of torch or of databases.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from errata.errors import OrderFailed, ServerNotRunning, WaitTimeout
from errata.sse import Event, parse
from errata.transport import CUT_OFF, PAUSES, Transport, problem_of

Json = dict[str, Any]

DEFAULT_URL = "http://127.0.0.1:8642"
SETTLED = frozenset({"applied", "failed", "rejected", "cancelled"})
PAGE = 100
FIRST_LOOK, LAST_LOOK = 0.05, 1.0  # seconds between two looks at an order that is not settled


class Client:
    """A connection to one server. The address is given, or ERRATA_URL, or this machine's."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout: float = 60.0,
        pauses: Sequence[float] = PAUSES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        url = base_url or os.environ.get("ERRATA_URL") or DEFAULT_URL
        self._transport = Transport(url, timeout=timeout, pauses=pauses, transport=transport)
        self.base_url = self._transport.base_url

    def __enter__(self) -> Self:
        """Give the client; its connections are closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # --- models ------------------------------------------------------------------------------

    def models(self) -> list[Json]:
        """List the registered models."""
        return list(self._pages("/models"))

    def model(self, model: str) -> Json:
        """Look at one model: its source, status, head and fingerprint."""
        return self._get(f"/models/{model}")

    def register_model(self, source: str | Mapping[str, Any], *, id: str | None = None) -> Json:  # noqa: A002 - the API's word
        """Register a model: a name, `hub:org/name@revision`, a folder, or a GGUF file."""
        body = {"source": source} | ({"id": id} if id else {})
        return self._transport.send("POST", "/models", json=body, repeatable=False).json()

    def remove_model(self, model: str) -> None:
        """Take a model out of service."""
        self._transport.send("DELETE", f"/models/{model}")

    def editors(self) -> list[Json]:
        """List the editors, each with its paper and a JSON schema of its hparams."""
        return list(self._pages("/editors"))

    # --- orders ------------------------------------------------------------------------------

    def submit(
        self,
        *,
        model: str,
        editor: str,
        requests: Sequence[Mapping[str, Any]] | None = None,
        hparams: Mapping[str, Any] | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        **request: Any,  # noqa: ANN401 - the fields of one request, as the API takes them
    ) -> Json:
        """Order an edit and return at once: `requests`, or one request's fields as keywords."""
        if (requests is None) == (not request):
            message = "give either requests=[...], or the fields of one request"
            raise TypeError(message)
        body: Json = {"model": model, "editor": editor}
        if hparams:
            body["hparams"] = dict(hparams)
        body |= request if requests is None else {"requests": [dict(each) for each in requests]}
        return self._order("/edits", body, if_match, idempotency_key)

    def edit(
        self,
        *,
        wait: float = 600.0,
        on_progress: Callable[[Json], None] | None = None,
        **order: Any,  # noqa: ANN401 - passed on to submit
    ) -> Json:
        """Order an edit (see `submit`), wait until it is applied, and give the order.

        Raises OrderFailed when it was not applied, WaitTimeout when it is not settled in time.
        """
        return self._applied(self.submit(**order), wait, on_progress)

    def submit_restore(
        self, snapshot: str, *, if_match: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Order that the content of an older snapshot becomes the head, and return at once."""
        return self._order(f"/snapshots/{snapshot}/restore", None, if_match, idempotency_key)

    def restore(
        self,
        snapshot: str,
        *,
        wait: float = 600.0,
        on_progress: Callable[[Json], None] | None = None,
        **order: Any,  # noqa: ANN401 - passed on to submit_restore
    ) -> Json:
        """Order a restore (see `submit_restore`), wait until it is applied, and give the order."""
        return self._applied(self.submit_restore(snapshot, **order), wait, on_progress)

    def order(self, edit_id: str) -> Json:
        """Look at one order."""
        return self._get(f"/edits/{edit_id}")

    def edits(
        self,
        *,
        model: str | None = None,
        status: str | None = None,
        subject: str | None = None,
    ) -> Iterator[Json]:
        """Go through the orders, page by page."""
        return self._pages("/edits", {"model": model, "status": status, "subject": subject})

    def wait(
        self,
        edit_id: str,
        *,
        timeout: float = 600.0,
        on_progress: Callable[[Json], None] | None = None,
    ) -> Json:
        """Wait until an order is settled, however it ends, and give it."""
        deadline = time.monotonic() + timeout
        pause = FIRST_LOOK
        while (order := self.order(edit_id))["status"] not in SETTLED:
            if on_progress:
                on_progress(order)
            if time.monotonic() > deadline:
                raise WaitTimeout(order, timeout)
            time.sleep(pause)
            pause = min(pause * 1.5, LAST_LOOK)
        return order

    def events(self, edit_id: str) -> Iterator[Event]:
        """Follow an order: its events as they happen, until it is settled."""
        last: str | None = None
        pauses = iter(PAUSES)
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            try:
                with self._transport.http.stream(
                    "GET", f"/edits/{edit_id}/events", headers=headers, timeout=None
                ) as stream:
                    if not stream.is_success:
                        stream.read()
                        raise problem_of(stream)
                    for event in parse(stream.iter_lines()):
                        last = event.id or last
                        pauses = iter(PAUSES)
                        yield event
            except CUT_OFF as error:
                if (pause := next(pauses, None)) is None:
                    raise ServerNotRunning(self.base_url) from error
                time.sleep(pause)
            if self.order(edit_id)["status"] in SETTLED:
                return

    # --- what the model says, and its states -------------------------------------------------

    def probe(
        self,
        model: str,
        prompts: str | Sequence[str],
        *,
        targets: Sequence[str] | None = None,
        snapshot: str | None = None,
        compare: str | None = None,
        top_k: int | None = None,
        max_tokens: int | None = None,
    ) -> list[Json]:
        """Ask the model; also as it was at an older snapshot."""
        asked = {
            "prompts": [prompts] if isinstance(prompts, str) else list(prompts),
            "targets": list(targets) if targets else None,
            "snapshot": snapshot,
            "compare": compare,
            "top_k": top_k,
            "max_tokens": max_tokens,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        return self._transport.send("POST", f"/models/{model}/probe", json=body).json()["data"]

    def snapshots(self, model: str) -> list[Json]:
        """List the snapshots of a model."""
        return list(self._pages(f"/models/{model}/snapshots"))

    def snapshot(self, snapshot: str) -> Json:
        """Look at one snapshot."""
        return self._get(f"/snapshots/{snapshot}")

    # --- the wires ---------------------------------------------------------------------------

    def _get(self, path: str) -> Json:
        return self._transport.send("GET", path).json()

    def _order(self, path: str, body: Json | None, if_match: str | None, key: str | None) -> Json:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        if if_match:
            headers["If-Match"] = f'"{if_match}"'
        return self._transport.send("POST", path, json=body, headers=headers).json()

    def _applied(
        self, order: Json, wait: float, on_progress: Callable[[Json], None] | None
    ) -> Json:
        settled = self.wait(order["id"], timeout=wait, on_progress=on_progress)
        if settled["status"] != "applied":
            raise OrderFailed(settled)
        return settled

    def _pages(self, path: str, filters: Mapping[str, Any] | None = None) -> Iterator[Json]:
        after: str | None = None
        while True:
            asked = {**(filters or {}), "limit": PAGE, "after": after}
            page = self._transport.send("GET", path, params=asked).json()
            yield from page["data"]
            after = page.get("next")
            if not page.get("has_more") or after is None:
                return
