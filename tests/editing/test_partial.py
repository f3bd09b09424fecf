"""A pass that is halted and continued gives what one whole pass gives, however rows are padded."""

import pytest
import torch

from editing.model.partial import KeptPrefix, left_padded, pause, pause_after, right_padded
from editing.model.tokens import encode
from editing.model.view import ModelView

from .conftest import MakeView
from .facts import hooked

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
    rows = [row[:4] for row in tokens(view) if len(row) >= 4]  # a square batch; four heads, too
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


def test_grouped_heads_and_windows_are_among_the_layouts(make_view: MakeView) -> None:
    grouped, windowed = make_view("llama").model.config, make_view("gemma3_text").model.config
    assert grouped.num_key_value_heads < grouped.num_attention_heads
    assert set(windowed.layer_types[1:4]) == {"sliding_attention", "full_attention"}


@pytest.mark.parametrize("layout", ["gemma3_text", "gemma2", "mistral"])
def test_a_window_holds_behind_a_kept_prefix(make_view: MakeView, layout: str) -> None:
    view = make_view(layout)
    row = encode(view.tokenizer, TEXTS[3] + ". " + TEXTS[0])
    window = view.model.config.sliding_window
    short = row[: window + 4]
    cuts = (len(row) - 3, len(short) - 6)  # windows that end before the cut, at it and behind it
    assert cuts[0] > window > len(short) - cuts[1]
    paused = pause_after(view, [row, short], cuts, first=1, stop=5)
    with torch.no_grad():
        out = paused.run()
    for number, (ids, cut) in enumerate(zip([row, short], cuts, strict=True)):
        whole = block_outputs(view, ids)[4]
        assert close(out[number, : len(ids) - cut], whole[cut:])
    other = [row[0] + 1, *row[1:]]  # what lies before the window is not heard of
    assert torch.equal(block_outputs(view, other)[0][-1], block_outputs(view, row)[0][-1])
