"""Averages, all-pairs statistics, accuracies and intervals against known answers."""

from __future__ import annotations

import math

import pytest
import torch

from remi_lib import make_loss, same_label_pairs
from remi_lib.evaluation import (
    all_pairs_statistics,
    batch_statistics,
    class_accuracy,
    micro,
    neighbour_accuracy,
    windowed,
)
from remi_lib.losses import dv, nwj, tuba


def batches(n: int = 12):
    """n small batches of one critic, as tables and as their statistics."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(n, 6, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (n, 6), generator=generator)
    scores = same_label_pairs(g, labels)
    return scores, batch_statistics(scores)


@pytest.mark.parametrize("bound", [dv, nwj, tuba])
def test_micro_pools_every_pair(bound):
    scores, seen = batches()
    joint = scores.values[scores.log_joint > -math.inf].mean()
    product = scores.values[scores.log_product.expand_as(scores.values) > -math.inf]
    log_mean = product.exp().mean().log()
    expected = {dv: joint - log_mean, nwj: joint - (log_mean - 1).exp()}
    expected[tuba] = joint - log_mean.exp() + 1
    ours = micro(bound, seen.joint, seen.log_partition, seen.pairs)
    assert ours.item() == pytest.approx(expected[bound].item())


def test_windows_span_macro_to_micro():
    scores, seen = batches()
    macro = dv(scores).mi.mean()
    assert windowed(dv, seen.joint, seen.log_partition, 1).item() == pytest.approx(macro.item())
    whole = micro(dv, seen.joint, seen.log_partition)
    assert windowed(dv, seen.joint, seen.log_partition, 12).item() == pytest.approx(whole.item())
    with pytest.raises(ValueError, match="window: 13"):
        windowed(dv, seen.joint, seen.log_partition, 13)


def test_micro_is_biased_by_drift_and_macro_is_not():
    """Theorem 6 as it is: a constant per batch moves micro, per-batch DV does not see it."""
    scores, seen = batches()
    drift = torch.linspace(-3, 3, 12, dtype=torch.float64)
    shifted = scores.map(scores.values + drift[:, None, None])
    torch.testing.assert_close(dv(shifted).mi, dv(scores).mi)
    moved = micro(dv, seen.joint + drift, seen.log_partition + drift)
    assert abs(moved - micro(dv, seen.joint, seen.log_partition)).item() > 0.1


@pytest.mark.parametrize("block", [1, 4, 100])
def test_all_pairs_in_blocks_equal_the_whole_table(block):
    g = torch.randn(2, 11, 4, dtype=torch.float64)
    labels = torch.arange(11) % 3
    tau = torch.tensor([math.inf, 0.7], dtype=torch.float64)
    ours = all_pairs_statistics(g, labels, tau, block)
    whole = batch_statistics(same_label_pairs(g, labels).clip(tau))
    for name, value in whole._asdict().items():
        torch.testing.assert_close(getattr(ours, name), value, msg=name)


def test_infinite_scores_elsewhere_leave_the_joint_pairs_alone():
    g, labels = torch.tensor([[1e30], [1e30], [1.0]]), torch.tensor([0, 1, 0])
    ours = all_pairs_statistics(g, labels, torch.tensor(math.inf))
    whole = batch_statistics(same_label_pairs(g, labels))
    assert ours.joint.item() == whole.joint.item() == pytest.approx(1e30)
    assert ours.row_term.item() == whole.row_term.item() == math.inf


def test_members_may_have_labels_of_their_own():
    generator = torch.Generator().manual_seed(0)
    queries, bank = (
        torch.randn(2, 5, 3, generator=generator),
        torch.randn(2, 7, 3, generator=generator),
    )
    labels, known = torch.arange(10).view(2, 5) % 3, torch.arange(14).view(2, 7) % 3
    found = neighbour_accuracy(queries, labels, bank, known, block=2)
    for i in range(2):
        assert found[i] == neighbour_accuracy(queries[i], labels[i], bank[i], known[i])


def test_accuracies():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [math.nan, 9.0], [3.0, 0.0]]])
    assert class_accuracy(logits, torch.tensor([0, 1, 1, 1])).item() == 0.5
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.1]])
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    kinds = torch.tensor([0, 1, 2])
    # The largest inner product wins, not the nearest direction.
    assert neighbour_accuracy(queries, torch.tensor([2, 1]), bank, kinds, block=1).item() == 1
    assert neighbour_accuracy(queries, torch.tensor([0, 1]), bank, kinds).item() == 0.5


def test_statistics_determine_every_reading():
    """The readings of a batch and of its stored statistics are the same numbers."""
    scores, seen = batches(1)
    for name, bound in (("mine", dv), ("nwj", nwj), ("tuba", tuba)):
        stored = micro(bound, seen.joint, seen.log_partition)
        assert stored.item() == pytest.approx(make_loss(name)(scores).mi.item())
    infonce = make_loss("infonce")(scores).mi
    assert (seen.joint - seen.row_term).item() == pytest.approx(infonce.item())


def test_all_pairs_without_a_joint_pair_and_in_half_precision():
    tau = torch.tensor(math.inf)
    x, apart, alike = torch.randn(5, 3), torch.arange(5), torch.arange(5) // 2
    for found, table in (
        (all_pairs_statistics(x, apart, tau), same_label_pairs(x, apart)),
        (all_pairs_statistics(x.bfloat16(), alike, tau), same_label_pairs(x.bfloat16(), alike)),
    ):
        for ours, right in zip(found, batch_statistics(table), strict=True):
            torch.testing.assert_close(ours.float(), right.float())


def test_labels_are_one_for_each_row():
    rows = torch.randn(6, 3)
    for labels in (torch.zeros(1, dtype=torch.long), torch.zeros(6, 2, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"^labels: "):
            class_accuracy(rows, labels)
    own = torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match=r"^bank_labels: "):
        neighbour_accuracy(rows, own, rows, own[:4])
    with pytest.raises(ValueError, match=r"^window: 0"):
        windowed(dv, torch.zeros(6), torch.zeros(6), 0)
