"""Hypothesis orders, cancels, restores, stops and kills as it likes; a small pure model must agree.

The worker's hands are driven step by step in this process, so that a kill falls between any two of
their steps; orders go through the API.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from starlette.testclient import TestClient

from app.main import create_app
from app.services.work import MAX_ATTEMPTS, manifest
from app.settings import Settings
from app.store.db import Database
from app.store.tables import Edit
from tests.chaos.customers import HPARAMS, PROMPT, SUBJECTS
from tests.tiny import tiny_view
from tests.workers.hands import Hands, take_over
from tests.workers.shop import Queue

# None of them is what the model says by itself, so the first order for one is written.
TARGETS = ("Rome", "Paris", "Madrid", "Berlin")
FACT = st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(TARGETS))
FACTS = st.lists(FACT, min_size=1, max_size=2)
EDITOR = st.sampled_from(["rome", "memit-history"])
EXACT = {"memit-history"}  # a retract is one more delta; of the others the delta is left out


@dataclass
class Order:
    """What the pure model knows of an order."""

    id: str
    source: int | None = None  # a restore's snapshot
    target: str | None = None  # a retract's edit
    editor: str = ""
    dry_run: bool = False
    status: str = "open"
    unwanted: bool = False
    claims: int = 0


@dataclass
class Pure:
    """The service, without anything that could break: a queue, and the content of each snapshot.

    Content is what the manifest lists, so retracts are in it that take an edit out exactly.
    """

    orders: dict[str, Order] = field(default_factory=dict)
    lineage: list[tuple[str, ...]] = field(default_factory=lambda: [()])

    def live(self, content: tuple[str, ...]) -> set[str]:
        """The edits in it that nothing in it takes out."""
        gone = {self.orders[each].target for each in content}
        return {each for each in content if each not in gone and not self.orders[each].target}

    def first(self) -> Order | None:
        return next((o for o in self.orders.values() if o.status == "open"), None)

    def cancel(self, order: Order, *, in_hand: bool) -> int:
        """The answer that a cancel gets."""
        if order.status != "open":
            return 409
        if in_hand:
            order.unwanted = True
            return 202
        order.status = "cancelled"
        return 200

    def settle(self, order: Order, status: str, *, noop: bool) -> None:
        """An order has ended: it must have been the first, and this its only possible end."""
        assert order is self.first()
        poisoned = order.claims >= MAX_ATTEMPTS
        head = self.lineage[-1]
        impossible = poisoned or (order.target is not None and order.target not in self.live(head))
        assert status == ("cancelled" if order.unwanted else "failed" if impossible else "applied")
        order.status = status
        if status == "applied" and order.source is not None:
            self.lineage.append(self.lineage[order.source])
        elif status == "applied" and order.target is not None:
            exact = self.orders[order.target].editor in EXACT
            rest = tuple(edit for edit in head if edit != order.target)
            self.lineage.append((*head, order.id) if exact else rest)
        elif status == "applied" and not noop and not order.dry_run:
            self.lineage.append((*self.lineage[-1], order.id))


@dataclass
class House:
    """What all examples share; each has a model of its own."""

    client: TestClient
    queue: Queue
    folder: Path
    tiny: Path
    statistics: Path
    models: int = 0

    def hands(self, model: str) -> Hands:
        view = tiny_view(stats_folder=self.statistics)
        return take_over(self.queue.database, view, model, self.folder)


class Machine(RuleBasedStateMachine):
    """Everything that can be done to a model, in any order."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self.house = house

    @initialize()
    def register(self) -> None:
        self.house.models += 1
        self.model = f"m{self.house.models}"
        self.house.queue.register(self.model, self.house.tiny)
        self.pure = Pure()
        self._begin()
        self._submit(SUBJECTS[0], TARGETS[0])
        self._submit(SUBJECTS[1], TARGETS[1], "memit-history")
        self.drain()
        assert len(self.pure.lineage) == 3  # something to go back from

    def _begin(self) -> None:
        self.hands = self.house.hands(self.model)
        self.running = self.hands.foreman.orders()

    # ---- what callers do -------------------------------------------------------------------------

    @rule(facts=FACTS, editor=EDITOR)
    def submit(self, facts: list[tuple[str, str]], editor: str) -> None:
        for subject, target in facts:
            self._submit(subject, target, editor)

    @rule(fact=FACT, editor=EDITOR)
    def look(self, fact: tuple[str, str], editor: str) -> None:
        self._submit(*fact, editor, dry_run=True)

    def _submit(
        self, subject: str, target: str, editor: str = "rome", *, dry_run: bool = False
    ) -> None:
        fact = {"subject": subject, "prompt": PROMPT, "target_new": target}
        how = {"model": self.model, "editor": editor, "hparams": HPARAMS, "dry_run": dry_run}
        body = {**fact, **how}
        said = self.house.client.post("/edits", json=body)
        self._ordered(said.json()["id"], dry_run=dry_run, editor=editor)

    @rule(which=st.integers(0, 99))
    def restore(self, which: int) -> None:
        seq = which % len(self.pure.lineage)
        snapshot = self.house.queue.lineage(self.model)[seq].id
        self._ordered(
            self.house.client.post(f"/snapshots/{snapshot}/restore").json()["id"], source=seq
        )

    @precondition(lambda self: self.pure.orders)
    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        order = list(self.pure.orders.values())[-1 - which % len(self.pure.orders)]
        mine = self.hands.foreman.in_hand
        expected = self.pure.cancel(order, in_hand=mine is not None and mine.id == order.id)
        said = self.house.client.post(f"/edits/{order.id}/cancel")
        assert said.status_code == expected, said.text

    @precondition(lambda self: self.pure.orders)
    @rule(which=st.integers(0, 99))
    def retract(self, which: int) -> None:
        order = list(self.pure.orders)[which % len(self.pure.orders)]
        said = self.house.client.post(f"/edits/{order}/retract")
        if order in self.pure.live(self.pure.lineage[-1]):
            assert said.status_code == 202, said.text
            self._ordered(said.json()["id"], target=order)
        else:
            assert (said.status_code, said.json()["code"]) == (409, "edit-not-live")

    # ---- what befalls the worker -----------------------------------------------------------------

    @rule(steps=st.integers(1, 12))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            next(self.running)
        self._note()

    @rule()
    def drain(self) -> None:
        while self.house.queue.open_orders(self.model):
            next(self.running)
        self._note()

    @rule(times=st.integers(1, MAX_ATTEMPTS))
    def kill(self, times: int) -> None:
        """Kill the worker, and as often the next ones with whatever they have taken up by then."""
        for number in range(times):
            if number:
                next(self.running)
                self._note()
            if self.hands.foreman.in_hand is not None:
                self.pure.orders[self.hands.foreman.in_hand.id].claims += 1
            self._begin()

    @rule()
    def stop(self) -> None:
        mine = self.hands.foreman.in_hand
        self.running.close()
        self.hands.foreman.put_back()
        self._note()
        self._begin()
        assert (
            mine is None
            or self.pure.orders[mine.id].status == "cancelled"
            or (
                self.house.queue.edit(mine.id).status == "queued"
                and not self.pure.orders[mine.id].unwanted
            )
        )

    # ---- what must hold at any time --------------------------------------------------------------

    @invariant()
    def the_journal_and_the_pure_model_agree(self) -> None:
        lineage = self.house.queue.lineage(self.model)
        with self.house.queue.database.tx() as tx:
            found = [tuple(e.edit for e in manifest(tx, s.id).entries) for s in lineage]
        assert found == self.pure.lineage
        assert self.house.queue.model(self.model).head_id == lineage[-1].id
        live = {row.id for row in self._rows() if row.live}
        assert live == self.pure.live(self.pure.lineage[-1])

    @invariant()
    def the_model_is_bit_for_bit_its_head(self) -> None:
        host = self.hands.host
        assert host.view.audit() == self.house.queue.snapshot(host.head).fingerprint
        assert host.head == self.house.queue.model(self.model).head_id

    def teardown(self) -> None:
        if hasattr(self, "running"):
            self.drain()
            self.the_journal_and_the_pure_model_agree()
            assert self.pure.first() is None

    def _ordered(self, order: str, **known: Any) -> None:
        self.pure.orders[order] = Order(order, **known)

    def _rows(self) -> list[Edit]:
        with self.house.queue.database.tx() as tx:
            mine = select(Edit).where(Edit.model_id == self.model).order_by(Edit.ord)
            return list(tx.session.scalars(mine))

    def _note(self) -> None:
        """Tell the pure model what has ended."""
        for row in self._rows():
            order = self.pure.orders[row.id]
            if row.settled_at is not None and order.status == "open":
                self.pure.settle(order, row.status, noop=row.noop)


@pytest.fixture
def house(
    postgres_url: str, redis_url: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    database = Database(postgres_url)
    given = Settings(database_url=postgres_url, redis_url=redis_url, data_dir=tmp_path)
    with TestClient(create_app(given)) as client:
        statistics = tmp_path_factory.mktemp("statistics")
        yield House(client, Queue(database), tmp_path / "blobs", tmp_path, statistics)
    database.close()


def test_whatever_is_ordered_and_whatever_dies(house: House) -> None:
    make: Callable[[], Machine] = lambda: Machine(house)  # noqa: E731 - Hypothesis wants a maker
    run_state_machine_as_test(
        make,  # type: ignore[arg-type]
        settings=settings(
            max_examples=8,
            stateful_step_count=16,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
