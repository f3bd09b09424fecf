"""From texts to token ids: targets as continuations, and the place of a subject's last token.

Positions come from character offsets, never from tokenizing the pieces: a tokenizer may join a
subject with what stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editing.errors import EmptyField, SubjectNotFound, TargetTooLong

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from editing.request import EditRequest

MAX_TARGET_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Continuation:
    """A question with a text after it, as ids; `start` is the first id of that text."""

    ids: list[int]
    start: int

    @property
    def targets(self) -> list[int]:
        """The ids of the continuation alone."""
        return self.ids[self.start :]


def encode(tokenizer: "PreTrainedTokenizerFast", text: str) -> list[int]:
    """Ids of a text to be continued: with the tokenizer's own start token, without an end token."""
    ids: list[int] = tokenizer(text)["input_ids"]  # type: ignore[assignment]
    while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and text:
        ids = ids[:-1]
    return ids


def continued(tokenizer: "PreTrainedTokenizerFast", question: str, text: str) -> Continuation:
    """`text` as what follows `question`; whether it was written with a leading space is no matter.

    Raises EmptyField or TargetTooLong.
    """
    if not text.strip():
        raise EmptyField(field="target")
    gap = "" if not question or question[-1].isspace() else " "
    asked = encode(tokenizer, question)
    if not asked:  # nothing could predict the first token
        raise EmptyField(field="prompt")
    whole = encode(tokenizer, question + gap + text.strip())
    if whole[: len(asked)] != asked:  # the seam was joined into one token: keep the question whole
        whole = asked + tokenizer(gap + text.strip(), add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    if len(whole) == len(asked):
        raise EmptyField(field="target")
    length = len(whole) - len(asked)
    if length > MAX_TARGET_TOKENS:
        raise TargetTooLong(target=text, length=length, limit=MAX_TARGET_TOKENS, unit="tokens")
    return Continuation(whole, len(asked))


def subject_last(tokenizer: "PreTrainedTokenizerFast", text: str, end: int, subject: str) -> int:
    """Index of the last token that covers character `end - 1` of `text`.

    A character may be cut into several tokens (bytes of a CJK character); the last of them counts.
    Raises SubjectNotFound.
    """
    found = tokenizer(text, return_offsets_mapping=True)
    offsets: Sequence[tuple[int, int]] = found["offset_mapping"]  # type: ignore[assignment]
    covering = [i for i, (start, stop) in enumerate(offsets) if start < end <= stop]
    if not covering:
        raise SubjectNotFound(subject=subject, text=text)
    return covering[-1]


@dataclass(frozen=True, slots=True)
class Placed:
    """A request's prompt behind a prefix: the text, its ids, and the subject's last position."""

    text: str
    ids: list[int]
    subject: int


def place(tokenizer: "PreTrainedTokenizerFast", request: "EditRequest", prefix: str) -> Placed:
    """Put a prefix before a request's prompt; an empty prefix gives the bare prompt."""
    return place_text(tokenizer, request.prompt, request.subject, prefix)


def place_text(
    tokenizer: "PreTrainedTokenizerFast", prompt: str, subject: str, prefix: str = ""
) -> Placed:
    """`prompt` has one slot `{}` for the subject. Raises SubjectNotFound."""
    lead = f"{prefix}. " if prefix else ""
    text = lead + prompt.replace("{}", subject)
    end = len(lead) + prompt.index("{}") + len(subject.rstrip())
    at = subject_last(tokenizer, text, end, subject)
    return Placed(text, encode(tokenizer, text), at)
