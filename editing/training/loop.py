"""Training of MEND's network: one record after another, judged now and then, the best one kept.

Everything that happens next follows from what a `Training` holds, and that can be written down
between any two steps: a run that was interrupted goes on to the same bits.
"""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editing.editors.hypernet import Hypernet
from editing.errors import TrainingDiverged
from editing.hparams import MendRecipe
from editing.step import Step

from .artefact import RunKey
from .check import Check, exercises, judged
from .loss import Exercise
from .records import Split, draw_of

if TYPE_CHECKING:
    from editing.model.view import ModelView


@dataclass(frozen=True, slots=True)
class Trained(Step):
    """A step of training; `check` where the records kept apart were just looked at."""

    check: Check | None = None


class Training:
    """One run: what it is made of, and where it stands.

    done      iterations, each on one record
    checks    what was found on the records kept apart, oldest first
    best      the network's tensors at the check that is worth most to the recipe
    """

    def __init__(
        self,
        view: "ModelView",
        split: Split,
        recipe: MendRecipe,
        *,
        layers: Sequence[int],
        seed: int = 0,
    ) -> None:
        self.view, self.split, self.recipe, self.seed = view, split, recipe, seed
        self.layers = tuple(layers)
        self.key = RunKey.of(view, self.layers, recipe, split.digest, seed)
        shapes = {name: (rows, columns) for name, rows, columns in self.key.matrices}
        self.net = Hypernet(shapes, rank=recipe.rank, alpha=recipe.alpha, seed=seed)
        self.net.to(view.device)
        self.adam = torch.optim.Adam(
            [
                {"params": list(self.net.transforms.parameters()), "lr": recipe.lr},
                {"params": [self.net.alpha], "lr": recipe.alpha_lr},
            ]
        )
        self.done = 0
        self.checks: list[Check] = []
        self.best: dict[str, Tensor] = {}
        self._tests: list[Exercise] = []
        self._pool: dict[int, Exercise] = {}

    @property
    def best_check(self) -> Check | None:
        """The check of the network that is kept."""
        return max(self.checks, key=lambda one: one.worth(self.recipe), default=None)

    @property
    def over(self) -> bool:
        """Whether all iterations are done, or so many brought nothing that patience has ended."""
        best = self.best_check
        since = self.done - best.iteration if best else 0
        return self.done >= self.recipe.iterations or since >= self.recipe.patience

    def run(self) -> Generator[Step, None, None]:
        """Train until it is over. May be dropped after any step. Raises TrainingDiverged."""
        while not self.over:
            # What was interrupted between an iteration and its check begins with the check.
            if not self._is_due():
                loss = self._learn()
                yield Trained("train", self.done, self.recipe.iterations, loss)
            if self._is_due():
                yield from self.judge()

    def judge(self) -> Generator[Step, None, Check]:
        """Look at the records kept apart, and keep the network if it is the best so far."""
        if self.checks and self.checks[-1].iteration == self.done:
            return self.checks[-1]
        if not self._tests:
            first = self.layers[0]
            names = self.net.names
            self._tests = yield from exercises(self.view, names, first, self.split.check)
        check = yield from judged(self.view, self.net, self._tests, self.recipe, self.done)
        before = self.best_check
        self.checks.append(check)
        if before is None or check.worth(self.recipe) > before.worth(self.recipe):
            self.best = {name: t.detach().clone() for name, t in self.net.state_dict().items()}
        yield Trained("train", self.done, self.recipe.iterations, check=check)
        return check

    def _is_due(self) -> bool:
        checked = self.checks[-1].iteration if self.checks else 0
        return self.done > checked and self.done % self.recipe.check_every == 0

    def _learn(self) -> float:
        """One record: its gradient is added, and with the last of a group a step is made."""
        exercise = self._exercise()
        self.net.see(exercise.gradients)
        with torch.enable_grad():
            graded = exercise.graded(self.view, self.net)
            loss = exercise.losses(graded, self.recipe).weighted(self.recipe)
            loss.backward()
        found = float(loss.detach())
        self.done += 1
        if self.done % self.recipe.accumulate == 0:
            self._step()
        return found

    def _exercise(self) -> Exercise:
        """What is learned next; what the untouched model says of it is found out once a pool."""
        recipe = self.recipe
        draw = draw_of(self.done, self.seed, pool=recipe.pool, passes=recipe.passes)
        if draw not in self._pool:
            first = draw - draw % recipe.pool
            self._pool = {n: kept for n, kept in self._pool.items() if n >= first}
            self._pool[draw] = self._drawn(draw)
        return self._pool[draw]

    def _drawn(self, draw: int) -> Exercise:
        record = self.split.at(draw, self.seed)
        chance = random.Random(f"{self.seed} texts {draw}")  # noqa: S311 - no secret
        few = min(self.recipe.paraphrases, len(record.paraphrases))
        near = min(self.recipe.neighbors, len(record.neighborhood))
        return Exercise.of(
            self.view,
            self.net.names,
            self.layers[0],
            record,
            paraphrases=chance.sample(record.paraphrases, few),
            neighbors=chance.sample(record.neighborhood, near),
        )

    def _step(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        if not bool(norm.isfinite()):
            raise TrainingDiverged(iteration=self.done)
        self.adam.step()
        self.adam.zero_grad()
