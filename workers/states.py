"""Older states of a model, kept for probes as long as memory allows."""

from collections import OrderedDict

from editing.model.state import State


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
            for tensor in (*state.masters.values(), *state.served.values())
        }
        return sum(tensors.values())
