"""A pass that is halted and continued gives what one whole pass gives, however rows are padded."""

import pytest
import torch

from editing.errors import EmptyField, TextTooLong
from editing.model.generate import greedy
from editing.model.partial import KeptPrefix, left_padded, pause, pause_after, right_padded
from editing.model.scoring import score
from editing.model.tokens import continued, encode
from editing.model.view import ModelView
from editing.probe import probe
from editing.run import finish

from .conftest import MakeView
from .facts import hooked, logits_of

TEXTS = (
    "LeBron James plays the sport of",
    "Italy",
    "The old man said. The capital of 日本 is",
    "I like the sea. Serena Williams plays the sport of tennis",
)


def tokens(view: ModelView) -> list[list[int]]:
    return [encode(view.tokenizer, text) for text in TEXTS]


@torch.no_grad()
def block_outputs(view: ModelView, ids: list[int]) -> list[torch.Tensor]:
    """Output [S, d] of every block in one ordinary pass over one text."""
    found: list[torch.Tensor] = []

    def hear(_: torch.nn.Module, __: object, out: object) -> None:
        found.append((out[0] if isinstance(out, tuple) else out)[0])

    hooks = [block.register_forward_hook(hear) for block in view.blocks]
    view.model(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return found


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("first", [0, 2, 4])
def test_a_pass_paused_before_a_block_ends_as_the_whole_pass(view: ModelView, first: int) -> None:
    rows = tokens(view)
    paused = pause(view, rows, first=first, stop=5)
    with torch.no_grad():
        out = paused.run()
    for number, row in enumerate(rows):
        assert close(out[number, -len(row) :], block_outputs(view, row)[4])
    assert hooked(view) == []


def test_a_pass_climbs_one_block_at_a_time(view: ModelView) -> None:
    rows = tokens(view)
    paused = pause(view, rows, first=1, stop=4)
    for layer in (1, 2):
        with torch.no_grad():
            paused = paused.advanced()
        assert paused.first == layer + 1
        for number, row in enumerate(rows):
            wanted = block_outputs(view, row)[layer]
            assert close(paused.hidden[number, -len(row) :], wanted)


@pytest.mark.parametrize("cuts", [(0, 0, 0, 0), (3, 0, 2, 5), (1, 1, 1, 1)])
def test_what_lies_before_the_cut_is_kept(view: ModelView, cuts: tuple[int, ...]) -> None:
    rows = tokens(view)
    cuts = tuple(min(cut, len(row) - 1) for cut, row in zip(cuts, rows, strict=True))
    paused = pause_after(view, rows, cuts, first=2, stop=5)
    for _ in range(2):  # running it uses nothing up
        with torch.no_grad():
            out = paused.run()
        for number, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
            wanted = block_outputs(view, row)
            assert close(paused.hidden[number, : len(row) - cut], wanted[1][cut:])
            assert close(out[number, : len(row) - cut], wanted[4][cut:])


def test_padding_takes_no_position_that_the_model_lacks(view: ModelView) -> None:
    token = encode(view.tokenizer, "I like")[-1]
    rows, cuts = [[token] * 110, [token] * 90], (100, 10)  # both fit; 100 + 80 would not
    with torch.no_grad():
        out = pause_after(view, rows, cuts, first=2, stop=5).run()
    for number, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        wanted = block_outputs(view, row)[4][cut:]
        assert close(out[number, : len(row) - cut], wanted)


def test_some_rows_of_a_paused_pass_are_the_same_rows(view: ModelView) -> None:
    rows = tokens(view)
    cuts = (3, 0, 2, 5)
    paused = pause_after(view, rows, cuts, first=2, stop=5)
    kept = torch.tensor([3, 1])
    with torch.no_grad():
        every, some = paused.run(), paused.rows(kept).run()
        again = paused.rows(kept).rows(torch.tensor([1])).run()
    assert close(some, every[kept])
    assert close(again, every[1:2])


def test_as_many_rows_as_positions_are_told_apart(view: ModelView) -> None:
    rows = [row[:4] for row in tokens(view) if len(row) >= 4]  # a square batch
    rows = [*rows, rows[0][::-1]][:4]
    paused = pause_after(view, rows, [0] * len(rows), first=1, stop=5)
    with torch.no_grad():
        assert close(paused.rows(torch.tensor([2])).run()[0], paused.run()[2])


def test_a_row_of_one_token_at_position_zero(view: ModelView) -> None:
    rows = [[view.tokenizer("Italy")["input_ids"][0]], tokens(view)[0]]
    paused = pause_after(view, rows, (0, 4), first=0, stop=5)
    with torch.no_grad():
        out = paused.run()
    assert close(out[0, :1], block_outputs(view, rows[0])[4])
    assert bool(out.isfinite().all())


def test_gradients_flow_through_a_paused_pass_to_its_input_alone(view: ModelView) -> None:
    paused = pause_after(view, tokens(view), (1, 0, 1, 1), first=3, stop=5)
    start = paused.hidden.clone().requires_grad_()
    paused.run(start).sum().backward()
    assert start.grad is not None
    assert all(p.grad is None for p in view.model.parameters())


def test_reading_a_kept_prefix_never_makes_it_longer() -> None:
    kept = KeptPrefix()
    keys, values = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 3, 4)
    super(KeptPrefix, kept).update(keys, values, 0)
    more = torch.randn(2, 1, 5, 4)
    for _ in range(2):
        found, _ = kept.update(more, more, 0)
        assert torch.equal(found, torch.cat([keys, more], dim=-2))
    assert torch.equal(kept.rows(torch.tensor([1])).update(more[1:], more[1:], 0)[0][0], found[1])


def test_padding_stands_where_it_should(llama: ModelView) -> None:
    ids, mask = left_padded(llama, [[5, 6], [7]])
    assert ids[:, -1].tolist() == [6, 7]
    assert mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = right_padded(llama, [[5, 6], [7]])
    assert ids[:, 0].tolist() == [5, 7]
    assert mask.tolist() == [[1, 1], [1, 0]]


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


def test_grouped_heads_are_among_the_layouts(make_view: MakeView) -> None:
    for layout in ("llama", "qwen2"):
        config = make_view(layout).model.config
        assert config.num_key_value_heads < config.num_attention_heads
