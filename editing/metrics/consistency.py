"""Whether free texts about a subject fit its new object: cosine of TF-IDF vectors (METRICS 3, RS).

The benchmark's authors compare with snippets of Wikipedia about subjects that have the object, with
an idf that they ship. Neither is at hand here. The fallback compares with statements made from the
records themselves (each attribute prompt with the new target behind it), and takes the idf from all
such statements of the slice that is measured. Its numbers say which way a text moved; they are no
published RS, and are named `consistency.small_corpus`. No torch.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache


@lru_cache(maxsize=2)
def idf_of(corpus: tuple[str, ...]) -> Mapping[str, float]:
    """Smooth idf, ln((1 + N) / (1 + df)) + 1, of the words of N texts."""
    seen = Counter(word for text in corpus for word in set(_words(text)))
    return {word: math.log((1 + len(corpus)) / (1 + count)) + 1 for word, count in seen.items()}


def consistency(
    texts: Sequence[str], references: Sequence[str], corpus: tuple[str, ...]
) -> float | None:
    """Cosine of both texts' TF-IDF vectors, each put together; None where one has no words.

    A word outside the corpus weighs as one that none of its texts has.
    """
    idf = idf_of(corpus)
    unseen = math.log(1 + len(corpus)) + 1

    def vector(parts: Sequence[str]) -> dict[str, float]:
        counts = Counter(word for part in parts for word in _words(part))
        return {word: count * idf.get(word, unseen) for word, count in counts.items()}

    one, other = vector(texts), vector(references)
    size = math.sqrt(_dot(one, one) * _dot(other, other))
    return _dot(one, other) / size if size else None


def _dot(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
