"""Run every benchmark, one after another: python -m benchmarks [--data DIR].

The comparison of all editors comes first, since it goes on where it was interrupted.
"""

import argparse
import os
import subprocess
import sys

BENCHES = ("editors", "keys", "search", "gradsim", "walk", "latency", "restore", "startup")
_WITHOUT_DATA = {"restore", "startup"}


def main() -> None:
    """Run them as programs of their own, so that none inherits the other's memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("ERRATA_DATA"))
    args = parser.parse_args()
    if not args.data:
        parser.error("name the folder of benchmark data with --data or ERRATA_DATA")
    for name in BENCHES:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if name not in _WITHOUT_DATA:
            command += ["--data", args.data]
        print(f"\n$ python -m benchmarks.{name}", flush=True)
        subprocess.run(command, check=True)  # noqa: S603 - our own modules


if __name__ == "__main__":
    main()
