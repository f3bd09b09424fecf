"""What a shell may complete, asked of the running server. Silent when none answers."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import typer

from errata.client import Client
from errata.errors import ErrataError
from errata.results import SETTLED, Order, Snapshot

PATIENCE = 1.0  # seconds: a person has just pressed a key
MOST = 100
STATUSES = ("queued", "running", *sorted(SETTLED))

Offer = list[tuple[str, str]]  # what to write, and what it is


def models(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the models, with their status."""
    return _ask(ctx, incomplete, lambda client: ((m.id, m.status) for m in client.models()))


def editors(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the editors, with what they do."""
    return _ask(ctx, incomplete, lambda client: ((e.name, e.summary) for e in client.editors()))


def suites(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the suites, with what they measure."""
    return _ask(ctx, incomplete, lambda client: ((s.name, s.summary) for s in client.suites()))


def snapshots(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the snapshots of the model: labels first, then ids."""

    def offer(client: Client) -> Iterator[tuple[str, str]]:
        known = client.snapshots(_model(ctx, client))[:MOST]
        yield from ((each.label, _told(each)) for each in known if each.label)
        yield from ((each.id, _told(each)) for each in known)

    return _ask(ctx, incomplete, offer)


def orders(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the newest orders."""
    return _orders(ctx, incomplete, lambda _: True)


def unsettled(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the newest orders that can be cancelled."""
    return _orders(ctx, incomplete, lambda order: not order.settled)


def live(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the newest edits that the model holds."""
    return _orders(ctx, incomplete, lambda order: order.live and order.kind == "edit")


def watched(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer what can be watched: models, and orders that are under way."""
    return models(ctx, incomplete) + unsettled(ctx, incomplete)


def statuses(incomplete: str) -> list[str]:
    """Offer the statuses of orders."""
    return [each for each in STATUSES if each.startswith(incomplete)]


def _orders(ctx: typer.Context, incomplete: str, fits: Callable[[Order], bool]) -> Offer:
    def offer(client: Client) -> Iterator[tuple[str, str]]:
        for each in islice(client.edits(model=ctx.params.get("model")), MOST):
            if fits(each):
                subjects = ", ".join(str(one.get("subject", "?")) for one in each.requests[:3])
                yield each.id, f"{each.kind} {each.status} {subjects}".rstrip()

    return _ask(ctx, incomplete, offer)


def _ask(
    ctx: typer.Context,
    incomplete: str,
    offer: Callable[[Client], Iterator[tuple[str, str]]],
) -> Offer:
    url: Any = ctx.params.get("url") or os.environ.get("ERRATA_URL")
    try:
        with Client(url, timeout=PATIENCE, patience=0) as client:
            return [pair for pair in offer(client) if pair[0].startswith(incomplete)]
    except ErrataError:
        return []


def _model(ctx: typer.Context, client: Client) -> str:
    given = ctx.params.get("model")
    return given or next((each.id for each in client.models()), "")


def _told(snapshot: Snapshot) -> str:
    return f"{snapshot.seq} {snapshot.kind}, {len(snapshot.edits)} edits"
