"""Causal tracing gives what slow hooks give, on every layout, and says which facts it left out."""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from editing.datasets.known_facts import KnownFact, tracing_cases
from editing.errors import BadRecord
from editing.evals.catalogue import suite
from editing.evals.run import rows_of, summary_of
from editing.evals.scene import Scene
from editing.metrics.tracing.effects import (
    KINDS,
    Effects,
    Kind,
    effects,
    span_of_window,
    window_of,
)
from editing.metrics.tracing.noise import drawn, noisy, sigma_of
from editing.metrics.tracing.spans import ROLES, Corrupt, Spanned, spanned
from editing.model.tokens import continued
from editing.model.view import ModelView
from editing.run import finish
from tests.tiny import LAYOUTS, OTHERS, UNMAPPED

from .conftest import MakeView
from .facts import changed, copied, hooked, nudge

SPORT = KnownFact(subject="LeBron James", prompt="{} plays the sport of", attribute="basketball")
CAPITAL = KnownFact(subject="Italy", prompt="The capital of {} is", attribute="Rome")
COPIES, WINDOW = 3, 3


def traced(
    view: ModelView, fact: KnownFact, corrupt: Corrupt = "subject", **how: Any
) -> tuple[Spanned, Tensor, int, Effects]:
    prompt = spanned(view, fact, corrupt)
    assert prompt is not None
    noise = drawn(view, prompt, 3 * sigma_of(view, [fact.subject]), copies=COPIES, seed=0)
    answer = continued(view.tokenizer, view.asked(fact.text), fact.attribute).targets[0]
    return prompt, noise, answer, finish(effects(view, prompt, answer, noise, **how))


class Slow:
    """One forward pass of the whole model for each number, with plain hooks."""

    def __init__(self, view: ModelView, prompt: Spanned, noise: Tensor, answer: int) -> None:
        self.view, self.prompt, self.noise, self.answer = view, prompt, noise, answer
        self.clean = self.heard(corrupted=False)
        self.copies = self.heard(corrupted=True)

    def writer(self, site: str, layer: int) -> nn.Module:
        return self.view.module(self.view.written_at(layer, site))  # type: ignore[arg-type]

    def modules(self) -> Mapping[tuple[str, int], nn.Module]:
        layers = range(len(self.view.blocks))
        found = {("state", layer): self.view.blocks[layer] for layer in layers}
        return found | {(s, n): self.writer(s, n) for s in ("mlp", "attention") for n in layers}

    @contextmanager
    def on(self, place: tuple[str, int], do: Callable[[Tensor], Tensor | None]) -> Generator[None]:
        def hook(_: nn.Module, __: object, out: Any) -> Any:
            first = out[0] if isinstance(out, tuple) else out
            given = do(first.unflatten(0, (COPIES, -1)) if first.dim() == 2 else first)
            if given is None:
                return None
            given = given.reshape(first.shape)
            return (given, *out[1:]) if isinstance(out, tuple) else given

        handle = self.modules()[place].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def run(self, *, corrupted: bool) -> float:
        ids = torch.tensor([self.prompt.ids] * COPIES)
        with ExitStack() as stack:
            if corrupted:
                stack.enter_context(noisy(self.view, self.noise, self.prompt.start))
            logits = self.view.model(input_ids=ids).logits[:, -1].float()
        return float(logits.softmax(-1)[:, self.answer].mean())

    def heard(self, *, corrupted: bool) -> dict[tuple[str, int], Tensor]:
        found: dict[tuple[str, int], Tensor] = {}
        with ExitStack() as stack:
            for place in self.modules():

                def hear(out: Tensor, place: tuple[str, int] = place) -> None:
                    found[place] = out.clone()

                stack.enter_context(self.on(place, hear))
            self.run(corrupted=corrupted)
        return found

    def restored(self, kind: Kind, layer: int, token: int) -> float:
        depth = len(self.view.blocks)
        held: list[tuple[tuple[str, int], Tensor]] = []
        if kind in {"mlp", "attention"}:
            window = span_of_window(layer, WINDOW, depth)
            held += [((kind, other), self.clean[kind, other]) for other in window]
        else:
            held.append((("state", layer), self.clean["state", layer]))
            if kind != "state":
                site = kind.removeprefix("severed_")
                later = range(layer + 1, depth)
                held += [((site, other), self.copies[site, other]) for other in later]
        with ExitStack() as stack:
            for place, source in held:

                def put(out: Tensor, source: Tensor = source) -> Tensor:
                    moved = out.clone()
                    moved[:, token] = source[:, token]
                    return moved

                stack.enter_context(self.on(place, put))
            return self.run(corrupted=True)


@pytest.mark.parametrize("name", [*LAYOUTS, *OTHERS, UNMAPPED])
@pytest.mark.parametrize(("fact", "corrupt"), [(SPORT, "subject"), (CAPITAL, "relation")])
def test_the_grid_is_that_of_slow_hooks(
    make_view: MakeView, name: str, fact: KnownFact, corrupt: Corrupt
) -> None:
    view = make_view(name)
    before = copied(view)
    prompt, noise, answer, found = traced(view, fact, corrupt, window=WINDOW)
    assert hooked(view) == []
    assert changed(view, before) == set()
    slow = Slow(view, prompt, noise, answer)
    assert found.clean == pytest.approx(slow.run(corrupted=False), abs=1e-5)
    assert found.corrupted == pytest.approx(slow.run(corrupted=True), abs=1e-5)
    assert abs(found.te) > 1e-4  # the noise was heard
    for kind in KINDS:
        grid = found.ie[kind]
        assert grid.shape == (5, len(prompt.ids))
        for layer in (1, 4):
            for token in range(len(prompt.ids)):
                wanted = slow.restored(kind, layer, token) - found.corrupted
                assert float(grid[layer, token]) == pytest.approx(wanted, abs=2e-5)


def test_restoring_the_last_state_of_all_is_the_clean_run_and_the_first_of_others_nothing(
    view: ModelView,
) -> None:
    _, _, _, found = traced(view, SPORT, kinds=["state"])
    grid = found.ie["state"]
    assert float(grid[-1, -1]) == pytest.approx(found.te, abs=1e-5)
    # what other tokens say in the last layer is heard by nobody
    assert grid[-1, :-1].abs().max() < 1e-6


def test_what_lies_before_the_span_restores_nothing(llama: ModelView) -> None:
    prompt, _, _, found = traced(llama, CAPITAL)
    before = prompt.start - prompt.first
    assert before > 1
    assert all(bool((grid[:, :before] == 0).all()) for grid in found.ie.values())
    assert all(bool((grid[:, before:] != 0).any()) for grid in found.ie.values())


def test_chosen_layers_are_the_same_lines_of_the_grid(llama: ModelView) -> None:
    *_, whole = traced(llama, SPORT, kinds=["mlp", "severed_attention"])
    *_, some = traced(llama, SPORT, kinds=["mlp", "severed_attention"], layers=[1, 4])
    for kind, grid in some.ie.items():
        assert torch.allclose(grid, whole.ie[kind][[1, 4]], atol=1e-6)


def test_a_window_is_a_fifth_of_the_layers_cut_off_at_the_ends() -> None:
    assert [window_of(layers) for layers in (5, 30, 48)] == [3, 6, 10]
    assert list(span_of_window(24, 10, 48)) == list(range(19, 29))
    assert list(span_of_window(0, 3, 5)) == [0, 1]
    assert list(span_of_window(4, 3, 5)) == [3, 4]


def test_noise_is_as_loud_as_said_and_the_same_again(llama: ModelView) -> None:
    embed = llama.model.get_input_embeddings()
    subjects = ["LeBron James", "Italy"]
    ids = [i for s in subjects for i in llama.tokenizer(s, add_special_tokens=False)["input_ids"]]
    sigma = sigma_of(llama, subjects)
    assert sigma == pytest.approx(float(embed(torch.tensor(ids)).std(correction=0)), rel=1e-5)
    prompt = spanned(llama, SPORT, "subject")
    assert prompt is not None
    one = drawn(llama, prompt, 2.0, copies=200, seed=1)
    assert float(one.std()) == pytest.approx(2.0, rel=0.02)
    assert torch.equal(one, drawn(llama, prompt, 2.0, copies=200, seed=1))
    assert not torch.equal(one, drawn(llama, prompt, 2.0, copies=200, seed=2))


def test_the_span_is_found_behind_a_start_token_and_a_preface(make_view: MakeView) -> None:
    view = make_view("llama", bos=True)
    for preface in ("", "I like the sea. "):
        with view.showing(replace(view.current, preface=preface)):
            prompt = spanned(view, SPORT, "subject")
            assert prompt is not None
            text = view.tokenizer.decode(prompt.ids[prompt.start : prompt.stop])
            assert text.strip() == "LeBron James"
            assert prompt.first == prompt.start >= 1
            assert "".join(prompt.labels).strip() == SPORT.text


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("{} plays the sport of", "plays the sport of"),
        ("The mother tongue of {} is", "The mother tongue of"),
        ("{}, a native", "a native"),
        ("What does {} play? They play", "play? They play"),
        ("{}", None),
        ("{} ?", None),
    ],
)
def test_the_relation_is_what_stands_beside_the_subject(prompt: str, words: str | None) -> None:
    fact = KnownFact(subject="Anna", prompt=prompt, attribute="x")
    at = fact.relation_at
    assert (at and fact.text[slice(*at)]) == words


def test_a_named_relation_is_looked_for_outside_the_subject() -> None:
    named = {"attribute": "x", "relation_text": "sport of"}
    fact = KnownFact(subject="sport of kings", prompt="{} is the sport of", **named)
    assert fact.relation_at is not None
    assert fact.text[slice(*fact.relation_at)] == "sport of"
    assert fact.relation_at[0] > len("sport of kings")
    assert KnownFact(subject="sport of kings", prompt="{} is", **named).relation_at is None


def test_every_token_behind_the_prompts_first_has_a_role() -> None:
    prompt = Spanned(list(range(10)), 1, 2, 5, [""] * 9)
    assert prompt.roles == {
        "first corrupted": [2],
        "middle corrupted": [3],
        "last corrupted": [4],
        "first subsequent": [5],
        "further": [6, 7, 8],
        "last": [9],
    }
    to_the_end = Spanned(list(range(5)), 0, 4, 5, [""] * 5).roles
    assert to_the_end["first corrupted"] == to_the_end["last corrupted"] == [4]
    assert to_the_end["first subsequent"] == to_the_end["further"] == []


def records() -> list[dict[str, Any]]:
    return [
        {"subject": "LeBron James", "attribute": "basketball", "prompt": "{} plays the sport of"},
        {
            "known_id": 1,
            "subject": "Italy",
            "attribute": "Rome",
            "template": "The capital of {}",
            "prompt": "The capital of Italy is",
            "prediction": " Rome",
            "relation_id": "P36",
        },
        {"subject": "Spain", "attribute": "Paris", "template": "The capital of {} is"},
        {"subject": "Roger Federer", "attribute": "tennis", "prompt": "{}"},
    ]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"attribute": None}, "no text as its attribute"),
        ({"prompt": None}, "no text as its prompt"),
        ({"subject": "Italy"}, "does not name its subject"),
        ({"prompt": "{} and {} play"}, "does not name its subject"),
        ({"prompt": "LeBron James plays", "subject": 7}, "no text as its subject"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(wrong: dict[str, Any], why: str) -> None:
    record = {**records()[0], "prompt": "LeBron James plays the sport of", **wrong}
    with pytest.raises(BadRecord, match=f"Record 1 .*{why}"):
        tracing_cases([records()[1], record])


def test_a_template_tells_which_of_two_names_is_the_subject() -> None:
    record = {"subject": "Roma", "attribute": "x", "template": "{} is", "prompt": "Roma is in Roma"}
    assert tracing_cases([record])[0].fact.prompt == "{} is in Roma"


def test_a_suite_run_counts_what_the_model_does_not_know(make_view: MakeView) -> None:
    view = make_view("llama")
    one = suite("tracing")
    options = one.options_of({"copies": 2, "severed": False, "every": 2})
    cases = one.read(records(), options)
    scene = Scene(view=view, options=options)
    rows = [
        row
        for number, case in enumerate(cases)
        for row in finish(rows_of(one, scene, case, number, view.current))
    ]
    skipped = [(row["case"], row["skipped"]) for row in rows if "skipped" in row]
    assert (2, "unknown") in skipped
    told = summary_of(one, rows, options)
    traced_cases = {row["case"] for row in rows if "ie" in row}
    assert {0, 1} <= traced_cases
    assert told["values"]["known"]["n"] == len(cases)
    assert told["values"]["known"]["value"] == len(traced_cases) / len(cases)
    assert told["skipped"] == {"unknown": len(cases) - len(traced_cases)}
    first = next(row for row in rows if row["case"] == 1)
    assert "".join(first["tokens"][slice(*first["span"])]).strip() == "Italy"
    assert first["layers"] == [0, 2, 4]
    assert len(first["ie"]) == 3
    te = told["values"]["te"]
    assert te["low"] <= te["value"] <= te["high"]
    lines = told["tables"]["aie"]["rows"]
    assert {line[1] for line in lines} <= set(ROLES)
    by_hand = [row["ie"][1][row["roles"]["last"][0]] for row in rows if row.get("kind") == "state"]
    (line,) = [at for at in lines if at[:3] == ["state", "last", 2]]
    assert line[3] == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-6)


def test_a_prompt_without_a_relation_is_a_counted_skip(make_view: MakeView) -> None:
    view = make_view("llama")
    one = suite("tracing")
    options = one.options_of({"copies": 1, "corrupt": "relation"})
    # what the model goes on with behind the bare name, so that the fact is known
    record = {"subject": "LeBron James", "attribute": "plays", "prompt": "{}"}
    (case,) = one.read([record], options)
    rows = finish(rows_of(one, Scene(view=view, options=options), case, 0, view.current))
    assert [row.get("skipped") for row in rows] == ["span-not-found"]
    assert summary_of(one, rows, options)["values"]["te"]["value"] is None


def test_tracing_is_of_the_state_that_is_measured(make_view: MakeView) -> None:
    view = make_view("llama")
    one = suite("tracing")
    options = one.options_of({"copies": 1, "severed": False})
    (case,) = one.read(records()[:1], options)
    moved = view.after(nudge(view, size=0.01))
    scene = Scene(view=view, options=options)
    base = finish(rows_of(one, scene, case, 0, view.current))
    other = finish(rows_of(one, scene, case, 0, moved))
    assert base[0]["p_clean"] != other[0]["p_clean"]
