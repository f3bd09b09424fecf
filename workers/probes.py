"""Probes between two steps: what waits is answered in batches, each snapshot in its turn.

An order shares the model with them fairly: behind a step they have one batch, and further ones for
no longer than the step took. Without an order they have all the time there is. Questions that take
many steps themselves (workers/questions.py) go on one step at a time, behind the short ones.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import ServiceError, Unavailable
from app.queue.messages import ProbeMessage, ProbeReply
from app.services.work import as_error
from editing.errors import EditingError
from editing.model.state import State
from editing.probe import probe
from workers.host import ModelHost
from workers.patience import is_away
from workers.questions import Question, question

_ROWS = 32  # prompts that go through the model together

Json = dict[str, Any]

log = structlog.stdlib.get_logger()


class Inbox:
    """Probes that have come and were not answered yet. Filled by a listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[ProbeMessage] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: ProbeMessage) -> None:
        """Add one."""
        with self._lock:
            self._waiting.append(message)

    def take(self, prompts: float = math.inf) -> list[ProbeMessage]:
        """Take those that wait longest, until so many prompts are at hand; all by default."""
        taken: list[ProbeMessage] = []
        with self._lock:
            while self._waiting and prompts > 0:
                taken.append(self._waiting.popleft())
                prompts -= len(taken[-1].prompts)
        return taken


@dataclass(frozen=True, slots=True)
class _Unit:
    """Prompts that differ in nothing but themselves can share a batch."""

    snapshot: str
    targets: tuple[str, ...]
    max_tokens: int


@dataclass(slots=True)
class _Asked:
    """The prompts of one unit, each once, and what the model said to each."""

    prompts: dict[str, None] = field(default_factory=dict[str, None])
    top_k: int = 0
    answers: dict[str, Json | Exception] = field(default_factory=dict[str, Json | Exception])


class Prober:
    """Answers probes with the model of a host. Only the model thread may call it."""

    def __init__(
        self,
        host: ModelHost,
        inbox: Inbox,
        reply: Callable[[str, ProbeReply], None],
        tick: Callable[[], None],
        *,
        answered: Callable[[float | None], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._inbox = inbox
        self._reply = reply
        self._tick = tick
        self._answered = answered  # told when the question was put
        self._long: deque[tuple[ProbeMessage, Question]] = deque()

    @property
    def busy(self) -> bool:
        """Whether a long question is under way."""
        return bool(self._long)

    def unfinished(self) -> list[ProbeMessage]:
        """The long questions that nobody has answered yet; they begin anew with the next worker."""
        return [message for message, _ in self._long]

    def go_on(self, seconds: float = math.inf) -> None:
        """Do a step of the long question that came first; further ones while there is time."""
        until = time.monotonic() + seconds
        while self._long and not len(self._inbox):
            self._tick()
            message, work = self._long[0]
            reply = self._stepped(message, work)
            if reply is not None:
                self._long.popleft()
                self._reply(message.id, reply)
                self._answered(message.asked_at)
            if time.monotonic() >= until:
                return

    def _stepped(self, message: ProbeMessage, work: Question) -> ProbeReply | None:
        """One step of a long question; its reply once there is one."""
        if message.deadline < time.time():
            work.close()
            return ProbeReply(ok=False, error={"code": "probe-timed-out", "detail": "too late"})
        try:
            next(work)
        except StopIteration as end:
            return ProbeReply(ok=True, data=[end.value])
        except Exception as error:  # noqa: BLE001 - it is told to those it concerns
            return ProbeReply(ok=False, error=_told(error, message.snapshot or self._host.head))
        return None

    def answer(self, seconds: float = math.inf) -> int:
        """Answer what waits, a batch at least, no further one when the time is over; count them."""
        until, answered = time.monotonic() + seconds, 0
        while messages := self._inbox.take(_ROWS):
            heard = [m for m in messages if m.deadline > time.time()]
            self._long.extend((m, question(self._host, m)) for m in heard if m.about)
            answered += self._answer([m for m in heard if not m.about])
            if time.monotonic() >= until:
                break
        return answered

    def _answer(self, messages: list[ProbeMessage]) -> int:
        asked: dict[_Unit, _Asked] = {}
        for message in messages:
            for unit in self._units(message):
                mine = asked.setdefault(unit, _Asked())
                mine.prompts.update(dict.fromkeys(message.prompts))
                mine.top_k = max(mine.top_k, message.top_k)
        for unit, mine in asked.items():
            self._ask(unit, mine)
        for message in messages:
            self._reply(message.id, self._reply_to(message, asked))
            self._answered(message.asked_at)
        return len(messages)

    def _units(self, message: ProbeMessage) -> Iterable[_Unit]:
        snapshots = [message.snapshot or self._host.head or self._host.lost]
        if message.compare is not None:
            snapshots.append(message.compare)
        for snapshot in snapshots:
            yield _Unit(snapshot, tuple(message.targets), message.max_tokens)

    def _ask(self, unit: _Unit, asked: _Asked) -> None:
        try:
            self._tick()
            state = self._host.state_of(unit.snapshot)
        except Exception as error:  # noqa: BLE001 - it is told to those it concerns
            asked.answers = dict.fromkeys(asked.prompts, error)
            return
        prompts = list(asked.prompts)
        for start in range(0, len(prompts), _ROWS):
            rows = prompts[start : start + _ROWS]
            try:
                asked.answers |= self._put(unit, state, rows, asked.top_k)
            except Exception as error:  # noqa: BLE001
                asked.answers |= dict.fromkeys(rows, error)
                if len(rows) > 1:  # one of them spoils it for the others
                    self._put_singly(unit, state, rows, asked)

    def _put_singly(self, unit: _Unit, state: State, prompts: list[str], asked: _Asked) -> None:
        for prompt in prompts:
            try:
                asked.answers |= self._put(unit, state, [prompt], asked.top_k)
            except Exception as error:  # noqa: BLE001
                asked.answers[prompt] = error

    def _put(
        self, unit: _Unit, state: State, prompts: list[str], top_k: int
    ) -> dict[str, Json | Exception]:
        """Put the questions to the model as it is at the unit's snapshot."""
        self._tick()
        with self._host.view.showing(state):
            answers = probe(
                self._host.view,
                prompts,
                targets=unit.targets,
                top_k=top_k,
                max_tokens=unit.max_tokens,
            )
        named = {"model": self._host.model, "snapshot": unit.snapshot}
        return {
            prompt: {**named, **answer} for prompt, answer in zip(prompts, answers, strict=True)
        }

    def _reply_to(self, message: ProbeMessage, asked: dict[_Unit, _Asked]) -> ProbeReply:
        data: list[Json] = []
        for prompt in message.prompts:
            found: list[Json] = []
            for unit in self._units(message):
                answer = asked[unit].answers[prompt]
                if isinstance(answer, Exception):
                    return ProbeReply(ok=False, error=_told(answer, unit.snapshot))
                found.append({**answer, "top": answer["top"][: message.top_k]})
            beside = {"compare": found[1]} if len(found) > 1 else {}
            data.append({**found[0], **beside})
        return ProbeReply(ok=True, data=data)


def _told(error: Exception, snapshot: str) -> Json:
    """Say an error in the way the API passes it on."""
    if isinstance(error, SQLAlchemyError) and is_away(error):
        error = Unavailable("The snapshot cannot be read now. Ask again in a moment.")
    if isinstance(error, EditingError | ServiceError):
        return {**as_error(error), "snapshot": snapshot}
    log.error("probe.failed", snapshot=snapshot, exc_info=error)
    detail = f"{type(error).__name__} while the model answered; the worker's log tells more."
    return {"code": "internal-error", "detail": detail, "snapshot": snapshot}
