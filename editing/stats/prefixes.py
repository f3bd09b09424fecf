"""The texts put before a prompt: short openings that the untouched model wrote itself, once."""

from collections.abc import Generator
from typing import TYPE_CHECKING

from editing.hparams import Contexts
from editing.model.generate import sampled
from editing.step import Step

from .store import PrefixKey

if TYPE_CHECKING:
    from editing.model.view import ModelView

_STARTS = ("The", "Therefore", "Because", "I", "You")
_TOP_K = 5


def ensure_prefixes(
    view: "ModelView", contexts: Contexts, base_fingerprint: str
) -> Generator[Step, None, None]:
    """Sample the prefixes of a model unless they are at hand.

    The caller shows the untouched model meanwhile: an edited one would write other texts.
    """
    key = PrefixKey(base_fingerprint, contexts)
    if view.stats.find_prefixes(key):
        return
    starts = [_STARTS[i % len(_STARTS)] for i in range(contexts.prefixes)]
    texts: list[str] = []
    if starts:
        texts = yield from sampled(
            view, starts, contexts.prefix_tokens, top_k=_TOP_K, seed=key.seed
        )
    # A brace would be taken for the slot of the subject, a line break for the end of a thought.
    clean = (text.replace("{", " ").replace("}", " ").replace("\n", " ").strip() for text in texts)
    view.stats.keep_prefixes(key, tuple(clean))
