"""The kernel's promise to signal us when the process that started us is gone."""

import ctypes
import os
import signal

from errata.stack.errors import StackError
from errata.stack.launch import PR_SET_PDEATHSIG


def bind_to(parent: int) -> None:
    """Be stopped, in order, when `parent` dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        message = "the program that started this stack is gone"
        raise StackError(message)
