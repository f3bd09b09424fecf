"""The outer loss of MEND: what the edited model says of one record (arXiv:2110.11309, section 3.2).

    L = c_e mean CE(target | edit prompt, paraphrases)  +  c_loc mean KL(p_base || p_edited)

The second mean is over the tokens of the neighbors' answers. Gradients flow through the edited
weights into whatever made the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.editors.hypernet import Hypernet
from editing.editors.lessons import Graded, Lessons, texts_of
from editing.editors.token_gradients import TokenGradient, token_gradients
from editing.hparams import MendRecipe
from editing.model.tokens import continued

if TYPE_CHECKING:
    from editing.model.view import ModelView
    from editing.request import EditRequest, Neighbor


@dataclass(frozen=True, slots=True)
class Exercise:
    """One record halted below the edited blocks: the edit, paraphrases of it, neighbors, rivals.

    Rows of the lessons: the edit and its paraphrases with target_new, the neighbors with their own
    targets, and where rivals are asked for, all of these again with the answer that should lose.
    """

    lessons: Lessons
    learned: int  # rows of the edit and its paraphrases
    watched: int  # rows of the neighbors
    gradients: dict[str, TokenGradient]  # of the edit's own text
    base: Tensor  # [tokens, V] log-probabilities at the neighbors' answers, before the edit

    @classmethod
    def of(
        cls,
        view: "ModelView",
        names: Sequence[str],
        first: int,
        record: "EditRequest",
        *,
        paraphrases: Sequence[str],
        neighbors: Sequence["Neighbor"],
        rivals: bool = False,
    ) -> "Exercise":
        """Halt the texts of a record below block `first`; `names` are the edited matrices."""
        edit = texts_of(view, record)[0]
        pairs = [(text, record.target_new) for text in paraphrases]
        pairs += [(near.prompt, near.target) for near in neighbors]
        if rivals:
            old = str(record.target_true)
            pairs += [(text, old) for text in (record.question, *paraphrases)]
            pairs += [(near.prompt, record.target_new) for near in neighbors]
        rows = [edit, *(continued(view.tokenizer, prompt, target) for prompt, target in pairs)]
        lessons = Lessons.of(view, rows, first)
        gradients, _ = token_gradients(view, lessons.rows([0]), names)
        learned, watched = 1 + len(paraphrases), len(neighbors)
        with torch.no_grad():
            base = lessons.rows(range(learned, learned + watched)).graded().logprobs
        return cls(lessons, learned, watched, gradients, base)

    def graded(self, view: "ModelView", net: Hypernet) -> Graded:
        """All texts, as the model answers them once the edit is made."""
        edited = {
            name: view.master(name) + left @ right
            for name, (left, right) in net(self.gradients).items()
        }
        with view.computing_with(edited):
            return self.lessons.graded()

    def losses(self, graded: Graded, recipe: MendRecipe) -> "Losses":
        """Both terms of the outer loss."""
        start = int(self.lessons.sizes[: self.learned].sum())
        after = graded.logprobs[start : start + len(self.base)]
        truth, other = (self.base, after)
        if recipe.divergence == "from_edited":
            truth, other = other, truth
        kl = (truth.exp() * (truth - other)).sum(-1).mean()
        return Losses(graded.nll[: self.learned].mean(), kl)


@dataclass(frozen=True, slots=True)
class Losses:
    """The terms of the outer loss, not yet weighted."""

    edit: Tensor
    locality: Tensor

    def weighted(self, recipe: MendRecipe) -> Tensor:
        """The outer loss."""
        return recipe.edit_weight * self.edit + recipe.locality_weight * self.locality
