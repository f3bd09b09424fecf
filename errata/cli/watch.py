"""`errata watch`: the queue of a model as it moves, or one order to its end."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Annotated

import typer
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from errata.cli import complete, names, tables
from errata.cli.common import FAILED, AsJson, Model, Url, console, put, put_json, server
from errata.cli.progress import stage
from errata.client import Client
from errata.results import Order
from errata.sse import Event

LOOK = 1.0  # seconds between two looks at a queue
SHOWN = 20  # orders of a queue that are shown
MOST = 100  # queued orders that are asked for at each look
TOLD_APART = frozenset({"edit", "model", "at", "dry_run"})  # of the data of an event


def watch(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|ORDER]",
            help="A model's id, an order's id, or an order's ord.",
            autocompletion=complete.watched,
        ),
    ] = None,
    *,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when nothing waits or runs any more.")
    ] = False,
    model: Model = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Follow the queue of a model, or one order; Ctrl-C ends it.

    Following one order ends with it: 0 when it is applied, 1 when it is not.
    """
    with server(url, as_json) as client:
        if what is not None and (what.startswith("edt_") or what.isdecimal()):
            _watch_order(client, names.order(client, what, model), as_json=as_json)
        else:
            if what is not None and model is not None:
                message = "give [MODEL] or --model, not both"
                raise typer.BadParameter(message)
            queue = Queue(client, names.model(client, model if what is None else what))
            _watch_queue(queue, until_idle=until_idle, as_json=as_json)


class Queue:
    """What waits and runs in a model's queue, look by look."""

    def __init__(self, client: Client, model: str) -> None:
        self.model = model
        self._client = client
        self._known: dict[str, Order] = {}

    def looks(self) -> Iterator[tuple[list[Order], list[Order]]]:
        """Give, at each look, the orders that are not settled, and those that have changed."""
        while True:
            now = [
                order
                for status in ("running", "queued")
                for order in reversed(self._unsettled(status))
            ]
            ids = {order.id for order in now}
            gone = [self._client.order(each) for each in self._known if each not in ids]
            ended = [order for order in gone if order.settled]  # or pushed out by newer ones
            changed = [order for order in now if _differs(self._known.get(order.id), order)]
            self._known = {order.id: order for order in now}
            yield now, [*ended, *changed]
            time.sleep(LOOK)

    def _unsettled(self, status: str) -> list[Order]:
        return list(islice(self._client.edits(model=self.model, status=status), MOST))


def _watch_queue(queue: Queue, *, until_idle: bool, as_json: bool) -> None:
    out = console()
    live = out.is_terminal and not as_json
    with Live(console=out, auto_refresh=False) if live else nullcontext() as screen:
        for now, changed in queue.looks():
            if screen:
                screen.update(_shown(queue.model, now), refresh=True)
            else:
                for order in changed:
                    put(order) if as_json else out.print(_line(order), soft_wrap=True)
            if until_idle and not now:
                return


def _watch_order(client: Client, order_id: str, *, as_json: bool) -> None:
    out = console()
    for event in client.events(order_id):
        if as_json:
            put_json({"event": event.name, "id": event.id, "data": event.data})
        else:
            out.print(_told(event), soft_wrap=True, markup=False)
    if not client.order(order_id).applied:
        raise typer.Exit(FAILED)


def _shown(model: str, now: list[Order]) -> Table:
    more = f", {len(now) - SHOWN} more behind them" if len(now) > SHOWN else ""
    made = tables.table("ord", "order", "kind", "editor", "at", "", title=f"{model}{more}")
    for order in now[:SHOWN]:
        step = order.progress
        bar = ProgressBar(step.total, step.done, width=30) if step and step.total else ""
        texts = (str(order.ord), order.id, order.kind, order.editor or "-", stage(order))
        made.add_row(*texts, bar)
    return made


def _differs(before: Order | None, now: Order) -> bool:
    return before is None or (before.status, stage(before)) != (now.status, stage(now))


def _line(order: Order) -> str:
    dry = " (dry run)" if order.dry_run else ""
    return f"{order.ord} {order.id} {order.kind} {order.editor or '-'} {stage(order)}{dry}"


def _told(event: Event) -> str:
    data = event.data if isinstance(event.data, dict) else {"said": event.data}
    dry = "(dry run)" if data.get("dry_run") else ""
    plain = [f"{name}={value}" for name, value in data.items() if value is not None]
    told = [each for each in plain if each.partition("=")[0] not in TOLD_APART]
    return " ".join(filter(None, (f"{str(data.get('at', ''))[:19]:19}", event.name, *told, dry)))
