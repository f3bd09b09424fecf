"""Knobs of the method that tells the model the fact instead of writing it."""

from dataclasses import dataclass
from typing import Literal

from .blocks import Contexts, option


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeHparams:
    """IKE: the fact stands before every prompt, and no weight changes."""

    form: Literal["new-fact", "imagine"] = option(
        "new-fact", "'new-fact': 'New fact: ...', as IKE; 'imagine': 'Imagine that ...', as ICE"
    )
    demonstrations: bool = option(
        True,
        "with 'new-fact': show how the fact is used, by examples made of the request alone: "
        "copied, behind each of the contexts' prefixes, and beside it",
    )
    contexts: Contexts = Contexts(prefixes=1)
