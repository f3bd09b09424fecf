"""Whether a model answers a question: by what it writes itself, and by what it finds likely.

Both are taken wherever an answer is scored. What it writes is searched for any name of the answer,
behind the prompt only (a prompt may name it already); how likely it finds an answer is that of the
likeliest name, teacher-forced.
"""

import re
import unicodedata
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from editing.errors import EmptyField, TargetTooLong, TextTooLong
from editing.model.generate import greedily
from editing.model.scoring import Score, score
from editing.model.tokens import continued
from editing.step import Step

if TYPE_CHECKING:
    from editing.model.view import ModelView

MAX_TOKENS = 20  # of a greedy answer (RippleEdits)
_ROWS = 16  # questions answered side by side: a step stays below a second on a small model
_SHORT = 3  # characters up to which a name in capitals is an abbreviation: "US" is not "us"
# Scripts that put no space between words: Thai, Lao, Khmer, kana, Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")

Groups = Sequence[Sequence[str]]


def says(text: str, name: str) -> bool:
    """Whether a name stands in a text as whole words, in upper or lower case.

    A name of up to three letters in capitals has to stand there in capitals. One letter alone is
    said by any text, so it never counts; a digit does, and a character of a script without spaces.
    """
    name = _even(name)
    if not name or (len(name) == 1 and name.isalpha() and not _UNSPACED.match(name)):
        return False
    before = "" if _UNSPACED.match(name[0]) else r"(?<!\w)"
    after = "" if _UNSPACED.match(name[-1]) else r"(?!\w)"
    abbreviated = len(name) <= _SHORT and name.isupper()
    case = re.NOFLAG if abbreviated else re.IGNORECASE
    return re.search(f"{before}{re.escape(name)}{after}", _even(text), case) is not None


def says_any(text: str, names: Iterable[str]) -> bool:
    """Whether any of the names stands in the text."""
    return any(says(text, name) for name in names)


def answers(text: str, groups: Groups, *, every: bool = False) -> bool:
    """Whether a text gives an answer: any of the values, or every one of them."""
    found = (says_any(text, names) for names in groups)
    return all(found) if every else any(found)


def _even(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def replies(
    view: "ModelView", prompts: Iterable[str], max_tokens: int = MAX_TOKENS
) -> Generator[Step, None, dict[str, str]]:
    """What the model writes greedily behind each prompt; each is asked once.

    Raises EmptyField or TextTooLong.
    """
    ordered = sorted(set(prompts), key=lambda prompt: (len(prompt), prompt))
    found: dict[str, str] = {}
    for start in range(0, len(ordered), _ROWS):
        part = ordered[start : start + _ROWS]
        texts, _ = yield from greedily(view, part, max_tokens)
        found.update(zip(part, texts, strict=True))
        yield Step("measure", len(found), len(ordered))
    return found


def sayable(
    view: "ModelView", prompt: str, names: Iterable[str], limit: int, room: int = MAX_TOKENS
) -> list[str]:
    """The first names that the model could say behind a prompt.

    Left out is one that tokenizes to nothing or to too much, and all of them where the prompt with
    `room` tokens behind it has no place in the model. Raises EmptyField for an empty prompt.
    """
    if not prompt.strip():
        raise EmptyField(field="prompt")
    found: list[str] = []
    for name in names:
        if len(found) == limit:
            break
        try:
            row = continued(view.tokenizer, view.asked(prompt), name)
            view.require_fits(max(len(row.ids), row.start + room))
        except (EmptyField, TargetTooLong, TextTooLong):
            continue
        found.append(name)
    return found


def scored(
    view: "ModelView", pairs: Sequence[tuple[str, str]]
) -> Generator[Step, None, list[Score]]:
    """`score` in steps that stay short, each with rows of like length."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    found: dict[int, Score] = {}
    for start in range(0, len(order), _ROWS):
        part = order[start : start + _ROWS]
        scores = yield from score(view, [pairs[i] for i in part])
        found.update(zip(part, scores, strict=True))
    return [found[i] for i in range(len(pairs))]


def likeliest(
    view: "ModelView", asked: Sequence[tuple[str, Sequence[str]]]
) -> Generator[Step, None, list[Score]]:
    """For each (prompt, names): the score of the likeliest name; `greedy` where any name is."""
    pairs = [(prompt, name) for prompt, names in asked for name in names]
    scores = iter((yield from scored(view, pairs)))
    found: list[Score] = []
    for _, names in asked:
        mine = [next(scores) for _ in names]
        best = max(mine, key=lambda one: one.logprob)
        some_greedy = any(one.greedy for one in mine)
        found.append(replace(best, matches=best.tokens) if some_greedy else best)
    return found
