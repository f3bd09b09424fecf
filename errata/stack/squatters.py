"""Servers of an earlier life that still work in our folder."""

import os
import time
from pathlib import Path

import psutil

POLL = 0.05


def squatters(folder: Path, program: str) -> list[psutil.Process]:
    """Give the live processes named `program` whose working directory is `folder`."""
    here = os.path.realpath(folder)
    found = []
    for process in psutil.process_iter(["name", "status"]):
        if process.info["name"] != program or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            if process.cwd() == here:
                found.append(process)
        except psutil.Error:
            continue
    return found


def see_off(folder: Path, program: str, *, patience: float = 5.0) -> bool:
    """Wait until nobody of that name works in `folder`; end those that stay too long.

    Call it only under the lock of the data folder: then whatever still runs there is a leftover of
    a supervisor that was killed, and dying already. Says whether the folder is free.
    """
    deadline = time.monotonic() + patience
    while left := squatters(folder, program):
        if time.monotonic() > deadline:
            for process in left:
                process.kill()
            _, alive = psutil.wait_procs(left, timeout=2)
            return not alive
        time.sleep(POLL)
    return True
