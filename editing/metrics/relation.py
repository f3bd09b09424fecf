"""One change asked from both ends: the object of a relation, and the relation of two things.

RaKE (Wei et al. 2023, arXiv:2311.09053), section 4.

    entity    p(o*) > p(o) at "prompt(s, r)"; its paraphrases; neighbors keep their object
    relation  p(r) > p("None") at "The relation between s and o* is"; the same in other words
    removed   p("None") > p(r) at the same question about the old object
    rank      of r among the names of all relations at the relation's question; 1 is the best, and a
              tie counts against it: "None" is a weak rival, so success alone says little

p is the geometric mean over tokens.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editing.datasets.relation_forms import BothEnds
from editing.model.scoring import score
from editing.request import NO_RELATION
from editing.step import Step

from .counterfact import Compared, FactScores, measure_facts

if TYPE_CHECKING:
    from editing.model.view import ModelView


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of one change under one state of the model.

    best: the likeliest name of another relation, p_best how likely it is.
    """

    entity: FactScores
    relation: FactScores
    removed: Compared
    rank: int
    names: int
    best: str
    p_best: float

    @property
    def beats_all(self) -> bool:
        """Whether the relation is likelier than every other's name."""
        return self.rank == 1


def measure_ends(
    view: "ModelView", ends: BothEnds, names: Sequence[str]
) -> Generator[Step, None, Ends]:
    """Ask both ends; `names` are those of all relations, the change's own among them."""
    entity, relation = ends.entity, ends.relation
    (one,) = yield from measure_facts(view, [entity], [str(entity.target_true)])
    (other,) = yield from measure_facts(view, [relation], [NO_RELATION])
    own = ends.form.name
    rivals = [name for name in names if name != own]
    asked = [(relation.question, name) for name in (own, *rivals)]
    mine, *theirs = yield from score(view, asked, one_prompt=True)
    likely = mine.mean_probability
    others = [found.mean_probability for found in theirs]
    best = max(range(len(others)), key=others.__getitem__)
    question = str(relation.delete_prompt).replace("{}", relation.subject)
    gone, kept = yield from score(view, [(question, NO_RELATION), (question, own)], one_prompt=True)
    return Ends(
        one,
        other,
        Compared(gone, kept),
        1 + sum(rival >= likely for rival in others),
        len(names),
        rivals[best],
        others[best],
    )
