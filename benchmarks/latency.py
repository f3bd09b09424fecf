"""How long a probe waits while edits run back to back, against a model that rests.

One caller in a closed loop, a short pause between two probes. A probe asks for the five likeliest
next tokens; with --tokens also for a continuation. The optimiser's step is what an edit's search
took on the wall, over its steps. Last, how much slower an edit is for the probes.

    python -m benchmarks.latency --data DIR [--records 12] [--idle 100] [--tokens 0]
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.common import parser, requests_of, stack
from editing.request import EditRequest

PAUSE_S = 0.05
Json = dict[str, Any]


def main() -> None:
    """Probe at rest, edit undisturbed, then both at once."""
    made = parser(__doc__, records=12)
    made.add_argument("--idle", type=int, default=100, help="probes of the resting model")
    made.add_argument("--tokens", type=int, default=0, help="length of a continuation")
    args, requests = requests_of(made)
    half = len(requests) // 2
    with tempfile.TemporaryDirectory() as folder, stack(args, Path(folder)) as http:

        def ask() -> float:
            question = {"prompt": "The capital of France is", "max_tokens": args.tokens}
            began = time.perf_counter()
            http.get(f"/models/{args.model}/probe", params=question).raise_for_status()
            return time.perf_counter() - began

        wait_for(http, submit(http, requests[-1:]))  # statistics, and everything warm
        ask()
        say("at rest", [ask() for _ in range(args.idle)])
        alone = wait_for(http, submit(http, requests[:half]))
        orders = submit(http, requests[half:-1])
        busy = probe_until(ask, lambda: settled(http, orders[-1]))
        probed = wait_for(http, orders)
    say("while editing", busy)
    print(f"an optimiser step: {statistics.median(map(step_ms, alone)):.0f} ms (median of edits)")
    plain, slowed = (statistics.mean(map(edit_s, found)) for found in (alone, probed))
    print(
        f"an edit: {plain:.2f} s undisturbed (n {len(alone)}), {slowed:.2f} s while probed "
        f"(n {len(probed)})"
    )


def submit(http: httpx.Client, requests: list[EditRequest]) -> list[str]:
    """Queue one order a fact."""
    return [http.post("/edits", json=one.to_dict()).json()["id"] for one in requests]


def settled(http: httpx.Client, order: str) -> bool:
    """Whether an order has come to its end."""
    return http.get(f"/edits/{order}").json()["settled_at"] is not None


def wait_for(http: httpx.Client, orders: list[str]) -> list[Json]:
    """Give the orders once all are settled."""
    while not settled(http, orders[-1]):
        time.sleep(0.2)
    return [http.get(f"/edits/{order}").json() for order in orders]


def probe_until(ask: Callable[[], float], over: Callable[[], bool]) -> list[float]:
    """Probe until it is over; what `over` itself costs is between two probes."""
    found: list[float] = []
    while not over():
        found.append(ask())
        time.sleep(PAUSE_S)
    return found


def step_ms(order: Json) -> float:
    """Milliseconds on the wall of one optimiser step."""
    return 1000 * order["timings"]["wall_s"]["z"] / order["report"]["editor"]["search_steps"][0]


def edit_s(order: Json) -> float:
    """Seconds on the wall from first to last step of an edit."""
    return sum(order["timings"]["wall_s"].values())


def say(when: str, seconds: list[float]) -> None:
    """Print the middle and the tail."""
    ordered = sorted(seconds)
    tail = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    print(
        f"a probe {when}: n {len(ordered)}  p50 {1000 * statistics.median(ordered):.0f} ms"
        f"  p99 {1000 * tail:.0f} ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
