"""Whether a model still writes varied text: the entropy of its n-grams (METRICS 3, GE).

    of a text    (2/3 H2 + 4/3 H3) / 2,   H_n = entropy in bits of the text's n-grams of words
    of a model   the mean over texts that begin with the given prompts

A model that repeats itself scores low; so does a short text, so that numbers compare at one length
only. Published ones are of 100 tokens, times 100. As the benchmark's authors do, texts are sampled
among the 5 likeliest tokens (here from a seed), and the prompt counts as part of its text.
"""

import math
import re
from collections import Counter
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from editing.model.generate import sampled
from editing.step import Step

if TYPE_CHECKING:
    from editing.model.view import ModelView

_TOP_K = 5
_WEIGHTS = {2: 2 / 3, 3: 4 / 3}


def words(text: str) -> list[str]:
    """Words and marks of punctuation."""
    return re.findall(r"\w+|[^\w\s]", text)


def ngram_entropy(tokens: Sequence[str], n: int) -> float:
    """Entropy in bits of the n-grams; 0 where there is no n-gram."""
    counts = Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
    total = sum(counts.values())
    return -sum(c / total * math.log2(c / total) for c in counts.values()) if total else 0.0


def fluency(texts: Sequence[str]) -> float | None:
    """Mean weighted entropy of the texts in bits; None without any."""
    if not texts:
        return None
    each = [
        sum(weight * ngram_entropy(words(text), n) for n, weight in _WEIGHTS.items())
        / len(_WEIGHTS)
        for text in texts
    ]
    return sum(each) / len(each)


def free_texts(
    view: "ModelView", prompts: Sequence[str], tokens: int, seed: int
) -> Generator[Step, None, list[str]]:
    """Each prompt with `tokens` sampled tokens behind it; a Step after each token."""
    if not prompts:
        return []
    preface = len(view.current.preface)
    starts = [view.asked(prompt) for prompt in prompts]
    work = sampled(view, starts, tokens, top_k=_TOP_K, seed=seed)
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            return [text[preface:] for text in end.value]
        yield Step("measure", step.done, step.total)
