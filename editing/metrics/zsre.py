"""What zsRE asks of an edit: question, rephrase, and a question that must stay (METRICS 4).

    efficacy     token accuracy of the new answer behind the question
    generality   the same behind the rephrase
    loc_gt       token accuracy of the locality question's true answer (MEMIT, AlphaEdit): an
                 unedited model has 20 to 40 %, which is then perfect
    loc_agree    agreement with the unedited model's own choices (EasyEdit, CTP): unedited = 100 %

The two localities differ by a factor of three and are never mixed. MEMIT's evaluation puts a
question mark behind the locality question and EasyEdit's does not; each is asked as its own does.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editing.datasets.zsre import ZsreRecord
from editing.step import Step

from .answers import replies, says
from .tokens_accuracy import Choices, choices

if TYPE_CHECKING:
    from editing.model.view import ModelView


@dataclass(frozen=True, slots=True)
class ZsreScores:
    """One record under one state: tokens teacher-forced, and the model's own texts."""

    question: Choices
    rephrase: Choices
    locality: Choices  # with the question mark
    own: Choices  # without
    text: str | None  # None where nothing was generated
    said: tuple[bool, bool, bool] | None  # new answer, again behind the rephrase, locality's answer

    def figures(self, before: "ZsreScores") -> dict[str, float]:
        """The four measures, with `before` for what must stay."""
        return {
            "efficacy": self.question.accuracy,
            "generality": self.rephrase.accuracy,
            "loc_gt": self.locality.accuracy,
            "loc_agree": self.own.agreement(before.own),
        }


def measure_zsre(
    view: "ModelView", record: ZsreRecord, max_tokens: int
) -> Generator[Step, None, ZsreScores]:
    """Ask one record of what the model serves while this runs; 0 tokens: nothing is generated."""
    request, target = record.request, record.request.target_new
    marked = record.locality.rstrip("? ") + "?"
    asked = [
        (request.question, target),
        (record.rephrase, target),
        (marked, record.locality_answer),
        (record.locality, record.locality_answer),
    ]
    found = yield from choices(view, asked)
    if not max_tokens:
        return ZsreScores(*found, text=None, said=None)
    texts = yield from replies(view, [prompt for prompt, _ in asked[:3]], max_tokens)
    new, again, stays = (says(texts[prompt], answer) for prompt, answer in asked[:3])
    return ZsreScores(*found, text=texts[request.question], said=(new, again, stays))
