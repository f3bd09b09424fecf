"""C is the naive sum over the same tokens, whatever the batches, and survives being killed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from editing.errors import EmptyField, StatsMissing
from editing.hparams import Statistics
from editing.model.view import ModelView
from editing.run import finish
from editing.stats import moments
from editing.stats.moments import ensure_moments
from editing.stats.store import MomentKey, StatsStore
from editing.step import Step
from editing.walk import Plan, edit, prepare
from tests.tiny import tiny_view

from . import plain
from .conftest import MakeView
from .facts import CAPITAL, SPORT, hooked, run

TEXTS = (
    "The capital of France is Paris.",
    "Italy",
    "Anna works in the field of physics, and because of that I like you.",
    "東京は日本の首都です。",
    "A bridge, a river and a mountain are seen from the window of the old house by the sea. " * 2,
    "x",
)
MANY = Statistics(tokens_per_dimension=100_000)  # all of the texts


def collect(
    view: ModelView,
    layers: Sequence[int],
    recipe: Statistics = MANY,
    texts: Sequence[str] | None = TEXTS,
    weights: str = "w",
) -> list[Step]:
    steps = list[Step]()
    finish(ensure_moments(view, layers, recipe, weights, texts), steps.append)
    return steps


class TestFromTexts:
    @pytest.mark.parametrize("start", ["no-bos", "bos"])
    @pytest.mark.parametrize("batch_tokens", [2048, 70])
    def test_it_is_the_naive_sum_without_padding_and_first_positions(
        self, layout: str, make_view: MakeView, start: str, batch_tokens: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(moments, "_BATCH_TOKENS", batch_tokens)
        view = make_view(layout, bos=start == "bos", stats_folder=None)
        collect(view, [1, 3])
        for layer in (1, 3):
            keys = torch.cat([plain.keys_of(view, text, layer)[1:] for text in TEXTS])
            found = view.stats.second_moment(layer, MANY)
            assert found.dtype == torch.float64
            assert torch.allclose(found, keys.T @ keys / len(keys), rtol=1e-4, atol=1e-5)
        assert hooked(view) == []

    def test_all_layers_in_one_pass_are_the_layers_one_by_one(self, layout: str) -> None:
        apart = tiny_view(layout)
        together = tiny_view(layout)
        collect(together, [0, 1, 2, 3])
        for layer in range(4):
            collect(apart, [layer])
            one, other = (v.stats.second_moment(layer, MANY) for v in (apart, together))
            assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)

    def test_it_stops_when_enough_was_read(self) -> None:
        recipe = Statistics(tokens_per_dimension=2)
        read = list[str]()

        def endless() -> Iterator[str]:
            while True:
                read.append("I like the sea and the old house by the river.")
                yield read[-1]

        view = tiny_view("llama")
        steps = list[Step]()
        finish(ensure_moments(view, [1], recipe, "w", endless()), steps.append)
        assert steps[-1].done == steps[-1].total == 2 * view.facts.d_key
        assert len(read) < 400

    def test_long_texts_are_cut_into_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(moments, "_WINDOW", 8)
        view = tiny_view("llama")
        ids = view.tokenizer(TEXTS[4])["input_ids"]
        windows = [ids[at : at + 8] for at in range(0, len(ids), 8)]
        batches = list(moments._batches(view, [TEXTS[4]]))
        assert [row for batch in batches for row in batch] == [w for w in windows if len(w) > 1]

    def test_a_window_is_never_longer_than_the_model(self, layout: str) -> None:
        fresh = tiny_view(layout)
        collect(fresh, [1], texts=["I like the sea. " * 200])
        assert bool(fresh.stats.second_moment(1, MANY).isfinite().all())

    @pytest.mark.parametrize("texts", [[], ["x"], ["", " "]])
    def test_texts_without_any_token_to_count_are_refused(self, texts: list[str]) -> None:
        view = tiny_view("llama")
        with pytest.raises(EmptyField, match="texts"):
            collect(view, [1], texts=texts)
        with pytest.raises(StatsMissing):
            view.stats.second_moment(1, MANY)


class TestSelfSampled:
    RECIPE = Statistics(tokens_per_dimension=100)  # several batches

    def test_the_same_model_says_the_same(self, layout: str) -> None:
        found = list[torch.Tensor]()
        for _ in range(2):
            view = tiny_view(layout)
            collect(view, [1, 2], self.RECIPE, None)
            found.append(view.stats.second_moment(2, self.RECIPE))
        assert torch.equal(found[0], found[1])

    def test_every_batch_samples_texts_of_its_own(self) -> None:
        view = tiny_view("llama")
        one, two = Statistics(tokens_per_dimension=10), Statistics(tokens_per_dimension=90)
        counts = [len(collect(view, [1], recipe, None)) for recipe in (one, two)]
        assert counts[1] == 2 * counts[0]
        again, first = (view.stats.second_moment(1, recipe) for recipe in (two, one))
        assert not torch.allclose(again, first, rtol=1e-3)

    def test_nobody_s_random_numbers_are_used_up(self) -> None:
        torch.manual_seed(3)
        wanted = torch.rand(1)
        torch.manual_seed(3)
        collect(tiny_view("llama"), [1], Statistics(), None)
        assert torch.equal(torch.rand(1), wanted)

    def test_progress_climbs_to_its_total(self) -> None:
        view = tiny_view("llama")
        steps = collect(view, [1], self.RECIPE, None)
        done = [step.done for step in steps]
        assert done == sorted(done)
        assert done[-1] == steps[-1].total == 100 * view.facts.d_key
        assert {step.stage for step in steps} == {"statistics"}

    def test_an_edited_head_does_not_change_it(self) -> None:
        plainly, edited = tiny_view("llama"), tiny_view("llama")
        plan = Plan.of(plainly, "memit")
        finish(prepare(plainly, plan))
        outcome = run(plainly, "memit", [CAPITAL])
        edited.adopt(edited.after(outcome.deltas))
        finish(prepare(edited, plan))
        (layer,) = plan.hparams.layers
        recipe = plan.hparams.statistics
        assert torch.equal(
            edited.stats.second_moment(layer, recipe), plainly.stats.second_moment(layer, recipe)
        )
        contexts = plan.hparams.contexts
        assert edited.stats.prefixes(contexts) == plainly.stats.prefixes(contexts)


class TestKilled:
    @pytest.mark.parametrize("after", [1, 20, 49, 60, 100])
    def test_a_sampling_killed_anywhere_goes_on_to_the_same_bits(
        self, tmp_path: Path, after: int
    ) -> None:
        recipe = TestSelfSampled.RECIPE
        whole = tiny_view("llama")
        total = len(collect(whole, [1, 2], recipe, None))
        work = ensure_moments(tiny_view("llama", stats_folder=tmp_path), [1, 2], recipe, "w")
        for _ in range(after):
            next(work)
        work.close()
        again = tiny_view("llama", stats_folder=tmp_path)
        steps = collect(again, [1, 2], recipe, None)
        assert (len(steps) < total) == (after > 48)  # whole batches are not sampled again
        for layer in (1, 2):
            one, other = (v.stats.second_moment(layer, recipe) for v in (whole, again))
            assert torch.equal(one, other)
        assert not list(tmp_path.glob("*.sums"))

    def test_a_reading_killed_goes_on_to_the_same_bits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(moments, "_BATCH_TOKENS", 70)
        whole = tiny_view("gpt2")
        total = len(collect(whole, [1]))
        work = ensure_moments(tiny_view("gpt2", stats_folder=tmp_path), [1], MANY, "w", TEXTS)
        next(work)
        next(work)
        work.close()
        again = tiny_view("gpt2", stats_folder=tmp_path)
        assert len(collect(again, [1])) == total - 2
        assert torch.equal(again.stats.second_moment(1, MANY), whole.stats.second_moment(1, MANY))

    def test_half_written_sums_are_begun_anew(self, tmp_path: Path) -> None:
        recipe = TestSelfSampled.RECIPE
        work = ensure_moments(tiny_view("llama", stats_folder=tmp_path), [1], recipe, "w")
        for _ in range(60):
            next(work)
        work.close()
        (sums,) = tmp_path.glob("*.sums")
        sums.write_bytes(sums.read_bytes()[:-9])
        again, whole = tiny_view("llama", stats_folder=tmp_path), tiny_view("llama")
        collect(again, [1], recipe, None)
        collect(whole, [1], recipe, None)
        one, other = (v.stats.second_moment(1, recipe) for v in (again, whole))
        assert torch.equal(one, other)


class TestArtefacts:
    def test_what_was_collected_once_is_found_again(self, tmp_path: Path) -> None:
        first = tiny_view("llama", stats_folder=tmp_path)
        assert collect(first, [1, 2])
        assert collect(first, [1, 2]) == []
        second = tiny_view("llama", stats_folder=tmp_path)
        assert collect(second, [1, 2]) == []
        one, other = (v.stats.second_moment(2, MANY) for v in (first, second))
        assert torch.equal(one, other)

    def test_only_missing_layers_are_collected(self, tmp_path: Path) -> None:
        view = tiny_view("llama", stats_folder=tmp_path)
        collect(view, [1])
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        collect(view, [1, 2])
        assert {p: t for p, t in before.items() if p.stat().st_mtime_ns == t} == before
        assert len(list(tmp_path.iterdir())) == len(before) + 1

    def test_a_name_says_all_that_made_it(self, tmp_path: Path) -> None:
        store = StatsStore(tmp_path)
        key = MomentKey("sha256:a", 1, Statistics())
        others = (
            replace(key, weights="sha256:b"),
            replace(key, layer=2),
            replace(key, recipe=Statistics(tokens_per_dimension=11)),
            replace(key, seed=1),
        )
        paths = {store.path(one, "safetensors") for one in (key, *others)}
        assert len(paths) == 5
        assert store.path(replace(key), "safetensors") in paths

    def test_the_file_tells_what_made_it(self, tmp_path: Path) -> None:
        view = tiny_view("llama", stats_folder=tmp_path)
        collect(view, [1], weights="sha256:me")
        (path,) = tmp_path.glob("second-moment-1-*.safetensors")
        with safe_open(path, "pt") as opened:
            about = opened.metadata()
        assert json.loads(about["key"])["weights"] == "sha256:me"
        assert int(about["tokens"]) > 50

    def test_other_weights_collect_their_own(self, tmp_path: Path) -> None:
        found = list[torch.Tensor]()
        for scale in (1.0, 1.5):
            view = tiny_view("llama", stats_folder=tmp_path)
            view.module(view.down_proj(0)).weight.data.mul_(scale)
            plan = Plan.of(view, "memit")
            finish(prepare(view, plan))
            (layer,) = plan.hparams.layers
            found.append(view.stats.second_moment(layer, plan.hparams.statistics))
        assert not torch.equal(found[0], found[1])
        assert len(list(tmp_path.glob("prefixes-*.json"))) == 2

    def test_what_was_never_collected_is_missing_in_words(self) -> None:
        with pytest.raises(StatsMissing, match="layer 3 has not been collected"):
            StatsStore().second_moment(3, Statistics())


class TestWhatIsCounted:
    def test_the_sink_of_a_sample_is_its_start_token_or_else_its_opener(self) -> None:
        # With a start token the opener is an ordinary token and counts.
        for bos, counted in ((False, 0), (True, 64)):
            view = tiny_view("llama", bos=bos)
            first = next(ensure_moments(view, [1], Statistics(), view.fingerprint()))
            assert first.done == counted


class TestACorpus:
    def test_an_editor_uses_the_texts_that_its_plan_names(self) -> None:
        view = tiny_view("llama")
        own, read = Plan.of(view, "memit"), Plan.of(view, "memit", corpus="facts@1")
        with pytest.raises(StatsMissing):
            finish(prepare(view, read))
        finish(prepare(view, own))
        finish(prepare(view, read, TEXTS * 50))
        finish(prepare(view, read))  # at hand: the texts are not needed again
        (layer,) = own.hparams.layers
        ours = view.stats.second_moment(layer, own.hparams.statistics)
        theirs = view.stats.second_moment(layer, read.hparams.statistics)
        assert not torch.allclose(ours, theirs)
        assert finish(edit(view, read, [SPORT])).deltas
