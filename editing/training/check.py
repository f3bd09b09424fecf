"""How good a network is on the records kept apart."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.editors.hypernet import Hypernet
from editing.hparams import MendRecipe
from editing.metrics.values import harmonic
from editing.step import Step

from .loss import Exercise

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest

_NEIGHBORS = 4  # of a record; more would cost more than they tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Means over the records kept apart: losses, and success as METRICS define it, from 0 to 1."""

    iteration: int
    loss: float  # the outer loss
    edit: float
    locality: float
    efficacy: float
    paraphrase: float
    neighborhood: float

    @property
    def success(self) -> float:
        """Harmonic mean of efficacy, paraphrase and neighborhood, from 0 to 1."""
        return harmonic((self.efficacy, self.paraphrase, self.neighborhood)) or 0.0

    def worth(self, recipe: MendRecipe) -> float:
        """By what networks of one recipe are compared; the larger the better."""
        return self.success if recipe.keep_by == "success" else -self.loss


def exercises(
    view: "ModelView", names: Sequence[str], first: int, records: Sequence["EditRequest"]
) -> Generator[Step, None, list[Exercise]]:
    """Halt the texts of all records, once for all checks."""
    found: list[Exercise] = []
    for number, one in enumerate(records):
        found.append(
            Exercise.of(
                *(view, names, first, one),
                paraphrases=one.paraphrases,
                neighbors=one.neighborhood[:_NEIGHBORS],
                rivals=True,
            )
        )
        yield Step("measure", number + 1, len(records))
    return found


def judged(
    view: "ModelView", net: Hypernet, tests: Sequence[Exercise], recipe: MendRecipe, iteration: int
) -> Generator[Step, None, Check]:
    """Edit every record alone and look at what became of it."""
    edit: list[float] = []
    locality: list[float] = []
    won: list[list[Tensor]] = [[], [], []]  # on the prompt, on paraphrases, on neighbors
    for number, test in enumerate(tests):
        with torch.no_grad():
            graded = test.graded(view, net)
            losses = test.losses(graded, recipe)
        edit.append(float(losses.edit))
        locality.append(float(losses.locality))
        wanted, rival = graded.nll.chunk(2)
        better = (wanted < rival).double()
        for kind, part in zip(won, better.split([1, test.learned - 1, test.watched]), strict=True):
            kind.append(part)
        yield Step("measure", number + 1, len(tests))
    efficacy, paraphrase, neighborhood = (_mean(torch.cat(kind)) for kind in won)
    means = [sum(part) / len(part) for part in (edit, locality)]
    return Check(
        iteration=iteration,
        loss=recipe.edit_weight * means[0] + recipe.locality_weight * means[1],
        edit=means[0],
        locality=means[1],
        efficacy=efficacy,
        paraphrase=paraphrase,
        neighborhood=neighborhood,
    )


def _mean(found: Tensor) -> float:
    return float(found.mean()) if len(found) else 0.0
