"""The penalty per row is the z-loss, and the paper's plus a variance."""

from __future__ import annotations

import math

import pytest
import torch

from remi_lib import class_pairs, independent, make_loss, same_label_pairs
from remi_lib.losses import title
from remi_lib.scores import all_pairs
from remi_lib.stacking import stack

ROWS, CLASSES, WEIGHT = 7, 5, 0.3


def logits(seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(ROWS, CLASSES, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 0])


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0, 1e4])
def test_at_minus_log_k_it_is_the_z_loss(scale):
    t = logits(scale=scale)
    loss = make_loss("reinfonce_rows", WEIGHT, -math.log(CLASSES))
    z_loss = WEIGHT * t.logsumexp(-1).square().mean()
    cross_entropy = torch.nn.functional.cross_entropy(t, LABELS)
    bound = loss(class_pairs(t, LABELS))
    torch.testing.assert_close(bound.penalty, z_loss)
    torch.testing.assert_close(bound.objective, math.log(CLASSES) - cross_entropy - z_loss)
    ours, theirs = (torch.autograd.grad(x, t)[0] for x in (bound.penalty, z_loss))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("target", [0.0, -math.log(CLASSES), 2.0])
def test_it_is_the_papers_penalty_plus_a_variance(target):
    t = logits()
    per_row, paper = (
        make_loss(name, WEIGHT, target)(class_pairs(t, LABELS))
        for name in ("reinfonce_rows", "reinfonce")
    )
    variance = t.logsumexp(-1).var(correction=0)
    torch.testing.assert_close(per_row.penalty - paper.penalty, WEIGHT * variance)
    torch.testing.assert_close(per_row.mi, paper.mi)


def test_rows_count_by_their_joint_pairs():
    """In a contrastive table a row without a joint pair is not pinned."""
    z, labels = logits(), torch.tensor([0, 0, 0, 1, 1, 2, 3])
    bound = make_loss("reinfonce_rows", WEIGHT)(same_label_pairs(z, labels))
    t = (z @ z.T).masked_fill(torch.eye(ROWS, dtype=torch.bool), -math.inf)
    log_z = t.logsumexp(-1) - math.log(ROWS - 1)
    joint = torch.tensor([2.0, 2, 2, 1, 1, 0, 0])  # ordered pairs of each anchor
    torch.testing.assert_close(bound.penalty, WEIGHT * (joint * log_z.square()).sum() / 8)


def test_one_z_per_table_and_there_is_nothing_to_add():
    """Drawn pairs are one row: the variance is 0 and the loss is ReMINE."""
    joint, product = torch.randn(2, 9).double()
    ours, remine = (
        make_loss(name)(independent(joint, product)) for name in ("reinfonce_rows", "remine")
    )
    torch.testing.assert_close(ours, remine)


def test_empty_weightless_and_extreme_tables():
    none = same_label_pairs(logits(), torch.arange(ROWS))
    assert make_loss("reinfonce_rows")(none).penalty == 0
    t = logits(scale=1e200)
    bound = make_loss("reinfonce_rows", 0.0)(class_pairs(t, LABELS))
    assert bound.penalty == 0  # the variance overflows, and is switched off
    assert torch.autograd.grad(bound.objective, t)[0].isfinite().all()


def test_stacked_as_alone():
    losses = [make_loss("reinfonce_rows", w) for w in (0.0, 1.0)] + [make_loss("infonce_rows")]
    t = torch.randn(3, 6, 6)
    together = stack(losses)(all_pairs(t))
    alone = [loss(all_pairs(x)) for loss, x in zip(losses, t, strict=True)]
    torch.testing.assert_close(list(together), [torch.stack(x) for x in zip(*alone, strict=True)])


def test_its_name():
    assert title("reinfonce_rows") == "ReInfoNCE (rows)"
