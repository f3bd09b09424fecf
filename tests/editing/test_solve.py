"""Closed forms against each other, in float64: the naive dense statement is the judge."""
# ruff: noqa: N802, N806 - the notation of the papers

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.delta import LowRank
from editing.errors import SingularSystem
from editing.solve import Metric, size_under, write

# The same examples every time: a law that fails must fail for whoever looks at it next.
law = settings(deadline=None, max_examples=60, derandomize=True, database=None)


@dataclass(frozen=True)
class Memory:
    """A linear memory W with a second moment, and facts to write into it."""

    W: Tensor  # [d_v, d_k]
    C: Tensor  # [d_k, d_k]
    K: Tensor  # [d_k, n]
    V: Tensor  # [d_v, n]
    weight: float

    @property
    def R(self) -> Tensor:
        return self.V - self.W @ self.K


@st.composite
def memories(draw: st.DrawFn, *, facts: int | None = None) -> Memory:
    """Well posed: fewer facts than dimensions, a second moment of more samples than dimensions."""
    d_k = draw(st.integers(4, 12))
    d_v = draw(st.integers(2, 12))
    n = facts or draw(st.integers(1, d_k - 2))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-2, 1.0, 1e2]))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance, dtype=torch.float64)

    everyday = scale * normal(d_k, 4 * d_k)
    weight = draw(st.sampled_from([0.1, 1.0, 100.0]))
    return Memory(
        normal(d_v, d_k),
        everyday @ everyday.T / everyday.shape[1],
        scale * normal(d_k, n),
        normal(d_v, n),
        weight,
    )


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-6) -> bool:
    """Within what storing factors in float32 costs."""
    scale = float(wanted.abs().max().clamp(min=1e-30))
    return bool(((found.double() - wanted).abs().max() / scale) < tolerance)


def exact(delta: LowRank) -> Tensor:
    return delta.left.double() @ delta.right.double()


@law
@given(memories())
def test_rho_one_is_the_dense_form_of_memit(m: Memory) -> None:
    dense = m.R @ m.K.T @ torch.linalg.inv(m.weight * m.C + m.K @ m.K.T)
    assert close(exact(write(m.K, m.R, Metric.of(m.C).scaled(m.weight), rho=1.0)), dense, 2e-5)


@law
@given(memories(facts=1))
def test_rho_zero_of_one_key_is_rome(m: Memory) -> None:
    u = torch.linalg.inv(m.C) @ m.K
    dense = m.R @ u.T / (m.K.T @ u)
    delta = write(m.K, m.R, Metric.of(m.C), rho=0.0)
    assert delta.rank == 1
    assert close(exact(delta), dense)


@law
@given(memories(facts=1))
def test_memit_of_one_fact_with_vanishing_weight_on_everyday_keys_is_rome(m: Memory) -> None:
    metric = Metric.of(m.C)
    rome = exact(write(m.K, m.R, metric, rho=0.0))
    assert close(exact(write(m.K, m.R, metric.scaled(1e-8), rho=1.0)), rome, 1e-5)


@law
@given(memories())
def test_a_vanishing_weight_writes_everything(m: Memory) -> None:
    after = m.W + exact(write(m.K, m.R, Metric.of(m.C).scaled(1e-9), rho=1.0))
    assert close(after @ m.K, m.V, 1e-3)


@law
@given(memories())
def test_a_growing_weight_writes_less_and_less(m: Memory) -> None:
    metric = Metric.of(m.C)
    sizes = [
        float(
            (exact(write(m.K, m.R, metric.scaled(w), rho=1.0)) @ torch.linalg.cholesky(m.C)).norm()
        )
        for w in (1e-2, 1.0, 1e2, 1e4)
    ]
    assert sizes == sorted(sizes, reverse=True)


@law
@given(memories())
def test_what_is_missing_never_grows(m: Memory) -> None:
    after = m.W + exact(write(m.K, m.R, Metric.of(m.C).scaled(m.weight), rho=1.0))
    assert (m.V - after @ m.K).norm() <= m.R.norm() * (1 + 1e-6)


@law
@given(memories())
def test_no_change_of_equal_effect_is_smaller_under_the_metric(m: Memory) -> None:
    half = torch.linalg.cholesky(m.C)
    delta = exact(write(m.K, m.R, Metric.of(m.C), rho=0.0))
    nothing_at_keys = torch.eye(len(m.K)).double() - m.K @ torch.linalg.pinv(m.K)
    other = delta + 0.1 * delta.norm() * torch.ones_like(delta) @ nothing_at_keys
    assert close(other @ m.K, delta @ m.K, 1e-4)
    assert (delta @ half).norm() <= (other @ half).norm() * (1 + 1e-5)


@law
@given(memories())
def test_woodbury_is_the_inverse(m: Memory) -> None:
    found = Metric.of(m.weight * m.C).with_keys(m.K).inverse
    direct = torch.linalg.inv(m.weight * m.C + m.K @ m.K.T)
    assert close(found, direct, 1e-8)
    assert close(Metric.of(m.C).scaled(m.weight).inverse, torch.linalg.inv(m.weight * m.C), 1e-9)


@law
@given(memories(), st.data())
def test_edits_in_turn_with_their_keys_remembered_are_one_joint_batch(
    m: Memory, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, m.K.shape[1]))
    metric = Metric.of(m.C).scaled(m.weight)
    joint = m.W + exact(write(m.K, m.R, metric, rho=1.0))
    W = m.W
    for part in (slice(0, cut), slice(cut, None)):
        K, V = m.K[:, part], m.V[:, part]
        if K.shape[1]:
            W = W + exact(write(K, V - W @ K, metric, rho=1.0))
            metric = metric.with_keys(K)
    assert close(W, joint, 1e-5)


@law
@given(memories())
def test_the_order_of_edits_in_turn_does_not_matter(m: Memory) -> None:
    found = list[Tensor]()
    for order in (range(m.K.shape[1]), reversed(range(m.K.shape[1]))):
        W, metric = m.W, Metric.of(m.C).scaled(m.weight)
        for i in order:
            K, V = m.K[:, i : i + 1], m.V[:, i : i + 1]
            W = W + exact(write(K, V - W @ K, metric, rho=1.0))
            metric = metric.with_keys(K)
        found.append(W)
    assert close(found[0], found[1], 1e-5)


@law
@given(memories())
def test_leverage_is_the_quadratic_form(m: Memory) -> None:
    wanted = torch.stack([k @ torch.linalg.inv(m.C) @ k for k in m.K.T])
    assert close(Metric.of(m.C).leverage(m.K), wanted, 1e-8)


@law
@given(memories())
def test_no_factored_change_is_wider_than_the_weight(m: Memory) -> None:
    K, R = torch.cat([m.K] * 8, dim=1), torch.cat([m.R] * 8, dim=1)
    delta = write(K, R, Metric.of(m.C).scaled(m.weight), rho=1.0)
    assert delta.rank <= m.W.shape[0] or delta.rank == K.shape[1] <= m.W.shape[0]
    dense = R @ K.T @ torch.linalg.inv(m.weight * m.C + K @ K.T)
    assert close(exact(delta), dense, 1e-4)


def test_over_its_own_keys_the_mean_leverage_is_the_number_of_dimensions() -> None:
    keys = torch.randn(16, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric = Metric.of(keys @ keys.T / 400)
    assert float(metric.leverage(keys).mean()) == pytest.approx(16)


@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(4, 4),
        -torch.eye(4),
        torch.full((4, 4), torch.nan),
        torch.full((4, 4), torch.inf),
        torch.diag(torch.tensor([1.0, 1.0, 1.0, -1.0])),
    ],
    ids=["zero", "negative", "nan", "infinite", "indefinite"],
)
def test_a_system_without_a_solution_is_refused_in_words(matrix: Tensor) -> None:
    with pytest.raises(SingularSystem, match=r"4 x 4 system.*second moment") as raised:
        Metric.of(matrix)
    assert raised.value.fields["size"] == 4


def test_equal_keys_without_damping_are_refused_or_written_not_answered_with_noise() -> None:
    K = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    R = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    delta = write(K, R, Metric.of(torch.eye(3)), rho=0.0)  # jitter makes it solvable
    assert torch.allclose(exact(delta) @ K.double(), R.double(), atol=1e-3)


def test_a_semidefinite_moment_is_mended_by_a_little_jitter() -> None:
    few = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    metric = Metric.of(few @ few.T)
    assert bool(metric.inverse.isfinite().all())
    # Along what was seen, the metric is still what was collected.
    assert torch.allclose(metric.leverage(few), torch.ones(3).double(), atol=1e-3)


def test_a_slight_asymmetry_does_not_matter() -> None:
    A = torch.eye(3, dtype=torch.float64)
    A[0, 1] = 1e-9
    assert torch.allclose(Metric.of(A).inverse, torch.eye(3).double(), atol=1e-8)


def test_the_size_of_a_change_is_taken_under_the_second_moment() -> None:
    chance = torch.Generator().manual_seed(3)
    half = torch.randn(6, 9, generator=chance, dtype=torch.float64)
    C = half @ half.mT
    delta = LowRank(torch.randn(4, 2, generator=chance), torch.randn(2, 6, generator=chance))
    plain = (delta.matrix().double() @ half).norm()
    assert abs(size_under(delta, C) - float(plain)) < 1e-5 * float(plain)
