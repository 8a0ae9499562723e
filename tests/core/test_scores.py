"""The score table: against naive loops, at the edges, under autograd and vmap."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remi_lib import scores as s
from remi_lib.losses import make_loss
from tests.conftest import refuses


def naive(table: s.Scores) -> dict[str, float]:
    """The three averages of a single table by loops over its cells."""
    t, p, q = (x.double().expand(table.values.shape).numpy() for x in table)
    p, q = np.exp(p), np.exp(q)
    joint = partition = rows = 0.0
    for i in range(t.shape[0]):
        for j in range(t.shape[1]):
            if p[i, j] > 0:
                joint += p[i, j] * t[i, j]
            if q[i, j] > 0:
                partition += q[i, j] * math.exp(t[i, j])
        if p[i].sum() > 0 and q[i].sum() > 0:
            own = sum(q[i, j] * math.exp(t[i, j]) for j in range(t.shape[1]) if q[i, j] > 0)
            rows += p[i].sum() * math.log(own / q[i].sum())
    return {"joint": joint, "log_partition": math.log(partition), "rows": rows}


def check(table: s.Scores, tolerance: float = 1e-5) -> None:
    expected = naive(table)
    assert table.joint_mean().item() == pytest.approx(expected["joint"], abs=tolerance)
    assert table.log_mean_exp().item() == pytest.approx(expected["log_partition"], abs=tolerance)
    assert table.row_log_mean_exp().item() == pytest.approx(expected["rows"], abs=tolerance)


LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def makers(generator: torch.Generator, dtype: torch.dtype) -> dict[str, s.Scores]:
    def normal(*shape: int) -> torch.Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=dtype)

    counts = torch.randint(0, 4, (2, 5, 5), generator=generator)
    counts[:, 0, 0] += 1
    return {
        "independent": s.independent(normal(7), normal(4)),
        "support_counts": s.support_counts(normal(5, 5), counts[0], counts[1]),
        "off_diagonal": s.off_diagonal(normal(6, 6)),
        "all_pairs": s.all_pairs(normal(6, 6)),
        "class_pairs": s.class_pairs(normal(6, 3), LABELS),
        "same_label_pairs": s.same_label_pairs(normal(6, 4), LABELS),
    }


@pytest.mark.parametrize("name", list(makers(torch.Generator(), torch.float32)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_loops(name, dtype):
    table = makers(torch.Generator().manual_seed(3), dtype)[name]
    assert table.values.dtype == dtype
    assert table.joint_mean().dtype == table.log_mean_exp().dtype == dtype
    check(table, 1e-4 if dtype == torch.float32 else 1e-10)


@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_counts_against_loops(seed, rows, columns):
    generator = torch.Generator().manual_seed(seed)
    t = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    joint, product = torch.randint(0, 3, (2, rows, columns), generator=generator)
    joint[0, 0] += 1
    product[-1, -1] += 1
    check(s.support_counts(t, joint, product), 1e-10)


@pytest.mark.parametrize("name", ["mine", "nwj", "js"])
def test_a_cell_without_a_count_has_a_gradient(name):
    counts = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([[0.5, -1.0], [2.0, 0.1]], dtype=torch.float64)
    bound = make_loss(name)(s.support_counts(t, counts, torch.ones_like(counts)))
    (gradient,) = torch.autograd.grad(bound.joint_term, counts)
    # E_P[f] = sum c f / sum c: a count moves it by (f - E_P[f]) / sum c, if there is a cell.
    f = -torch.nn.functional.softplus(-t) if name == "js" else t
    mean = (counts * f).sum() / counts.sum()
    there = counts > 0
    torch.testing.assert_close(gradient[there], ((f - mean) / counts.sum())[there].detach())
    assert gradient.isfinite().all()


def test_which_cells_each_maker_sees():
    off = s.off_diagonal(torch.zeros(3, 3))
    assert (off.log_joint > -math.inf).equal(torch.eye(3, dtype=torch.bool))
    assert (off.log_product > -math.inf).equal(~torch.eye(3, dtype=torch.bool))
    everything = s.all_pairs(torch.zeros(3, 3))
    assert (everything.log_product > -math.inf).all()
    classes = s.class_pairs(torch.zeros(6, 3), LABELS)
    assert (classes.log_joint > -math.inf).int().argmax(-1).equal(LABELS)
    same = s.same_label_pairs(torch.zeros(6, 4), LABELS)
    assert int((same.log_joint > -math.inf).sum()) == 3 * 2 + 2 * 1 + 0
    assert int((same.log_product > -math.inf).sum()) == 6 * 5


@pytest.mark.parametrize("name", list(makers(torch.Generator(), torch.float32)))
def test_leading_dimensions_and_vmap(name):
    tables = [makers(torch.Generator().manual_seed(k), torch.float64)[name] for k in range(4)]
    stacked = s.Scores(*(torch.stack(field) for field in zip(*tables, strict=True)))
    for read in (s.Scores.joint_mean, s.Scores.log_mean_exp, s.Scores.row_log_mean_exp):
        alone = torch.stack([read(table) for table in tables])
        torch.testing.assert_close(read(stacked), alone)
        torch.testing.assert_close(torch.func.vmap(read)(stacked), alone)
        two = s.Scores(*(x.unflatten(0, (2, 2)) for x in stacked))
        torch.testing.assert_close(read(two), alone.view(2, 2))


@pytest.mark.parametrize("size", [500.0, -500.0])
def test_extreme_scores_stay_finite(size):
    t = torch.full((4, 4), size, requires_grad=True)
    table = s.off_diagonal(t)
    assert table.log_mean_exp().item() == pytest.approx(size)
    assert table.row_log_mean_exp().item() == pytest.approx(size)
    (gradient,) = torch.autograd.grad(table.log_mean_exp(), t)
    assert gradient.isfinite().all()
    assert gradient.sum().item() == pytest.approx(1, rel=1e-4)


def test_a_cell_without_mass_cannot_poison():
    """Even an infinite score is harmless where neither measure looks."""
    t = torch.zeros(3, 3)
    t.fill_diagonal_(math.inf)
    t.requires_grad_()
    table = s.off_diagonal(t)
    value = table.log_mean_exp() + table.row_log_mean_exp() * 0
    (gradient,) = torch.autograd.grad(value, t)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_minus_infinite_scores():
    """A critic that is certain: T = -inf off the support is a legal, finite answer."""
    t = torch.full((3, 3), -math.inf)
    t.fill_diagonal_(1.0)
    table = s.all_pairs(t)
    assert table.joint_mean().item() == pytest.approx(1)
    assert table.log_mean_exp().item() == pytest.approx(1 - math.log(3))
    assert s.off_diagonal(t).log_mean_exp().item() == -math.inf


def test_batch_without_a_joint_pair():
    g = torch.randn(4, 3, requires_grad=True)
    table = s.same_label_pairs(g, torch.arange(4))
    assert table.joint_mass().item() == 0
    assert table.joint_mean().item() == 0
    assert table.row_log_mean_exp().item() == 0
    (gradient,) = torch.autograd.grad(table.joint_mean() + table.log_mean_exp(), g)
    assert gradient.isfinite().all()


def test_empty_logsumexp_has_zero_gradient():
    x = torch.tensor([[-math.inf, -math.inf], [0.0, -math.inf]], requires_grad=True)
    total = s.logsumexp(x, -1)
    assert total.tolist() == [-math.inf, 0.0]
    (gradient,) = torch.autograd.grad(total[1] + 0 * total[1], x)
    assert gradient.isfinite().all()


def test_clip_per_member():
    table = s.off_diagonal(torch.tensor([[[0.0, 9.0], [-9.0, 0.0]]] * 2))
    clipped = table.clip(torch.tensor([3.0, math.inf]))
    assert clipped.values[0].abs().max() == 3
    assert clipped.values[1].abs().max() == 9


test_wrong_shapes_are_named = refuses(
    (lambda: s.off_diagonal(torch.zeros(2, 3)), "square"),
    (lambda: s.all_pairs(torch.zeros(1, 1)), "at least 2 x 2"),
    (lambda: s.independent(torch.zeros(0), torch.zeros(3)), "got 0 and 3"),
    (lambda: s.class_pairs(torch.zeros(4, 2), torch.zeros(3)), "do not fit"),
    (lambda: s.same_label_pairs(torch.zeros(4, 2), torch.zeros(3)), "do not fit"),
    (
        lambda: s.support_counts(torch.zeros(2, 2), torch.ones(2, 3), torch.ones(2, 2)),
        "joint_counts",
    ),
)


def test_masks_that_do_not_fit_are_refused():
    t, eye = torch.randn(6, 6), torch.eye(6, dtype=torch.bool)
    for name, bad in (("joint", eye[:5, :5]), ("joint", eye.float()), ("product", eye[:1])):
        masks = {"joint": eye, "product": ~eye} | {name: bad}
        with pytest.raises(ValueError, match=f"{name}: needs booleans"):
            s.marked_pairs(t, **masks)
    assert s.marked_pairs(torch.randn(2, 6, 6), eye, ~eye).values.shape == (2, 6, 6)


def test_a_plain_table_has_no_second_head():
    with pytest.raises(ValueError, match="split_head: no second head"):
        s.split_head(s.off_diagonal(torch.randn(6, 6)))


def test_counts_are_not_negative_and_masks_are_booleans():
    t, counts = torch.zeros(2, 2), torch.ones(2, 2)
    for bad in (torch.tensor([[1.0, math.nan], [1, 1]]), -counts):
        with pytest.raises(ValueError, match=r"^joint_counts: "):
            s.support_counts(t, bad, counts)
        with pytest.raises(ValueError, match=r"^product_counts: "):
            s.support_counts(t, counts, bad)
    for mask in (counts, torch.ones(3, 2, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"^mask: "):
            s.keep(s.all_pairs(t), mask)
