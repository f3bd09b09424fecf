"""The texts in which a fact is learned and written: its prompt, behind prefixes, in other words.

A relation edit may bring two prompts: the relation to be said, and "None" where the old one was
asked for. Up to the subject's last token they are one text with one key, so one change answers
both; at the prompt's last token each has a key of its own, and is a fact of its own (`apart`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from editing.errors import SubjectNotFound
from editing.hparams import Contexts
from editing.model.tokens import Continuation, continued, encode, place_text, subject_last
from editing.request import EditRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from editing.model.view import ModelView

KeyAt = Literal["subject_last", "prompt_last"]

_ESSENCE = "{} is a"


@dataclass(frozen=True, slots=True)
class Row:
    """One text: `at` is the position of its key, `text` holds its ids with the target behind."""

    text: Continuation
    at: int

    @property
    def asked(self) -> list[int]:
        """The ids up to the key's position: what the key depends on."""
        return self.text.ids[: self.at + 1]


@dataclass(frozen=True, slots=True)
class Asking:
    """How a request becomes rows, the bare prompt first."""

    prefixes: Sequence[str] = ()
    key_at: KeyAt = "subject_last"
    paraphrases: bool = False

    @classmethod
    def of(cls, view: "ModelView", contexts: Contexts, key_at: KeyAt) -> "Asking":
        """As a method's hparams say."""
        return cls(view.stats.prefixes(contexts), key_at, contexts.paraphrases)

    def apart(self, requests: Sequence["EditRequest"]) -> list["EditRequest"]:
        """The requests, of which one with two prompts becomes two where their keys differ."""
        if self.key_at == "subject_last":
            return list(requests)
        pieces: list[EditRequest] = []
        for request in requests:
            pieces.append(replace(request, delete_prompt=None))
            pieces += [
                EditRequest(subject=request.subject, prompt=prompt, target_new=target)
                for prompt, target in request.texts[1:]
            ]
        return pieces

    def rows(self, view: "ModelView", request: "EditRequest") -> list[Row]:
        """All rows of a request. Raises SubjectNotFound, EmptyField or TargetTooLong."""
        tokenizer = view.tokenizer
        rows: list[Row] = []
        for prompt, target in request.texts:
            for prefix in ("", *self.prefixes):
                placed = place_text(tokenizer, prompt, request.subject, prefix)
                rows.append(self._row(tokenizer, placed.text, placed.subject, target))
        if self.paraphrases:
            for text in request.paraphrases:
                at = self._subject_in(tokenizer, text, request.subject)
                rows.append(self._row(tokenizer, text, at, request.target_new))
        return rows

    def essence(self, view: "ModelView", request: "EditRequest") -> tuple[list[int], int]:
        """Ids of "{subject} is a", and the position in it that stands for the key's."""
        placed = place_text(view.tokenizer, _ESSENCE, request.subject)
        return placed.ids, placed.subject if self.key_at == "subject_last" else len(placed.ids) - 1

    def _row(self, tokenizer: "PreTrainedTokenizerFast", text: str, at: int, target: str) -> Row:
        found = continued(tokenizer, text, target)
        return Row(found, at if self.key_at == "subject_last" else found.start - 1)

    def _subject_in(self, tokenizer: "PreTrainedTokenizerFast", text: str, subject: str) -> int:
        """Position of the subject's last token where a paraphrase names it last."""
        if self.key_at == "prompt_last":
            return len(encode(tokenizer, text)) - 1
        start = text.rfind(subject)
        if start < 0:
            raise SubjectNotFound(subject=subject, text=text)
        return subject_last(tokenizer, text, start + len(subject.rstrip()), subject)
