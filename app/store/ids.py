"""Ids that sort by the time of their making: a prefix, then 26 lower-case characters."""

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return `prefix_` and 26 characters: 48 bits of milliseconds, then 80 bits of chance."""
    global _last  # noqa: PLW0603  (two ids of one millisecond keep the order of their making)
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        same_moment = fresh >> _RANDOM_BITS <= _last >> _RANDOM_BITS
        _last = number = _last + 1 if same_moment else fresh
    return f"{prefix}_{_base32(number)}"


def _base32(number: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
