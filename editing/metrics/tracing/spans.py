"""Which tokens of a prompt are corrupted, and what part every token plays beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from editing.model.tokens import encode

if TYPE_CHECKING:
    from editing.datasets.known_facts import KnownFact
    from editing.model.view import ModelView

Corrupt = Literal["subject", "relation"]

# In the order in which a picture shows them.
ROLES = (
    "first corrupted",
    "middle corrupted",
    "last corrupted",
    "first subsequent",
    "further",
    "last",
)


@dataclass(frozen=True, slots=True)
class Spanned:
    """A prompt as the model reads it; places are indices into `ids`.

    `first` is the prompt's own first token: a start token or a preface may stand before it. Tokens
    start .. stop are corrupted. `labels` are the texts of the tokens from `first` on.
    """

    ids: list[int]
    first: int
    start: int
    stop: int
    labels: list[str]

    @property
    def roles(self) -> Mapping[str, list[int]]:
        """The tokens of each role. One token may play several, as in ROME's averages.

        A subject of one token is both the first and the last that is corrupted; the token behind it
        may be the prompt's last.
        """
        end = len(self.ids)
        return {
            "first corrupted": [self.start],
            "middle corrupted": list(range(self.start + 1, self.stop - 1)),
            "last corrupted": [self.stop - 1],
            "first subsequent": list(range(self.stop, min(self.stop + 1, end))),
            "further": list(range(self.stop + 1, end - 1)),
            "last": [end - 1],
        }


def spanned(view: "ModelView", fact: "KnownFact", corrupt: Corrupt) -> Spanned | None:
    """The prompt and its corrupted span; None where no token is the span's own.

    A token belongs to the span that it overlaps; one that also holds letters of the subject is no
    token of the relation.
    """
    before = view.current.preface
    text = before + fact.text
    found = view.tokenizer(text, return_offsets_mapping=True)
    ids = encode(view.tokenizer, text)
    offsets: list[tuple[int, int]] = found["offset_mapping"][: len(ids)]  # type: ignore[index]

    def overlapping(at: tuple[int, int]) -> set[int]:
        low, high = (len(before) + end for end in at)
        return {n for n, (start, stop) in enumerate(offsets) if start < high and stop > low}

    at = fact.subject_at if corrupt == "subject" else fact.relation_at
    if at is None:
        return None
    own = overlapping(at) - (overlapping(fact.subject_at) if corrupt == "relation" else set())
    if not own:
        return None
    first = min(overlapping((0, len(fact.text))))
    labels = [text[start:stop] for start, stop in offsets[first:]]
    return Spanned(ids, first, min(own), max(own) + 1, labels)
