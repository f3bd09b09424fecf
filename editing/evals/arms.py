"""Several sequences of edits side by side; what they begin with alike is written once."""

from collections.abc import Generator, Mapping, Sequence

from editing.request import EditRequest
from editing.run import under
from editing.step import Step

from .scene import Edited, Scene

Requests = Sequence[EditRequest]


def written(
    scene: Scene, arms: Mapping[str, Requests], *, batch: bool
) -> Generator[Step, None, dict[str, list[Edited]]]:
    """The states of each arm: after every edit of it, or after one order of all its edits.

    Raises EditFailed or BadRequest.
    """
    found: dict[str, list[Edited]] = {}
    if batch:
        for arm, requests in arms.items():
            found[arm] = [(yield from scene.edited(requests))]
        return found
    shared = _shared(list(arms.values()))
    begun: list[Edited] = []
    if shared:
        begun = yield from scene.chained([[one] for one in shared])
    for arm, requests in arms.items():
        rest = [[one] for one in requests[len(shared) :]]
        found[arm] = [*begun, *((yield from _continued(scene, begun, rest)) if rest else [])]
    return found


def _shared(arms: Sequence[Requests]) -> Requests:
    """What all arms begin with."""
    first = arms[0]
    shortest = min(map(len, arms))
    parted = (n for n in range(shortest) if any(some[n] != first[n] for some in arms))
    return first[: next(parted, shortest)]


def _continued(
    scene: Scene, done: Sequence[Edited], orders: Sequence[Requests]
) -> Generator[Step, None, list[Edited]]:
    """More orders behind those that were written."""
    if not done:
        return (yield from scene.chained(orders))
    return (yield from under(scene.view, done[-1].state, scene.behind(done).chained(orders)))
