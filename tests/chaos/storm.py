"""What happens to the service: a seeded plan of kills, freezes and outages, spread over the orders.

A worker is killed at a random moment, or at a named fail point by itself. The same order is never
hit three times, or it would rightly be given up as poison.
"""

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from redis.exceptions import RedisError

from tests.chaos.customers import DEPTH, Asker, Books, Customer
from tests.chaos.world import TTL_S, World
from workers.failpoints import EXIT_CODE, OF_ORDERS

_TICK_S = 0.02
_STUCK_S = 120.0  # without one order settled
_FENCED = 3
OUTAGES = ("postgres shot", "redis shot", "redis flushed", "postgres away", "redis away")


@dataclass(frozen=True, slots=True, order=True)
class Blow:
    """Something that happens once so many orders are settled."""

    after: int
    what: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How much of everything there is to be."""

    orders: int
    kills: int
    freezes: int
    outages: int
    seed: int
    editors: tuple[str, ...]

    def blows(self) -> list[Blow]:
        """The plan, in its order."""
        chance = random.Random(self.seed)  # noqa: S311 - no secret
        kinds = [
            *(
                "kill" if chance.random() < 0.6 else chance.choice(OF_ORDERS)
                for _ in range(self.kills)
            ),
            *["freeze"] * self.freezes,
            *(OUTAGES[number % len(OUTAGES)] for number in range(self.outages)),
            *["api shot"] * self.outages,
        ]
        last = int(self.orders * 0.9)
        return sorted(Blow(chance.randint(0, last), kind, chance.random()) for kind in kinds)


@dataclass
class Storm:
    """Lets the forecast come true over a world."""

    world: World
    forecast: Forecast
    books: Books = field(default_factory=Books)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    worker: BaseProcess | None = None

    def rage(self) -> None:
        """Run until every order is settled, or nothing moves any more."""
        given = self.forecast
        customer = Customer(
            self.world.url,
            self.books,
            orders=given.orders,
            seed=given.seed,
            editors=given.editors,
        )
        asker = Asker(self.world.url, self.books, seed=given.seed)
        customer.start()
        asker.start()
        try:
            self._through(given.blows(), customer)
        finally:
            for thread in (customer, asker):
                thread.stopping.set()
            asker.join(20)

    def _through(self, blows: list[Blow], customer: Customer) -> None:
        best, moved_at = -1, time.monotonic()
        struck_at = -1  # how many were settled when a worker was last hit
        while customer.is_alive() or best < len(self.books.orders):
            time.sleep(_TICK_S)
            self._tend()
            settled = self.world.settled()
            # The orders must not run away from what is to befall them.
            due = max(blows[0].after, settled) + DEPTH if blows else self.forecast.orders
            customer.limit = min(due, self.forecast.orders)
            if settled > best:
                best, moved_at = settled, time.monotonic()
            if time.monotonic() - moved_at > _STUCK_S:
                self.wrong.append(f"nothing moves after {best} orders. {self.world.said()}")
                break
            if not blows or settled < blows[0].after:
                continue
            aimed_at_worker = blows[0].what not in {*OUTAGES, "api shot"}
            if aimed_at_worker and (settled <= struck_at or self.world.hits() >= 2):
                continue
            if aimed_at_worker:
                struck_at = settled
            self._strike(blows.pop(0))
        self.counts["missed"] = len(blows)  # the orders were over before their turn came

    def _tend(self) -> None:
        """Start a worker where there is none, as the supervisor does."""
        if self.worker is not None and self.worker.is_alive():
            return
        code = None if self.worker is None else self.worker.exitcode
        if code == EXIT_CODE:
            self.counts["kills"] += 1
        elif code not in {None, -signal.SIGKILL, 0}:
            self.wrong.append(f"a worker ended with code {code}. {self.world.said()}")
        self.worker = self.world.worker()

    def _strike(self, blow: Blow) -> None:
        match blow.what:
            case "kill":
                time.sleep(blow.seconds * 0.2)
                self._kill()
            case "freeze":
                self._freeze()
            case "postgres shot":
                self.world.postgres.shoot()
                self._pass(blow.seconds)
                self.world.postgres.end()
            case "postgres away":
                self.world.postgres.begin()
                self._pass(3 * TTL_S * blow.seconds)
                self.world.postgres.end()
            case "redis shot":
                self.world.valkey.shoot()
                self._pass(blow.seconds)
                self.world.valkey.end()
            case "redis away":
                self.world.valkey.begin()
                self._pass(3 * blow.seconds)
                self.world.valkey.end()
            case "redis flushed":
                self._flush()
            case "api shot":
                self.world.shoot_api()
                self.counts["api"] += 1
            case failpoint:
                self._replace(f"{failpoint}:{1 + int(blow.seconds * 3)}")
        if blow.what in OUTAGES:
            self.counts["outages"] += 1

    def _kill(self) -> None:
        if self.worker is not None and self.worker.is_alive():
            os.kill(self.worker.pid or 0, signal.SIGKILL)
            self.worker.join(10)
        self.counts["kills"] += 1

    def _replace(self, failpoint: str) -> None:
        """Have the worker put its work down, and another go on that will die at a fail point."""
        old = self.worker
        if old is not None and old.is_alive():
            old.terminate()
            old.join(30)
            # By the signal itself, if it came before the worker had set its own handler.
            if old.exitcode not in {0, EXIT_CODE, -signal.SIGTERM}:
                self.wrong.append(f"asked to stop, a worker ended with code {old.exitcode}")
        self.worker = self.world.worker(failpoint)
        while self.worker.is_alive() and self._unsettled():
            time.sleep(_TICK_S)
        if self.worker.is_alive():  # the orders have come to their end before its place was passed
            os.kill(self.worker.pid or 0, signal.SIGKILL)
            self.worker.join(10)
            self.counts["kills"] += 1

    def _unsettled(self) -> bool:
        settled = self.world.settled()
        return len(self.books.orders) < self.forecast.orders or settled < len(self.books.orders)

    def _freeze(self) -> None:
        """Stop a worker for longer than its lease lasts; the next one must have the model then."""
        deadline = time.monotonic() + _STUCK_S
        while (frozen := self.worker) is None or self.world.holder() != frozen.pid:
            self._pass(_TICK_S)  # one that has no lease has nothing to lose
            if time.monotonic() > deadline:
                self.wrong.append("nobody took the model, so nobody could be frozen")
                return
        before = self.world.epoch()
        os.kill(frozen.pid or 0, signal.SIGSTOP)
        try:
            self.worker = self.world.worker()
            deadline = time.monotonic() + 60
            while self.world.epoch() <= before and time.monotonic() < deadline:
                time.sleep(_TICK_S)
            if self.world.epoch() <= before:
                self.wrong.append("nobody took the model of a frozen worker")
        finally:
            os.kill(frozen.pid or 0, signal.SIGCONT)
        frozen.join(60)
        if frozen.exitcode != _FENCED:
            self.wrong.append(f"a frozen worker ended with code {frozen.exitcode}, not fenced")
        self.counts["freezes"] += 1

    def _flush(self) -> None:
        try:
            self.world.redis.flushall()
        except RedisError as error:
            self.wrong.append(f"Valkey was away: {error}")

    def _pass(self, seconds: float) -> None:
        """Let time go by; workers are started meanwhile, as ever."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._tend()
            time.sleep(_TICK_S)
