"""Every method's knobs, built from shared blocks. Standard library only.

A default lives here once; what differs between two methods is what you see on these pages. How a
mapping sent by a caller becomes one of these is knobs.py; what a paper tuned is tuned.py.
"""

from typing import Any

from .blocks import OWN_TEXT, Contexts, Search, Statistics
from .closed_form import (
    AlphaEditHparams,
    AttentionHparams,
    Batched,
    EmmetHparams,
    KeySite,
    LedgerHparams,
    MemitHparams,
    PmetHparams,
    PruneHparams,
    RectHparams,
    RomeHparams,
    RRomeHparams,
    Sited,
)
from .gradient import (
    Bounded,
    FtHparams,
    FullCHparams,
    KnHparams,
    LocftHparams,
    LoraHparams,
    Training,
)
from .hypernetwork import RECIPES, MendHparams, MendRecipe
from .in_context import IkeHparams
from .memory import MemoryHparams
from .one_step import UltraHparams
from .paths import CtpHparams, NodeScore

__all__ = [
    "OWN_TEXT",
    "RECIPES",
    "AlphaEditHparams",
    "AttentionHparams",
    "Batched",
    "Bounded",
    "Contexts",
    "CtpHparams",
    "EmmetHparams",
    "FtHparams",
    "FullCHparams",
    "Hparams",
    "IkeHparams",
    "KeySite",
    "KnHparams",
    "LedgerHparams",
    "LocftHparams",
    "LoraHparams",
    "MemitHparams",
    "MemoryHparams",
    "MendHparams",
    "MendRecipe",
    "NodeScore",
    "PmetHparams",
    "PruneHparams",
    "RRomeHparams",
    "RectHparams",
    "RomeHparams",
    "Search",
    "Sited",
    "Statistics",
    "Training",
    "UltraHparams",
]

Hparams = Any  # one of the frozen dataclasses that catalogue.METHODS names
