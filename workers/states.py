"""What is kept in memory as long as that allows: older states for probes, deltas for replays."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from torch import Tensor

from editing.delta import tensors_of
from editing.model.state import State
from editing.outcome import Outcome


class StateCache:
    """Snapshots and their states; the one not asked for longest goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes
        self._states: OrderedDict[str, State] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, snapshot: str) -> State | None:
        """The state, if it is still here."""
        state = self._states.get(snapshot)
        if state is not None:
            self._states.move_to_end(snapshot)
        return state

    def put(self, snapshot: str, state: State) -> None:
        """Keep a state; the newest stays even when it alone is over the limit."""
        self._states[snapshot] = state
        self._states.move_to_end(snapshot)
        while len(self._states) > 1 and self.nbytes > self._limit:
            self._states.popitem(last=False)

    @property
    def nbytes(self) -> int:
        """Memory held, each tensor counted once: neighbouring states share most of theirs."""
        tensors = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for state in self._states.values()
            for tensor in _tensors(state)
        }
        return sum(tensors.values())


def _tensors(state: State) -> Iterator[Tensor]:
    yield from (*state.masters.values(), *state.served.values())
    for memory in state.memories.values():
        yield from tensors_of(memory).values()


class OutcomeCache:
    """Deltas and what they wrote, by the name of their blob; read again when they have gone."""

    def __init__(self, limit: int, read: Callable[[str], Outcome]) -> None:
        self._limit = limit  # bytes
        self._read = read
        self._outcomes: OrderedDict[str, tuple[Outcome, int]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._outcomes)

    def get(self, blob: str) -> Outcome:
        """The outcome, from memory or read; the newest stays even when it alone is too large."""
        if blob in self._outcomes:
            self._outcomes.move_to_end(blob)
            return self._outcomes[blob][0]
        outcome = self._read(blob)
        size = _size(outcome)
        self._outcomes[blob] = outcome, size
        self.nbytes += size
        while len(self._outcomes) > 1 and self.nbytes > self._limit:
            _, (_, gone) = self._outcomes.popitem(last=False)
            self.nbytes -= gone
        return outcome


def _size(outcome: Outcome) -> int:
    parts = (t for delta in outcome.deltas.values() for t in tensors_of(delta).values())
    pairs = (t for p in outcome.written.values() for t in p.parts.values())
    return sum(tensor.nbytes for tensor in (*parts, *pairs))
