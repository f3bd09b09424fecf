"""The fast search finds what the plain loop finds, and ends when it should."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch

from editing.editors import zsearch
from editing.editors.asking import Asking
from editing.editors.zsearch import Found, find_delta
from editing.errors import NumericOverflow, SearchDiverged, TextTooLong
from editing.hparams import Search
from editing.model.view import ModelView
from editing.request import EditRequest
from editing.run import finish
from editing.step import Step

from . import plain
from .conftest import MakeView
from .facts import CAPITAL, SPORT, UNREACHABLE

# Gentle enough that the last bits of float32 do not grow from step to step.
SEARCH = Search(steps=8, lr=0.1, rank_one_steps=0, stop_loss=0.0, min_probability=0.0)
PREFIXES = ("The man", "Therefore the people who live in Berlin speak German", "I")

ONE_TOKEN = EditRequest(subject="A", prompt="{} plays the sport of", target_new="tennis")
LATIN_NOT = EditRequest(subject="日本", prompt="The capital of {} is", target_new="Москва")
LONG_TARGET = EditRequest(
    subject="Diego Maradona",
    prompt="People say that {} plays the sport of",
    target_new="the people who live in Berlin",
)
# At position 0 and not, of one token and of many, with targets of one token and of many.
BATCH = [SPORT, CAPITAL, ONE_TOKEN, LATIN_NOT, LONG_TARGET]


def find(
    view: ModelView,
    requests: Sequence[EditRequest],
    *,
    layer: int = 2,
    search: Search = SEARCH,
    prefixes: Sequence[str] = PREFIXES,
    reference: torch.Tensor | None = None,
) -> Found:
    return finish(
        find_delta(
            view,
            requests,
            layer=layer,
            search=search,
            asking=Asking(prefixes),
            reference=None if reference is None else reference[:, None],
        )
    )


class TestAgainstThePlainLoop:
    @pytest.mark.parametrize("start", ["no-bos", "bos"])
    def test_a_batch_of_unlike_requests_finds_each_one_s_delta(
        self, layout: str, make_view: MakeView, start: str
    ) -> None:
        view = make_view(layout, bos=start == "bos")
        found = find(view, BATCH)
        for number, request in enumerate(BATCH):
            alone = plain.search(view, request, layer=2, search=SEARCH, prefixes=PREFIXES)
            assert float((found.delta[number] - alone.delta).abs().max()) <= 1e-4, request
            assert found.probability[number] == pytest.approx(alone.probability, abs=1e-4)
            assert found.steps[number] == alone.steps == SEARCH.steps
            assert float(alone.delta.norm()) > 0.1  # there was something to compare

    def test_in_float64_it_is_tighter(self, layout: str, make_view: MakeView) -> None:
        view = make_view(layout, dtype=torch.float64)
        found = find(view, BATCH[:2])
        for number, request in enumerate(BATCH[:2]):
            alone = plain.search(view, request, layer=2, search=SEARCH, prefixes=PREFIXES)
            assert float((found.delta[number] - alone.delta).abs().max()) <= 2e-6

    @pytest.mark.parametrize("layer", [0, 1, 3])
    def test_at_any_depth(self, llama: ModelView, layer: int) -> None:
        found = find(llama, [SPORT, CAPITAL], layer=layer)
        for number, request in enumerate([SPORT, CAPITAL]):
            alone = plain.search(llama, request, layer=layer, search=SEARCH, prefixes=PREFIXES)
            assert float((found.delta[number] - alone.delta).abs().max()) <= 1e-4

    def test_without_prefixes(self, view: ModelView) -> None:
        found = find(view, [ONE_TOKEN], prefixes=())
        alone = plain.search(view, ONE_TOKEN, layer=2, search=SEARCH, prefixes=())
        assert float((found.delta[0] - alone.delta).abs().max()) <= 1e-4

    def test_a_request_whose_target_stands_right_behind_the_subject(self, view: ModelView) -> None:
        request = EditRequest(subject="Italy", prompt="Rome and {}", target_new="is Madrid")
        found = find(view, [request, SPORT])
        alone = plain.search(view, request, layer=2, search=SEARCH, prefixes=PREFIXES)
        assert float((found.delta[0] - alone.delta).abs().max()) <= 1e-4

    def test_when_the_ball_s_edge_is_reached(self, view: ModelView) -> None:
        tight = Search(**{**_knobs(SEARCH), "lr": 0.5, "max_norm": 0.2})
        found = find(view, [SPORT, CAPITAL], search=tight)
        for number, request in enumerate([SPORT, CAPITAL]):
            alone = plain.search(view, request, layer=2, search=tight, prefixes=PREFIXES)
            assert float((found.delta[number] - alone.delta).abs().max()) <= 1e-4
            placed = plain.place(view.tokenizer, request, "")
            _, v, h = plain.read(view, placed.text, placed.subject, 2, 2)
            size = float((v if view.layout.post_norm else h).norm())  # v enters that norm
            assert float(found.delta[number].norm()) == pytest.approx(0.2 * size, 1e-4)

    def test_another_vector_may_set_the_scale(self, llama: ModelView) -> None:
        tight = Search(**{**_knobs(SEARCH), "lr": 0.5, "max_norm": 0.5})
        scale = torch.full((2, llama.facts.d_model), 0.1)
        found = find(llama, [SPORT, LONG_TARGET], search=tight, reference=scale)
        for number, request in enumerate([SPORT, LONG_TARGET]):
            alone = plain.search(
                llama, request, layer=2, search=tight, prefixes=PREFIXES, reference=scale[number]
            )
            assert float((found.delta[number] - alone.delta).abs().max()) <= 1e-4

    def test_facts_that_end_early_do_so_at_the_plain_loop_s_step(self, view: ModelView) -> None:
        stopping = Search(steps=25, lr=0.2, rank_one_steps=2, min_probability=0.0)
        found = find(view, BATCH[:3], search=stopping)
        for number, request in enumerate(BATCH[:3]):
            alone = plain.search(view, request, layer=2, search=stopping, prefixes=PREFIXES)
            assert found.steps[number] == alone.steps
            assert float((found.delta[number] - alone.delta).abs().max()) <= 1e-3


class TestWhenItEnds:
    def test_a_fact_found_in_a_batch_is_the_fact_found_alone(self, view: ModelView) -> None:
        batch = find(view, BATCH)
        for number, request in enumerate(BATCH):
            alone = find(view, [request])
            assert float((batch.delta[number] - alone.delta[0]).abs().max()) <= 1e-4

    def test_chunks_make_no_difference_and_keep_the_order(
        self, view: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        together = find(view, BATCH)
        monkeypatch.setattr(zsearch, "_POSITIONS", 1)
        steps = list[Step]()
        work = find_delta(view, BATCH, layer=2, search=SEARCH, asking=Asking(PREFIXES))
        apart = finish(work, steps.append)
        assert float((apart.delta - together.delta).abs().max()) <= 1e-4
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert steps[-1].done == len(BATCH)

    def test_a_finished_fact_does_not_move_while_others_go_on(self, llama: ModelView) -> None:
        # The second fact goes on for all the steps that the first one ends before.
        stopping = Search(steps=40, lr=0.2, rank_one_steps=1, min_probability=0.0)
        both = find(llama, [SPORT, UNREACHABLE], search=stopping)
        assert both.steps[0] < both.steps[1]
        until = Search(**{**_knobs(stopping), "steps": both.steps[0]})
        assert torch.allclose(both.delta[0], find(llama, [SPORT], search=until).delta[0], atol=1e-5)

    def test_it_stops_below_the_loss(self, llama: ModelView) -> None:
        loose = Search(steps=50, stop_loss=2.0, rank_one_steps=0, min_probability=0.0)
        losses = list[float]()
        work = find_delta(llama, [SPORT], layer=2, search=loose, asking=Asking(PREFIXES))
        found = finish(work, lambda step: losses.append(float(step.loss or 0)))
        assert len(losses) == found.steps[0] < 50
        assert losses[-1] < 2.0 <= min(losses[:-1])

    def test_it_stops_after_enough_steps_as_the_first_choice(self, llama: ModelView) -> None:
        knobs = {"steps": 60, "stop_loss": 0.0, "min_probability": 0.0, "lr": 0.2}
        steps = [
            find(llama, [SPORT], search=Search(**knobs, rank_one_steps=n)).steps[0]
            for n in (1, 2, 5, 0)
        ]
        assert all(after > before for before, after in pairwise(steps))
        assert steps[1] == steps[0] + 1
        assert steps[3] == 60

    def test_only_steps_in_a_row_count(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forward = zsearch._forward
        firsts = iter([True, False, True, True, True])

        def scripted(*args: object) -> tuple[torch.Tensor, ...]:
            nll, essence, _ = forward(*args)
            return nll, essence, torch.tensor([next(firsts)])

        monkeypatch.setattr(zsearch, "_forward", scripted)
        knobs = {"stop_loss": 0.0, "min_probability": 0.0}
        assert find(llama, [SPORT], search=Search(**knobs, rank_one_steps=2)).steps == [4]

    def test_no_gradient_is_left_on_the_model(self, llama: ModelView) -> None:
        found = find(llama, [SPORT])
        assert not found.delta.requires_grad
        assert all(p.grad is None for p in llama.model.parameters())


class TestWhenItDoesNotFit:
    def test_a_prompt_that_fits_alone_but_not_behind_its_prefix_is_refused_in_words(
        self, view: ModelView
    ) -> None:
        wordy = EditRequest(
            subject="Italy", prompt="sea " * 58 + "{} and " + "sea " * 58, target_new="Madrid"
        )
        fits = plain.place(view.tokenizer, wordy, "")
        assert fits.subject < len(fits.ids) <= 128 - 3
        with pytest.raises(TextTooLong, match="room for 128"):
            find(view, [wordy], prefixes=("The old man said that I like the sea",))


class TestWhenItDiverges:
    def test_a_target_out_of_reach_is_refused_with_what_to_do(self, view: ModelView) -> None:
        tiny_ball = Search(steps=3, max_norm=0.001, min_probability=0.5)
        with pytest.raises(SearchDiverged, match=r"After 3 steps p\('tennis'.*Raise") as raised:
            find(view, [SPORT], search=tiny_ball)
        reached = raised.value.fields["reached"]
        assert isinstance(reached, float)
        assert 0 <= reached < 0.5

    def test_one_bad_fact_names_itself_among_good_ones(self, llama: ModelView) -> None:
        with pytest.raises(SearchDiverged) as raised:
            find(llama, [SPORT, UNREACHABLE], search=Search(min_probability=0.5))
        assert raised.value.fields["subject"] == UNREACHABLE.subject

    def test_a_model_that_answers_nan_is_no_matter_of_the_search(self, view: ModelView) -> None:
        name = view.down_proj(4)  # above the searched layer
        view.module(name).weight.data.fill_(torch.nan)
        with pytest.raises(NumericOverflow, match="answers before the edit"):
            find(view, [SPORT], search=Search(min_probability=0.0))

    def test_a_nan_on_the_way_is_a_divergence_in_plain_json(
        self, llama: ModelView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forward = zsearch._forward
        calls = list[int]()

        def spoiled(*args: object) -> tuple[torch.Tensor, ...]:
            calls.append(1)
            nll, essence, first = forward(*args)
            return nll * (torch.nan if len(calls) > 2 else 1), essence, first

        monkeypatch.setattr(zsearch, "_forward", spoiled)
        with pytest.raises(SearchDiverged, match=r"After 3 steps.*lower search\.lr") as raised:
            find(llama, [SPORT])
        assert raised.value.fields["reached"] is None

    def test_a_learning_rate_beyond_reason_does_not_pass_for_a_success(
        self, llama: ModelView
    ) -> None:
        with pytest.raises(SearchDiverged):
            find(llama, [LONG_TARGET], search=Search(lr=100, max_norm=100, min_probability=0.9))


def _knobs(search: Search) -> dict[str, float]:
    return {name: getattr(search, name) for name in Search.__dataclass_fields__}
