"""Adam on chosen nodes is torch's own: on each node alone, or on all of them with a mask."""

import torch
from torch import Tensor

from editing.editors.adam import NodeAdam

_NODES, _WIDTH, _LR = 6, 4, 1e-2


def draws(steps: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """A gradient [n, d] and a mask [n] for every step."""
    chance = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(_NODES, _WIDTH, generator=chance),
            torch.rand(_NODES, generator=chance) < 0.5,
        )
        for _ in range(steps)
    ]


def trained(steps: list[tuple[Tensor, Tensor]], *, legacy: bool) -> Tensor:
    adam = NodeAdam.empty(_WIDTH, torch.device("cpu"), legacy=legacy)
    adam.grow(_NODES)
    values = torch.zeros(_NODES, _WIDTH)
    for gradient, chosen in steps:
        adam.step(values, gradient, chosen, _LR)
    return values


def by_torch(gradients: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    values = torch.zeros(shape, requires_grad=True)
    adam = torch.optim.Adam([values], lr=_LR)
    for gradient in gradients:
        values.grad = gradient.clone()
        adam.step()
    return values.detach()


def test_masked_each_node_is_trained_as_if_it_were_alone() -> None:
    steps = draws(12)
    values = trained(steps, legacy=False)
    for node in range(_NODES):
        mine = [gradient[node] for gradient, chosen in steps if chosen[node]]
        assert torch.allclose(values[node], by_torch(mine, (_WIDTH,)), atol=1e-7)


def test_masked_a_node_that_is_not_chosen_does_not_move() -> None:
    steps = draws(12)
    one = trained(steps, legacy=False)
    gradient = torch.ones(_NODES, _WIDTH)
    other = trained([*steps, (gradient, torch.arange(_NODES) == 2)], legacy=False)
    moved = (one != other).any(1)
    assert moved.tolist() == [node == 2 for node in range(_NODES)]


def test_legacy_is_one_adam_whose_gradient_is_zero_outside_the_mask() -> None:
    steps = draws(12)
    masked = [torch.where(chosen[:, None], gradient, 0) for gradient, chosen in steps]
    expected = by_torch(masked, (_NODES, _WIDTH))
    assert torch.allclose(trained(steps, legacy=True), expected, atol=1e-7)


def test_legacy_momentum_moves_nodes_that_are_not_chosen_any_more() -> None:
    gradient = torch.ones(_NODES, _WIDTH)
    everyone, nobody = torch.ones(_NODES, dtype=torch.bool), torch.zeros(_NODES, dtype=torch.bool)
    steps = [(gradient, everyone), (gradient, nobody)]
    assert trained(steps, legacy=True)[0, 0] < trained(steps[:1], legacy=True)[0, 0]
    assert torch.equal(trained(steps, legacy=False), trained(steps[:1], legacy=False))


def test_nodes_that_come_later_are_those_of_a_whole_matrix() -> None:
    steps = draws(9)
    late = torch.tensor([4, 5])
    for _, chosen in steps[:5]:
        chosen[late] = False
    masked = [torch.where(chosen[:, None], gradient, 0) for gradient, chosen in steps]
    expected = by_torch(masked, (_NODES, _WIDTH))

    adam = NodeAdam.empty(_WIDTH, torch.device("cpu"), legacy=True)
    adam.grow(4)
    values = torch.zeros(4, _WIDTH)
    for number, (gradient, chosen) in enumerate(steps):
        if number == 5:
            adam.grow(2)
            values = torch.cat([values, torch.zeros(2, _WIDTH)])
        adam.step(values, gradient[: len(values)], chosen[: len(values)], _LR)
    assert torch.allclose(values, expected, atol=1e-7)
