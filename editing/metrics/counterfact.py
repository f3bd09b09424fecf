"""What CounterFact asks of an edit: efficacy, paraphrase, neighborhood (METRICS 3).

success   p(o*) > p(o), with p the geometric mean over tokens; a tie is a failure (ES, PS)
accuracy  the tokens of o* are the model's own first choice
neighborhood success   p(target) > p(o*) for a near subject that must keep its target (NS)

Where a request names no target_true, its rival is what the model answered before the edit.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editing.model.generate import greedy
from editing.model.scoring import Score, score
from editing.model.tokens import continued
from editing.step import Step

from .answers import scored

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest


_ROWS = 64  # questions answered side by side


@dataclass(frozen=True, slots=True)
class Compared:
    """Two answers to one prompt: the one that should win, and its rival."""

    wanted: Score
    rival: Score
    same: bool = False  # one text: the model's own answer was the target already

    @property
    def success(self) -> bool:
        """Whether the wanted answer is the likelier one; against itself, whether it is given."""
        if self.same:
            return self.wanted.greedy
        return self.wanted.mean_probability > self.rival.mean_probability


@dataclass(frozen=True, slots=True)
class FactScores:
    """All prompts of one request under one state of the model."""

    prompt: Compared
    paraphrases: list[Compared]
    neighborhood: list[Compared]


def rivals(
    view: "ModelView", requests: Sequence["EditRequest"]
) -> Generator[Step, None, list[str]]:
    """target_true of each request, or what the model answers now where it is not given.

    Such an answer is as long as target_new: further on it is small talk that any model finds
    likely, and the mean over its tokens would win against every target.
    """
    missing = [r for r in requests if r.target_true is None]
    sizes = [len(continued(view.tokenizer, r.question, r.target_new).targets) for r in missing]
    answers: dict[int, str] = {}
    for size in set(sizes):  # rows of one length at a time, so that an answer may be cut nowhere
        mine = [number for number, other in enumerate(sizes) if other == size]
        for start in range(0, len(mine), _ROWS):
            part = mine[start : start + _ROWS]
            texts, _ = greedy(view, [missing[number].question for number in part], size)
            answers.update(zip(part, texts, strict=True))
            yield Step("measure", len(answers), len(missing))
    ordered = iter([answers[number] for number in range(len(missing))])
    found = [r.target_true if r.target_true is not None else next(ordered) for r in requests]
    # A model that answers with nothing leaves no rival; a full stop stands in for one.
    return [text if text.strip() else "." for text in found]


def measure_facts(
    view: "ModelView", requests: Sequence["EditRequest"], rival: Sequence[str]
) -> Generator[Step, None, list[FactScores]]:
    """Score every prompt of every request with its two answers."""
    asked: list[tuple[str, str, str]] = []  # prompt, the answer that should win, its rival
    for request, old in zip(requests, rival, strict=True):
        asked += [(t, request.target_new, old) for t in (request.question, *request.paraphrases)]
        asked += [(near.prompt, near.target, request.target_new) for near in request.neighborhood]
    # Many rows side by side pay on an accelerator; on a processor they only make a step long.
    scoring = scored if view.device.type == "cpu" else score
    flat = yield from scoring(view, [(p, text) for p, *both in asked for text in both])
    found = iter(
        Compared(wanted, other, one.strip() == two.strip())
        for wanted, other, (_, one, two) in zip(flat[::2], flat[1::2], asked, strict=True)
    )
    return [
        FactScores(
            next(found),
            [next(found) for _ in request.paraphrases],
            [next(found) for _ in request.neighborhood],
        )
        for request in requests
    ]


def success_rate(found: Sequence[Compared]) -> float | None:
    """Share of prompts at which the wanted answer wins; None without any."""
    return sum(one.success for one in found) / len(found) if found else None


def accuracy_rate(found: Sequence[Compared]) -> float | None:
    """Share of prompts at which the wanted answer is the first choice; None without any."""
    return sum(one.wanted.greedy for one in found) / len(found) if found else None
