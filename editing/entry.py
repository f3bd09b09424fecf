"""Code that a table names as "module:function", imported when it is first used. No torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def loaded(entry: str) -> Callable[..., Any]:
    """The function at "module:function"."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
