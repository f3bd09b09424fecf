"""One fact as a row: its prompt, paraphrases and neighbors before and after (METRICS 3).

Each part has, for each state: success, magnitude, accuracy (every token of the answer is the first
choice), tokens (the share of tokens that are) and generated (the model says the answer by itself).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editing.metrics.answers import replies, says
from editing.metrics.counterfact import Compared, FactScores, measure_facts
from editing.step import Step

from .catalogue import Json

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

PARTS = ("efficacy", "paraphrase", "neighborhood")
MEASURES = ("success", "magnitude", "accuracy", "tokens", "generated")
_TEXT = 200  # characters of a text that a row keeps


@dataclass(frozen=True, slots=True)
class Told:
    """What one state of the model makes of one fact."""

    scores: FactScores
    texts: Mapping[str, str] | None  # by prompt; None where nothing was generated


def told(
    view: "ModelView", request: "EditRequest", rival: str, max_tokens: int
) -> Generator[Step, None, Told]:
    """Ask everything of one fact of what the model serves while this runs."""
    (scores,) = yield from measure_facts(view, [request], [rival])
    if not max_tokens:
        return Told(scores, None)
    near = [one.prompt for one in request.neighborhood]
    prompts = [request.question, *request.paraphrases, *near]
    return Told(scores, (yield from replies(view, prompts, max_tokens)))


def fact_row(request: "EditRequest", rival: str, states: Mapping[str, Told]) -> Json:
    """The row of a fact; numbers end in the name of their state."""
    row: Json = {
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": request.target_new,
        "rival": rival,
        "paraphrases": len(request.paraphrases),
        "neighbors": len(request.neighborhood),
    }
    for state, found in states.items():
        new = [request.target_new]
        asked = {
            "efficacy": ([found.scores.prompt], [request.question], new),
            "paraphrase": (
                found.scores.paraphrases, request.paraphrases, new * len(request.paraphrases),
            ),
            "neighborhood": (
                found.scores.neighborhood,
                [near.prompt for near in request.neighborhood],
                [near.target for near in request.neighborhood],
            ),
        }  # fmt: skip
        for part, (scores, prompts, answers) in asked.items():
            figures = _figures(scores)
            figures["generated"] = _generated(found.texts, prompts, answers)
            row |= {f"{part}_{name}_{state}": value for name, value in figures.items()}
        row[f"p_new_{state}"] = found.scores.prompt.wanted.mean_probability
        row[f"p_rival_{state}"] = found.scores.prompt.rival.mean_probability
        if found.texts is not None:
            row[f"text_{state}"] = found.texts[request.question][:_TEXT]
    return row


def _figures(scores: Sequence[Compared]) -> dict[str, float | None]:
    """Means over the prompts of one part."""
    return {
        "success": _mean([one.success for one in scores]),
        "magnitude": _mean(
            [one.wanted.mean_probability - one.rival.mean_probability for one in scores]
        ),
        "accuracy": _mean([one.wanted.greedy for one in scores]),
        "tokens": _mean([one.wanted.matches / one.wanted.tokens for one in scores]),
    }


def _generated(
    texts: Mapping[str, str] | None, prompts: Sequence[str], answers: Sequence[str]
) -> float | None:
    if texts is None:
        return None
    return _mean([says(texts[prompt], name) for prompt, name in zip(prompts, answers, strict=True)])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
