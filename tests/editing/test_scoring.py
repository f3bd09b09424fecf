"""Texts are scored and prompts answered alike in any batch, padding and head."""

import pytest
import torch

from editing.errors import EmptyField, TextTooLong
from editing.model.generate import greedy
from editing.model.scoring import score
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.probe import probe
from editing.run import finish

from .conftest import MakeView
from .facts import logits_of

TEXTS = (
    "LeBron James plays the sport of",
    "Italy",
    "The old man said. The capital of 日本 is",
    "I like the sea. Serena Williams plays the sport of tennis",
)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4, rtol=1e-4)


class TestScoring:
    PAIRS = (
        ("LeBron James plays the sport of", "basketball"),
        ("The capital of Italy is", "Rome"),
        ("The old man said. The capital of 日本 is", "東京"),
        ("Italy", "is Rome and more than that"),
    )

    @pytest.mark.parametrize("start", ["no-bos", "bos"])
    @pytest.mark.parametrize("tied", ["tied", "untied"])
    def test_left_and_right_padding_and_no_padding_score_alike(
        self, layout: str, make_view: MakeView, start: str, tied: str
    ) -> None:
        view = make_view(layout, bos=start == "bos")
        view = view if tied == "tied" else untied(view)
        right = finish(score(view, self.PAIRS))
        left = finish(score(view, self.PAIRS, left_padding=True))
        for number, (question, text) in enumerate(self.PAIRS):
            row = continued(view.tokenizer, question, text)
            with torch.no_grad():
                logits = view.model(input_ids=torch.tensor([row.ids])).logits[0]
            at = torch.arange(row.start - 1, len(row.ids) - 1)
            plain = logits[at].log_softmax(-1)[torch.arange(len(at)), torch.tensor(row.targets)]
            assert right[number].logprob == pytest.approx(float(plain.sum()), abs=1e-3)
            assert left[number].logprob == pytest.approx(float(plain.sum()), abs=1e-3)
            matches = int((logits[at].argmax(-1) == torch.tensor(row.targets)).sum())
            assert right[number].matches == left[number].matches == matches
            assert right[number].tokens == len(row.targets)

    def test_many_pairs_come_back_in_their_order(self, llama: ModelView) -> None:
        pairs = [*self.PAIRS] * 20  # more than one batch, sorted by length inside
        found = finish(score(llama, pairs))
        for number, one in enumerate(found):
            assert one.logprob == pytest.approx(found[number % 4].logprob, abs=1e-4)

    def test_nothing_is_scored_as_nothing(self, llama: ModelView) -> None:
        assert finish(score(llama, [])) == []

    def test_the_mean_probability_is_geometric(self, llama: ModelView) -> None:
        (one,) = finish(score(llama, [self.PAIRS[3]]))
        assert one.mean_probability**one.tokens == pytest.approx(
            float(torch.tensor(one.logprob).exp()), rel=1e-4
        )


class TestProbe:
    def test_a_batch_of_prompts_answers_like_each_alone(self, view: ModelView) -> None:
        together = probe(view, TEXTS, targets=["basketball"], max_tokens=5)
        for text, one in zip(TEXTS, together, strict=True):
            (alone,) = probe(view, [text], targets=["basketball"], max_tokens=5)
            assert one["completion"] == alone["completion"]
            assert one["targets"][0]["logprob"] == pytest.approx(
                alone["targets"][0]["logprob"], abs=1e-3
            )

    def test_a_completion_is_what_the_whole_model_writes_token_by_token(
        self, view: ModelView
    ) -> None:
        text = TEXTS[0]
        for _ in range(4):
            best = int(logits_of(view, text)[-1].argmax())
            text += view.tokenizer.decode([best])
        (written,), first = greedy(view, [TEXTS[0]], 4)
        assert TEXTS[0] + written == text
        assert close(first[0], logits_of(view, TEXTS[0])[-1])

    def test_its_shape(self, llama: ModelView) -> None:
        (one,) = probe(llama, [TEXTS[0]], targets=["tennis", "the sea"], top_k=3, max_tokens=0)
        assert list(one) == ["prompt", "completion", "top", "targets"]
        assert one["completion"] == ""
        assert len(one["top"]) == 3
        chances = [entry["p"] for entry in one["top"]]
        assert chances == sorted(chances, reverse=True)
        plain = logits_of(llama, TEXTS[0])[-1].softmax(-1)
        assert chances[0] == pytest.approx(float(plain.max()), abs=1e-5)
        assert [entry["text"] for entry in one["targets"]] == ["tennis", "the sea"]

    def test_a_prompt_without_any_token_is_refused_in_words(self, view: ModelView) -> None:
        for prompts in ([""], [TEXTS[0], ""]):
            with pytest.raises(EmptyField, match="empty"):
                probe(view, prompts)
        with pytest.raises(EmptyField, match="empty"):
            finish(score(view, [("", "tennis")]))

    def test_a_start_token_is_a_prompt(self, make_view: MakeView) -> None:
        (one,) = probe(make_view("llama", bos=True), [""], targets=["The"], max_tokens=2)
        assert one["targets"][0]["n_tokens"] == 1

    def test_a_prompt_longer_than_the_model_is_refused_in_words(self, view: ModelView) -> None:
        long = "sea " * 200
        with pytest.raises(TextTooLong, match=r"room for 128. Shorten"):
            probe(view, [long])
        with pytest.raises(TextTooLong):
            probe(view, ["The sea"], max_tokens=128)
        with pytest.raises(TextTooLong):
            finish(score(view, [(long, "tennis")]))

    def test_it_ends_at_the_end_token(self, llama: ModelView) -> None:
        wanted = greedy(llama, [TEXTS[0]], 3)[0][0]
        second = int(logits_of(llama, TEXTS[0] + " basketball")[-1].argmax())
        llama.model.generation_config.eos_token_id = [1, second]
        assert wanted.startswith(" basketball")
        assert greedy(llama, [TEXTS[0]], 3)[0] == [" basketball"]


def untied(view: ModelView) -> ModelView:
    """The same model with a head of its own."""
    head = view.model.get_submodule(view.layout.head)
    noise = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0))
    head.weight = torch.nn.Parameter(head.weight.detach() + 0.1 * noise)
    view.model.config.tie_word_embeddings = False
    return ModelView(view.model, view.tokenizer)


def test_a_head_of_its_own_is_fingerprinted(llama: ModelView) -> None:
    tied = llama.fingerprint()
    assert "lm_head.weight" not in dict(llama.model.named_parameters())
    assert untied(llama).fingerprint() != tied
