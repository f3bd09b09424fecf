"""How much memory this process takes, and took at most, in MiB (Linux)."""

from contextlib import suppress
from pathlib import Path


def resident() -> float:
    """What it takes now."""
    return _line("VmRSS")


def peak() -> float:
    """The most since `forget_peak`. ru_maxrss would include the process that exec replaced."""
    return _line("VmHWM")


def forget_peak() -> None:
    """Let the peak begin anew, so that what came before does not count; where that is allowed."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _line(name: str) -> float:
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
