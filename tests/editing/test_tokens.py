"""Where a subject's last token is, and which tokens a target adds, by characters."""

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast as Tokenizer

from editing.errors import EmptyField, SubjectNotFound, TargetTooLong
from editing.model.tokens import (
    MAX_TARGET_TOKENS,
    continued,
    encode,
    place,
    place_text,
    subject_last,
)
from editing.request import EditRequest
from tests.tiny import tiny_tokenizer


@pytest.fixture(params=["no-bos", "bos"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return tiny_tokenizer(bos=request.param == "bos")


SUBJECTS = [
    "LeBron James",
    "A",
    "Italy",
    "東京",
    "Москва",
    "日本",
    "El Niño",
    "😀",
    "Anna 😀",
    "Zoë's {x}",
    "3M",
    "O'Neill ",
    " Anna",
]
PROMPTS = [
    "{} plays the sport of",
    "The capital of {} is",
    "{}'s mother tongue is",
    "Does {}, who lives there, like",
    "({}) is",
    "the set {1, 2} of {}s has",
    "東京{}は",
    "The capital of {}",
    "The capital of {} is ",
]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_subject_ends_where_its_last_character_does(
    tokenizer: Tokenizer, prompt: str, subject: str
) -> None:
    for prefix in ("", "The old man", "日本", "{} of {"):
        placed = place_text(tokenizer, prompt, subject, prefix)
        lead = f"{prefix}. " if prefix else ""
        assert placed.text == lead + prompt.replace("{}", subject)
        before = lead + prompt[: prompt.index("{}")] + subject.rstrip()
        # The tokens up to and with the subject's last one spell at least the subject, and the
        # tokens before that one do not.
        told = tokenizer.decode(placed.ids[: placed.subject + 1], skip_special_tokens=True)
        short = tokenizer.decode(placed.ids[: placed.subject], skip_special_tokens=True)
        assert len(told) >= len(before)
        assert placed.text.startswith(told)
        assert len(short.rstrip("\ufffd")) < len(before)


def test_a_subject_of_one_token_at_the_very_start_is_at_position_zero() -> None:
    italy = tiny_tokenizer()("A")["input_ids"]
    assert len(italy) == 1
    assert place_text(tiny_tokenizer(), "{} is", "A").subject == 0
    assert place_text(tiny_tokenizer(bos=True), "{} is", "A").subject == 1


def test_a_character_of_several_tokens_counts_with_its_last() -> None:
    tokenizer = tiny_tokenizer()
    placed = place_text(tokenizer, "{} is", "😀")
    assert len(tokenizer("😀")["input_ids"]) > 1
    assert tokenizer.decode(placed.ids[: placed.subject + 1]) == "😀"


def test_a_subject_joined_to_what_follows_is_found_in_the_joint_token(tokenizer: Tokenizer) -> None:
    joined = "bask" + "etball"  # one token in this vocabulary
    placed = place_text(tokenizer, "The sport of {}etball", " bask".strip())
    last = tokenizer.decode([placed.ids[placed.subject]])
    assert last.strip() == joined


def test_only_the_first_slot_is_a_slot_when_a_subject_has_braces(tokenizer: Tokenizer) -> None:
    request = EditRequest(subject="f{}", prompt="{} returns", target_new="none")
    placed = place(tokenizer, request, "")
    assert placed.text == "f{} returns" == request.question


def test_a_subject_that_the_tokenizer_drops_is_refused_in_words() -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(SubjectNotFound, match="tokenizer drops"):
        subject_last(tokenizer, "Italy", 99, "Nowhere")


TARGETS = ["tennis", "the blue house", "東京", "Москва", "😀", "é", "3,000", "{}"]


class TestTargets:
    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("question", ["The capital of 日本 is", "He said: ", "東京は", "A"])
    def test_a_leading_space_makes_no_difference(
        self, tokenizer: Tokenizer, question: str, target: str
    ) -> None:
        plain = continued(tokenizer, question, target)
        for spaced in (f" {target}", f"  {target} ", f"{target}\n"):
            assert continued(tokenizer, question, spaced) == plain
        assert plain.ids[: plain.start] == encode(tokenizer, question)
        assert plain.targets
        text = tokenizer.decode(plain.ids, skip_special_tokens=True)
        assert text == question + ("" if question.endswith(" ") else " ") + target

    def test_one_space_stands_between_never_two(self, tokenizer: Tokenizer) -> None:
        ids = continued(tokenizer, "The capital of Italy is", " Rome").ids
        assert "  " not in tokenizer.decode(ids)

    def test_there_is_no_start_token_among_a_target_s(self, tokenizer: Tokenizer) -> None:
        for question in ("The capital of Italy is", "The capital of Italy is "):
            assert tokenizer.bos_token_id not in continued(tokenizer, question, "Rome").targets

    @pytest.mark.parametrize("empty", ["", " ", "\n\t "])
    def test_an_empty_target_is_refused(self, tokenizer: Tokenizer, empty: str) -> None:
        with pytest.raises(EmptyField):
            continued(tokenizer, "The capital of Italy is", empty)

    def test_a_target_too_long_is_refused_with_its_limit(self, tokenizer: Tokenizer) -> None:
        fits = " ".join(["sea"] * MAX_TARGET_TOKENS)
        assert len(continued(tokenizer, "I like the", fits).targets) == MAX_TARGET_TOKENS
        with pytest.raises(TargetTooLong, match=rf"at most {MAX_TARGET_TOKENS}.*Shorten") as raised:
            continued(tokenizer, "I like the", fits + " sea")
        assert raised.value.fields == {"length": 65, "limit": 64, "unit": "tokens"}


class TestSpecialTokens:
    def test_an_end_token_that_the_tokenizer_adds_is_left_out(self) -> None:
        tokenizer = _with_end_token()
        assert tokenizer("Italy")["input_ids"][-1] == tokenizer.eos_token_id
        text = continued(tokenizer, "The capital of Italy is", "Rome")
        assert tokenizer.eos_token_id not in text.ids
        assert tokenizer.decode(text.targets) == " Rome"
        placed = place_text(tokenizer, "The capital of {}", "Italy")
        assert placed.ids[placed.subject :] == tokenizer(" Italy")["input_ids"][-2:-1]

    def test_a_start_token_is_kept_once(self) -> None:
        tokenizer = tiny_tokenizer(bos=True)
        ids = continued(tokenizer, "The capital of Italy is", "Rome").ids
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id


def _with_end_token() -> Tokenizer:
    tokenizer = tiny_tokenizer()
    core = tokenizer._tokenizer.__class__.from_str(tokenizer._tokenizer.to_str())
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return Tokenizer(tokenizer_object=core, **ends)
